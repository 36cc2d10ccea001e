"""The front door: an agent that carries out an instruction and keeps a record of everything.

from hiervla import Agent

agent = Agent.from_preset("tabletop")
result = agent.run("put the red mug on the top shelf", seed=3)
print(result.outcome, result.record)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hiervla.executor.activities import Parts, SkillVerifier
from hiervla.executor.alone import alone, awaited
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.choosing import ReliablePlanner, known_rates, weights_folder, weights_of
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Control, LetItRun
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.policies.base import Policy, make_policy
from hiervla.executor.presets import SeveralArmsError, WorldPreset, arms_presets, world_preset
from hiervla.executor.record.manifest import ForkOf, Manifest, new_run_folder
from hiervla.executor.record.physics_replay import rebuild_recorded_world
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.recorder import NullRecorder, Recorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.result import RunResult
from hiervla.executor.screening import PlanScreen
from hiervla.executor.second_opinion import SecondOpinion
from hiervla.planner.base import Planner, make_planner
from hiervla.planner.given import GivenProgram, persons_program
from hiervla.planner.kinds import check_emit, emitted_kind
from hiervla.planner.names import judge_of_name
from hiervla.representations import Event
from hiervla.skills import SkillLibrary, Termination
from hiervla.skills.programs import Vocabulary, check_program
from hiervla.skills.programs.text import title_of
from hiervla.skills.reliability import Reliability
from hiervla.worlds.base import World

if TYPE_CHECKING:
    from hiervla.executor.replay.corrections import Correction
    from hiervla.worlds.tabletop.scene import SceneSpec

Subscriber = Callable[[Event], None]


class Agent:
    """A planner, policies and skills, ready to run in a world.

    Loading happens once, here; :meth:`run` may be called many times, one run at a time.
    """

    def __init__(
        self,
        preset: WorldPreset,
        planner: Planner,
        policy: Callable[[str], Policy],
        *,
        skills: SkillLibrary | None = None,
        config: LoopConfig | None = None,
        policy_id: str = "custom",
        judge: Termination | None = None,
        fallback: Planner | None = None,
    ) -> None:
        """Put an agent together from parts.

        Args:
            preset: how to build the world of a run.
            planner: turns observation and instruction into plans.
            policy: gives the policy of a name that a skill asks for.
            skills: the library; by default everything installed.
            config: settings of the loop.
            policy_id: what the record calls the policy.
            judge: asked whether a step worked where the skill's own check is in doubt; see :mod:`hiervla.skills.doubt`.
            fallback: plans from there on where the planner gives no answer any more; see ``docs/planners.md``.
        """
        self.preset = preset
        self.planner = planner
        self.fallback = fallback
        self.skills = skills if skills is not None else SkillLibrary.load()
        self.config = config or LoopConfig()
        self.policy_id = policy_id
        self._policy = policy
        self._verifier = SkillVerifier() if judge is None else SecondOpinion(judge)
        self._busy = threading.Lock()

    @classmethod
    def from_preset(
        cls,
        world: str = "tabletop",
        *,
        planner: str = "embedded",
        policy: str = "flow",
        config: LoopConfig | None = None,
        skills: SkillLibrary | None = None,
        reliability: Reliability | None = None,
        judge: str | None = None,
        fallback: str | None = None,
    ) -> Agent:
        """An agent with the parts that hiervla ships, or with your weights.

        Args:
            world: name of a world preset.
            planner: a name that :func:`~hiervla.planner.base.make_planner` takes.
            policy: a policy's name, ``"openpi:ws://host:port"`` for one behind a server, or the folder of a policy
                checkpoint; it acts where a skill asks for ``"flow"``.
            config: settings of the loop.
            skills: the library; by default everything installed.
            reliability: measured rates by which to choose between look-alikes; by default those that came with the
                weights and those of the user's own runs.
            judge: ``"transformers:FOLDER"`` or ``"openai:MODEL@URL"``: a vision-language model that is asked whether a
                step worked where the skill's own check is in doubt.
            fallback: a name like ``planner``: who plans where that one gives no answer any more.

        Raises:
            ReliabilityError: a file of measured rates is damaged.
            UnknownNameError: there is no such preset, planner or policy.
            SeveralArmsError: the world has several arms.
            CheckpointError: weights cannot be read.
        """
        if any(p.name == world for p in arms_presets()):
            raise SeveralArmsError(world)
        preset = world_preset(world)
        policy_for = policies(policy)
        # Unreadable weights should be told of here, and not in the middle of a run.
        policy_for("flow")
        library = skills if skills is not None else SkillLibrary.load()
        rates = reliability if reliability is not None else known_rates(weights_folder(policy))
        weights = weights_of(policy, policy_for)
        plans = ReliablePlanner(make_planner(planner), rates, library, weights)
        other = None if fallback is None else ReliablePlanner(make_planner(fallback), rates, library, weights)
        second = None if judge is None else judge_of_name(judge)
        return cls(
            preset, plans, policy_for, skills=library, config=config, policy_id=policy, judge=second, fallback=other
        )

    def run(
        self,
        instruction: str = "",
        *,
        program: str | None = None,
        seed: int = 0,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        scene: SceneSpec | None = None,
        world: World | None = None,
        cancel: CancelToken | None = None,
        control: Control | None = None,
        emit: str | None = None,
    ) -> RunResult:
        """Carry out an instruction, or a program.

        Args:
            instruction: free text; may be left out with a program.
            program: text of a program (``docs/programs.md``) that takes the place of the planner's plan; its types are
                checked before anything moves.
            seed: of the scene (unless given) and of all sampling; the same seed gives the same run.
            record: a folder in which a new run folder is made; None keeps no record.
            on_event: called with every event as it happens; it cannot steer, and its errors are logged.
            scene: the scene to build the world from, instead of the preset's own for this seed.
            world: a running world or robot to use as it is; it is not closed.
            cancel: asks for a safe stop from another thread. Ctrl-C does the same in the main thread.
            control: looks at every decision and may hold the run or correct it, and is asked back where it answers; see
                :mod:`hiervla.executor.control`.
            emit: the kind of intermediate that the planner shall say its steps as, such as ``"waypoints_2d"``; steps
                whose skill does not take it carry what it does take. See ``docs/intermediates.md``.

        Returns:
            The result; failures of the robot are outcomes, not exceptions.

        Raises:
            ProgramError: the program may not run.
            EmitError: the planner cannot make that kind, or no installed skill takes it.
            HiervlaError: the caller's mistake: an unusable record folder, an agent that is busy already.
        """
        config = self.config
        if emit is not None:
            kind = emitted_kind(emit)
            check_emit(kind, self.planner, self.planner.id, self.skills.signatures())
            config = config.replace(emit=kind)
        if getattr(control, "answers", False):
            config = config.replace(ask=True)
        token = cancel or CancelToken()
        planner = self.planner
        if program is not None:
            check_program("program", program, Vocabulary(self.skills.signatures()), self.config.program)
            planner = GivenProgram(planner, persons_program(program))
            instruction = instruction or title_of(program)
        with alone(self._busy, token):
            return self._run(instruction, planner, seed, record, on_event, scene, world, token, control, config)

    arun = awaited(run)

    def fork(
        self,
        run: RunRecord | Path | str,
        at: str,
        correction: Correction | None = None,
        *,
        attempt: int | None = None,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        world: World | None = None,
        cancel: CancelToken | None = None,
        control: Control | None = None,
    ) -> RunResult:
        """Leave a recorded run before a step and go on from there, live, with another decision.

        The parent's record is only read. The fork's record repeats it up to the step, and says what was corrected.

        Args:
            run: the recorded run, or its folder.
            at: a step by its number in ``hiervla inspect``, by its id, or by the id of an event.
            correction: another :class:`Step` (its arguments or artifacts), another :class:`Plan`, or :class:`Say` with
                words such as "no, the blue one"; None repeats the step anew.
            attempt: which attempt at the step, from 1; the first by default.
            record: a folder in which the fork's record is made; beside the parent's by default.
            on_event: called with every event as it happens, the repeated ones first.
            world: the world to go on in; by default it is rebuilt as the parent's manifest describes it.
            cancel: asks for a safe stop from another thread.
            control: looks at every decision after the fork.

        Raises:
            HiervlaError: no such step, a record that is damaged, or a world that cannot be set to a recorded state.
        """
        from hiervla.executor.replay.fork import LiveParts, check_correction, fork_point, rehearse, run_fork

        parent = run if isinstance(run, RunRecord) else RunRecord.open(run)
        point = fork_point(parent, at, attempt)
        check_correction(parent, point, correction)
        rehearse(parent, point, self.skills)
        token = cancel or CancelToken()
        origin = parent.manifest
        manifest = Manifest.collect(
            origin.instruction,
            world=origin.world,
            seed=origin.seed,
            planner=self.planner.id,
            policy=self.policy_id,
            world_config=origin.world_config,
            config=origin.config,
            parent=ForkOf(run_id=origin.run_id, event=point.started.id, path=str(parent.path)),
        )
        live = LiveParts(
            self.planner, self._policy, self.skills, control or LetItRun(), token, self._verifier, self.fallback
        )
        with alone(self._busy, token), _world_of(parent, world) as place:
            folder = new_run_folder(record or parent.path.resolve().parent, manifest.run_id)
            with RunRecorder.create(folder, manifest) as recorder:
                if on_event is not None:
                    recorder.subscribe(on_event)
                ending, state = run_fork(parent, point, correction, recorder, place, live)
            return RunResult.of(origin.instruction, ending, state, folder, place)

    def resume(
        self,
        run: RunRecord | Path | str,
        *,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        world: World | None = None,
        cancel: CancelToken | None = None,
        control: Control | None = None,
    ) -> RunResult:
        """Go on with a run that broke off; see :meth:`fork`.

        That is from where its planner failed for good, or else from the beginning of its last attempt at a step.

        Raises:
            HiervlaError: the run came to its end, or to no step; or what :meth:`fork` raises.
        """
        from hiervla.executor.replay.fork import place_to_resume

        parent = run if isinstance(run, RunRecord) else RunRecord.open(run)
        at = place_to_resume(parent).id
        return self.fork(parent, at, record=record, on_event=on_event, world=world, cancel=cancel, control=control)

    def _run(
        self,
        instruction: str,
        planner: Planner,
        seed: int,
        record: Path | str | None,
        on_event: Subscriber | None,
        scene: SceneSpec | None,
        world: World | None,
        token: CancelToken,
        control: Control | None,
        settings: LoopConfig,
    ) -> RunResult:
        own = world is None
        if world is None:
            scene = scene or self.preset.scene(seed)
            world = self.preset.build(scene)
        config = {"scene": json.loads(scene.to_json())} if scene is not None else {}
        try:
            manifest = Manifest.collect(
                instruction,
                world=self.preset.name,
                seed=seed,
                planner=planner.id,
                policy=self.policy_id,
                world_config=config,
                config=json.loads(settings.to_json()),
            )
            recorder: Recorder = NullRecorder()
            if record is not None:
                recorder = RunRecorder.create(new_run_folder(record, manifest.run_id), manifest)
            if on_event is not None:
                recorder.subscribe(on_event)
            with recorder:
                return self._record(manifest, planner, world, recorder, token, control, settings)
        finally:
            if own:
                world.close()

    def _record(
        self,
        manifest: Manifest,
        planner: Planner,
        world: World,
        recorder: Recorder,
        token: CancelToken,
        control: Control | None,
        settings: LoopConfig,
    ) -> RunResult:
        body = Body(world, recorder, settings, token, seed=manifest.seed)
        screen = PlanScreen(planner, body.reaches)
        parts = Parts(
            planner=planner,
            policy_for=self._policy,
            body=body,
            recorder=recorder,
            verifier=self._verifier,
            screen=screen,
            fallback=self.fallback,
        )
        if control is not None:
            parts.control = control
        # Where replay begins; a world that was built anew may differ in another version.
        begin(manifest, parts)
        loop = Orchestrator(parts, skills=self.skills, config=settings, seed=manifest.seed)
        ending = loop.run(manifest.instruction)
        return RunResult.of(manifest.instruction, ending, loop.state, recorder.path, world)


def policies(policy: str) -> Callable[[str], Policy]:
    """What gives the policy of a name that a skill asks for; each is loaded once, when first asked for.

    Args:
        policy: name of a policy, or the folder of a checkpoint, that takes the place of the default ``"flow"``.
    """
    loaded: dict[str, Policy] = {}
    folder = Path(policy)

    def policy_for(name: str) -> Policy:
        if name not in loaded:
            if name == "flow":
                loaded[name] = make_policy("flow", path=folder) if folder.is_dir() else make_policy(policy)
            else:
                loaded[name] = make_policy(name)
        return loaded[name]

    return policy_for


@contextmanager
def _world_of(record: RunRecord, given: World | None) -> Iterator[World]:
    """The given world, or the one that a manifest describes; what is built here is closed here."""
    if given is not None:
        yield given
        return
    world = rebuild_recorded_world(record)
    try:
        yield world
    finally:
        world.close()
