"""The front door for worlds with several arms.

from hiervla import ArmsAgent

agent = ArmsAgent.from_preset("tabletop-duo")
result = agent.run("clear the table", seed=3)
print(result.outcome, result.duration_s, {arm: r.outcome for arm, r in result.arms.items()})
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hiervla.executor.activities import SkillVerifier
from hiervla.executor.agent import Subscriber, policies
from hiervla.executor.alone import alone, awaited
from hiervla.executor.arms.run import ArmParts, ArmsRun, Asked
from hiervla.executor.body import CancelToken
from hiervla.executor.choosing import ReliablePlanner, known_rates, weights_folder, weights_of
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Control, LetItRun
from hiervla.executor.policies.base import Policy
from hiervla.executor.presets import ArmsPreset, arms_preset
from hiervla.executor.record.manifest import Manifest, new_run_folder
from hiervla.executor.result import RunResult
from hiervla.executor.second_opinion import SecondOpinion
from hiervla.planner.base import Planner, make_planner
from hiervla.planner.names import judge_of_name
from hiervla.representations import Event, Plan
from hiervla.skills import SkillLibrary, Termination
from hiervla.worlds.base import ArmsWorld
from hiervla.worlds.tabletop_duo.scene import DuoScene

Mind = tuple[Planner, Callable[[str], Policy]]
"""What one arm thinks with: a planner, and what gives the policy of a name. Both keep state: each arm has its own."""


class ArmsAgent:
    """Plans for several arms and runs them at the same time; loaded once, :meth:`run` may be called many times."""

    def __init__(
        self,
        preset: ArmsPreset,
        mind: Callable[[str], Mind],
        *,
        skills: SkillLibrary | None = None,
        config: LoopConfig | None = None,
        policy_id: str = "custom",
        judge: Termination | None = None,
    ) -> None:
        """Put an agent together from parts.

        Args:
            preset: how to build the world of a run.
            mind: gives planner and policies of an arm; asked once for each arm, at its first run.
            skills: the library; by default everything installed.
            config: settings of each arm's loop.
            policy_id: what the record calls the policy.
            judge: asked by every arm whether a step worked where the skill's own check is in doubt; one at a time.
        """
        self.preset = preset
        self.skills = skills if skills is not None else SkillLibrary.load()
        self.config = config or LoopConfig()
        self.policy_id = policy_id
        self._mind = mind
        self._verifier = SkillVerifier() if judge is None else SecondOpinion(judge)
        self._minds: dict[str, Mind] = {}
        self._busy = threading.Lock()

    @classmethod
    def from_preset(
        cls,
        world: str = "tabletop-duo",
        *,
        planner: str = "embedded",
        policy: str = "flow",
        config: LoopConfig | None = None,
        skills: SkillLibrary | None = None,
        judge: str | None = None,
    ) -> ArmsAgent:
        """An agent with the parts that hiervla ships, or with your weights; see ``Agent.from_preset``.

        Raises:
            UnknownNameError: there is no such preset, planner or policy.
            CheckpointError: weights cannot be read.
        """
        library = skills if skills is not None else SkillLibrary.load()

        def mind(arm: str) -> Mind:
            policy_for = policies(policy)
            policy_for("flow")
            rates, weights = known_rates(weights_folder(policy)), weights_of(policy, policy_for)
            return ReliablePlanner(make_planner(planner), rates, library, weights), policy_for

        second = None if judge is None else judge_of_name(judge)
        return cls(arms_preset(world), mind, skills=library, config=config, policy_id=policy, judge=second)

    def run(
        self,
        instruction: str = "",
        *,
        plan: Plan | None = None,
        seed: int = 0,
        record: Path | str | None = None,
        on_event: Subscriber | None = None,
        on_arm: Callable[[str, Event], object] | None = None,
        scene: DuoScene | None = None,
        world: ArmsWorld | None = None,
        cancel: CancelToken | None = None,
        control: Control | None = None,
        one_by_one: bool = False,
    ) -> RunResult:
        """Carry out an instruction, or a plan, with all arms.

        Args:
            instruction: free text; may be left out with a plan.
            plan: takes the place of the planners' plan: its steps may say their arm (else they go where they are within
                reach) and need not point, since each arm's planner looks for what they name; a step that depends on
                another arm's waits for it.
            seed: of the scene (unless given) and of all sampling; the same seed gives the same run.
            record: a folder in which a new run folder is made: the whole run's record, with one for each arm in it.
            on_event: called with every event of the whole run's record, as it happens.
            on_arm: called with an arm's name and every event of its part.
            scene: the scene to build the world from, instead of the preset's own for this seed.
            world: a running world to use as it is; it is not closed.
            cancel: asks for a safe stop of all arms from another thread. Ctrl-C does the same in the main thread.
            control: looks at every decision of every arm; see :mod:`hiervla.executor.control`.
            one_by_one: let only one arm at a time carry out a step, for comparison.

        Returns:
            The result, with each arm's own in ``arms``; failures of the robot are outcomes, not exceptions.

        Raises:
            PlanError: the given plan names an arm that does not exist, or has a step that no arm can do.
            HiervlaError: the caller's mistake: an unusable record folder, an agent that is busy already.
        """
        token = cancel or CancelToken()
        with alone(self._busy, token), ExitStack() as stack:
            if world is None:
                scene = scene or self.preset.scene(seed)
                world = self.preset.build(scene)
                stack.callback(world.close)
            minds = {arm: self._mind_of(arm) for arm in world.arms}
            manifest = self._manifest(instruction or (plan.goal if plan else ""), seed, world, scene, minds)
            folder = None if record is None else new_run_folder(record, manifest.run_id)
            parts = {arm: ArmParts(*mind) for arm, mind in minds.items()}
            run = ArmsRun(
                world, parts, self.skills, self.config, manifest, token, control or LetItRun(), self._verifier
            )
            asked = Asked(manifest.instruction, plan, one_by_one)
            return run.carry_out(asked, folder, on_event=on_event, on_arm=on_arm)

    arun = awaited(run)

    def _mind_of(self, arm: str) -> Mind:
        if arm not in self._minds:
            self._minds[arm] = self._mind(arm)
        return self._minds[arm]

    def _manifest(
        self, instruction: str, seed: int, world: ArmsWorld, scene: DuoScene | None, minds: dict[str, Mind]
    ) -> Manifest:
        bases = {arm: world.T_root_base(arm).tolist() for arm in world.arms}
        told = {} if scene is None else {"scene": json.loads(scene.to_json())}
        return Manifest.collect(
            instruction,
            world=self.preset.name,
            seed=seed,
            planner=next(iter(minds.values()))[0].id,
            policy=self.policy_id,
            world_config={"arms": list(world.arms), "bases": bases, **told},
            config=json.loads(self.config.to_json()),
        )
