"""The front door: an agent that carries out an instruction and keeps a record of everything.

from hiervla import Agent

agent = Agent.from_preset("tabletop")
result = agent.run("put the red mug on the top shelf", seed=3)
print(result.outcome, result.record)
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from hiervla.executor.activities import Parts
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Control
from hiervla.executor.loop import Orchestrator, begin
from hiervla.executor.policies.base import Policy, make_policy
from hiervla.executor.presets import WorldPreset, world_preset
from hiervla.executor.record.manifest import Manifest, new_run_folder
from hiervla.executor.record.recorder import NullRecorder, Recorder
from hiervla.executor.record.writer import RunRecorder
from hiervla.planner.base import Planner, StepRecord, make_planner
from hiervla.representations import Event, Plan
from hiervla.representations.plans import RunOutcome
from hiervla.skills import SkillLibrary
from hiervla.worlds.base import World

if TYPE_CHECKING:
    from hiervla.worlds.tabletop.scene import SceneSpec

Subscriber = Callable[[Event], None]


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        instruction: what was asked.
        outcome: typed outcome; ``succeeded`` is the agent's own judgement from observations.
        message: one sentence for a person.
        plan: the last plan, None when the planner refused.
        steps: every attempt at a step, in order, with its outcome.
        record: folder of the run record, None when none was asked for.
        duration_s: length of the run on the world's clock [s].
    """

    instruction: str
    outcome: RunOutcome
    message: str
    plan: Plan | None
    steps: tuple[StepRecord, ...]
    record: Path | None
    duration_s: float

    @property
    def succeeded(self) -> bool:
        """Did the agent judge that the goal is reached?"""
        return self.outcome == "succeeded"


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
    ) -> None:
        """Put an agent together from parts.

        Args:
            preset: how to build the world of a run.
            planner: turns observation and instruction into plans.
            policy: gives the policy of a name that a skill asks for.
            skills: the library; by default everything installed.
            config: settings of the loop.
            policy_id: what the record calls the policy.
        """
        self.preset = preset
        self.planner = planner
        self.skills = skills if skills is not None else SkillLibrary.load()
        self.config = config or LoopConfig()
        self.policy_id = policy_id
        self._policy = policy
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
    ) -> Agent:
        """An agent with the parts that hiervla ships, or with your weights.

        Args:
            world: name of a world preset.
            planner: ``"embedded"``, or the folder of a planner checkpoint.
            policy: ``"flow"``, or the folder of a policy checkpoint.
            config: settings of the loop.
            skills: the library; by default everything installed.

        Raises:
            UnknownNameError: there is no such preset, planner or policy.
            CheckpointError: weights cannot be read.
        """
        preset = world_preset(world)
        loaded: dict[str, Policy] = {}
        folder = Path(policy)

        def policy_for(name: str) -> Policy:
            if name not in loaded:
                own = folder.is_dir() and name == "flow"
                loaded[name] = make_policy("flow", path=folder) if own else make_policy(name)
            return loaded[name]

        if not folder.is_dir():
            policy_for(policy)
        else:
            policy_for("flow")
        return cls(preset, make_planner(planner), policy_for, skills=skills, config=config, policy_id=policy)

    def run(
        self,
        instruction: str,
        *,
        seed: int = 0,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        scene: SceneSpec | None = None,
        world: World | None = None,
        cancel: CancelToken | None = None,
        control: Control | None = None,
    ) -> RunResult:
        """Carry out an instruction.

        Args:
            instruction: free text.
            seed: of the scene (unless given) and of all sampling; the same seed gives the same run.
            record: a folder in which a new run folder is made; None keeps no record.
            on_event: called with every event as it happens; it cannot steer, and its errors are logged.
            scene: the scene to build the world from, instead of the preset's own for this seed.
            world: a running world or robot to use as it is; it is not closed.
            cancel: asks for a safe stop from another thread. Ctrl-C does the same in the main thread.
            control: looks at every decision and may hold the run or correct it; see :mod:`hiervla.executor.control`.

        Returns:
            The result; failures of the robot are outcomes, not exceptions.

        Raises:
            HiervlaError: the caller's mistake: an unusable record folder, an agent that is busy already.
        """
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this agent is running already. Wait for it, or make a second agent")
        token = cancel or CancelToken()
        try:
            with _cancel_on_interrupt(token):
                return self._run(instruction, seed, record, on_event, scene, world, token, control)
        finally:
            self._busy.release()

    async def arun(
        self,
        instruction: str,
        *,
        seed: int = 0,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        scene: SceneSpec | None = None,
        world: World | None = None,
        control: Control | None = None,
    ) -> RunResult:
        """Like :meth:`run`, in a thread; cancelling the task stops the arm safely and closes the record."""
        token = CancelToken()
        work = asyncio.create_task(
            asyncio.to_thread(
                self.run,
                instruction,
                seed=seed,
                record=record,
                on_event=on_event,
                scene=scene,
                world=world,
                cancel=token,
                control=control,
            )
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            token.cancel()
            await work
            raise

    def _run(
        self,
        instruction: str,
        seed: int,
        record: Path | str | None,
        on_event: Subscriber | None,
        scene: SceneSpec | None,
        world: World | None,
        token: CancelToken,
        control: Control | None,
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
                planner=self.planner.id,
                policy=self.policy_id,
                world_config=config,
                config=json.loads(self.config.to_json()),
            )
            recorder: Recorder = NullRecorder()
            if record is not None:
                recorder = RunRecorder.create(new_run_folder(record, manifest.run_id), manifest)
            if on_event is not None:
                recorder.subscribe(on_event)
            with recorder:
                return self._record(manifest, world, recorder, token, control)
        finally:
            if own:
                world.close()

    def _record(
        self,
        manifest: Manifest,
        world: World,
        recorder: Recorder,
        token: CancelToken,
        control: Control | None,
    ) -> RunResult:
        body = Body(world, recorder, self.config, token, seed=manifest.seed)
        parts = Parts(planner=self.planner, policy_for=self._policy, body=body, recorder=recorder)
        if control is not None:
            parts.control = control
        # Where replay begins; a world that was built anew may differ in another version.
        begin(manifest, parts)
        loop = Orchestrator(parts, skills=self.skills, config=self.config, seed=manifest.seed)
        ending = loop.run(manifest.instruction)
        return RunResult(
            instruction=manifest.instruction,
            outcome=ending.outcome,
            message=ending.message,
            plan=loop.state.plan,
            steps=tuple(loop.state.history),
            record=recorder.path,
            duration_s=world.time_s,
        )


@contextmanager
def _cancel_on_interrupt(token: CancelToken) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def handler(number: int, frame: FrameType | None) -> None:
        token.cancel()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
