"""Hand-off tests: a skill from clean states, and from where the skill before it really left the world.

Skills that succeed from clean snapshots fail when they are chained, because each is left in states that the next has
never seen (arXiv 2607.06256). Here the first skill runs as it does in a task: learned policy, transit, checks and the
way home of the agent's own loop. Where the loop goes on to the second one, it is tried there; and it is tried in the
same scene as the first should have left it (:func:`hiervla.training.seams.ideal_after`). Points come from ground
truth, with the error of a good pointer, so that what differs is the skills' doing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import numpy as np

from hiervla.executor.activities import Parts
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator
from hiervla.executor.policies.base import Policy, make_policy
from hiervla.executor.record.recorder import NullRecorder
from hiervla.planner.base import PlannerContext, RejectedAttempt, StepRecord
from hiervla.representations import HiervlaError, Observation, Plan, Refusal, Step
from hiervla.skills import Belief, SkillLibrary
from hiervla.training.arena import Arena
from hiervla.training.episodes import verdict
from hiervla.training.experts.state import State, Task
from hiervla.training.rates import difference, rate
from hiervla.training.seams import Seam, first_task, ideal_after, seam_scene, second_task, situation
from hiervla.training.skill_trials import as_trial_task
from hiervla.training.states import SavedState
from hiervla.worlds.tabletop.specs import SceneSpec

_SCENES = 12
"""How many scenes of one seed are drawn before it is given up."""


@dataclass(frozen=True)
class Tried:
    """One attempt at the second skill.

    Attributes:
        said: the loop's outcome.
        wrong: what is wrong by ground truth; empty when nothing is.
    """

    said: str
    wrong: str


@dataclass(frozen=True)
class HandoffTrial:
    """One scene of one seam.

    Attributes:
        seam: which skills.
        seed: of the scene.
        first: the loop's outcome of the first skill.
        slipped: what is wrong with the first by ground truth although the loop went on; empty when nothing is.
        first_about: kind and place that the first is about.
        about: the same of the second.
        chained: the second after the first; None where the loop did not go on.
        clean: the second from the ideal state; None where the ideal state has nothing to do for it.
        state: where the second began, kept when it failed there.
    """

    seam: Seam
    seed: int
    first: str
    slipped: str
    first_about: dict[str, Any]
    about: dict[str, Any]
    chained: Tried | None
    clean: Tried | None
    state: SavedState | None = None


@dataclass
class HandoffReport:
    """What came of one seam.

    Attributes:
        seam: which skills.
        trials: scenes.
        stopped: scenes in which the loop did not go on, by the first skill's outcome.
        chained: successes and attempts of the second skill after the first.
        clean: the same from clean states.
        slipped: times that the loop went on although the first had failed by ground truth.
        mistaken: times that the loop's word on the second was wrong, either way, in both arms together.
        failures: what went wrong in the chain, with seeds.
        states: where it failed, to train on.
        tried: every attempt by (skill, kind, where) and whether it worked: the first skill's, and the second's in
            both arms.
    """

    seam: Seam
    trials: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    chained: tuple[int, int] = (0, 0)
    clean: tuple[int, int] = (0, 0)
    slipped: int = 0
    mistaken: int = 0
    failures: dict[str, list[int]] = field(default_factory=dict)
    states: list[SavedState] = field(default_factory=list)
    tried: list[tuple[tuple[str, str, str], bool]] = field(default_factory=list)

    def add(self, trial: HandoffTrial) -> None:
        """Count one trial."""
        self.trials += 1
        if trial.chained is None:
            self.stopped[trial.first] += 1
        else:
            wrong = trial.chained.wrong
            self.chained = (self.chained[0] + (not wrong), self.chained[1] + 1)
            if wrong:
                self.failures.setdefault(f"{wrong} ({trial.chained.said})", []).append(trial.seed)
        if trial.clean is not None:
            self.clean = (self.clean[0] + (not trial.clean.wrong), self.clean[1] + 1)
        self.slipped += bool(trial.slipped)
        outcomes = [(self.seam.first, trial.first_about, trial.first == "succeeded" and not trial.slipped)]
        outcomes += [
            (self.seam.second, trial.about, not t.wrong) for t in (trial.chained, trial.clean) if t is not None
        ]
        self.tried += [((skill, a["kind"], a["where"]), ok) for skill, a, ok in outcomes if a]
        tried = [t for t in (trial.chained, trial.clean) if t is not None]
        self.mistaken += sum((t.said == "succeeded") != (not t.wrong) for t in tried)
        if trial.state is not None:
            self.states.append(trial.state)

    @property
    def gap(self) -> float:
        """Clean minus chained success; 0 without trials of either."""
        (a, n), (b, m) = self.clean, self.chained
        return a / n - b / m if n and m else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        low, high = difference(self.clean, self.chained)
        return {
            "first": self.seam.first,
            "second": self.seam.second,
            "trials": self.trials,
            "chained": list(self.chained),
            "clean": list(self.clean),
            "gap": self.gap,
            "gap_interval": [low, high],
            "stopped": dict(self.stopped),
            "slipped": self.slipped,
            "mistaken": self.mistaken,
            "failures": self.failures,
        }

    def __str__(self) -> str:
        """One line, and one more for each way of failing."""
        low, high = difference(self.clean, self.chained)
        head = f"{self.seam!s:28}clean {rate(*self.clean):32} chained {rate(*self.chained):32}"
        head += f" gap {self.gap:+.3f} [{low:+.2f}, {high:+.2f}]"
        if self.stopped:
            head += "; not reached: " + ", ".join(f"{n} {how}" for how, n in self.stopped.most_common())
        if self.slipped:
            head += f"; gone on without cause: {self.slipped}"
        return "\n".join([head, *(f"  {how}: seeds {', '.join(map(str, s))}" for how, s in self.failures.items())])


def handoff(
    seam: Seam,
    trials: int,
    first_seed: int = 0,
    *,
    policy: str = "flow",
    workers: int = 1,
    on_trial: Callable[[HandoffTrial], None] | None = None,
) -> HandoffReport:
    """Run the hand-off test of one seam.

    Args:
        seam: which skills.
        trials: number of scenes.
        first_seed: of the scenes; the same seed gives the same scene.
        policy: what runs the skills: a name, or a folder of weights.
        workers: processes.
        on_trial: called after each scene.

    Raises:
        HandoffError: in none of a seed's scenes could both be tried.
    """
    report = HandoffReport(seam)
    for trial in _trials(seam, range(first_seed, first_seed + trials), policy, workers):
        report.add(trial)
        if on_trial is not None:
            on_trial(trial)
    return report


def _trials(seam: Seam, seeds: Sequence[int], policy: str, workers: int) -> Iterator[HandoffTrial]:
    if workers <= 1:
        for seed in seeds:
            yield try_handoff(seam, seed, policy)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(try_handoff, [seam] * len(seeds), seeds, [policy] * len(seeds))


class HandoffError(HiervlaError, ValueError):
    """A seam that cannot be tried."""

    def __init__(self, seam: Seam, seed: int) -> None:
        super().__init__(
            f"hand-off {seam}: nothing could be done in {_SCENES} scenes of seed {seed}. Try another seed."
        )
        self.seam = seam
        self.seed = seed


def try_handoff(seam: Seam, seed: int, policy: str = "flow") -> HandoffTrial:
    """One scene: the chain, then the second skill alone from the ideal state.

    Raises:
        HandoffError: in none of the seed's scenes could both be tried.
    """
    library, policy_for = _parts(policy)
    for again in range(_SCENES):
        scene_seed = 30_000_000 + 2_000 * seed + 2 * again + 1
        rng = np.random.default_rng([0x4A2D, scene_seed])
        scene = seam_scene(seam, scene_seed, rng)
        with Arena(scene) as arena:
            task = first_task(seam, arena, rng)
            if task is None:
                continue
            first_about = situation(arena, task)
            chain = _Chain(library, seam, arena, task, scene_seed)
            outcome = _run(library, chain, arena, chain.belief, policy_for, seed)
            chained = None if len(outcome) < 2 else _tried(arena, chain, outcome[1])
            if chain.task is None and outcome and outcome[0].outcome == "succeeded" and not chain.slipped:
                continue
        clean = _clean(library, seam, ideal_after(scene, task), chain.task, scene_seed, policy_for, seed)
        if chained is None and clean is None:
            continue
        first = outcome[0].outcome if outcome else "not_found"
        state = chain.state if chained is not None and chained.wrong else None
        return HandoffTrial(seam, seed, first, chain.slipped, first_about, chain.about, chained, clean, state)
    raise HandoffError(seam, seed)


def single(
    scene: SceneSpec, task: Callable[[Arena, np.random.Generator], Task | None], seed: int, policy: str = "flow"
) -> Tried | None:
    """One skill from a scene as it is, through the agent's loop; None where the task cannot be pointed at.

    Args:
        scene: where.
        task: what is to be done in it.
        seed: of pointing and policy.
        policy: what runs the skills: a name, or a folder of weights.
    """
    library, policy_for = _parts(policy)
    with Arena(scene) as arena:
        found = task(arena, np.random.default_rng([0x51, seed]))
        if found is None:
            return None
        chain = _Chain(library, None, arena, found, seed, alone=True)
        outcome = _run(library, chain, arena, chain.belief, policy_for, seed)
        return _tried(arena, chain, outcome[0]) if outcome else None


@lru_cache(maxsize=2)
def _parts(policy: str) -> tuple[SkillLibrary, Callable[[str], Policy]]:
    """Loaded once in each process."""
    import torch  # noqa: I001  # heavy, and only where policies run

    from hiervla.executor.agent import policies

    torch.set_num_threads(1)
    library = SkillLibrary.load()
    policy_for = policies(policy) if policy != "flow" else lru_cache(maxsize=None)(make_policy)
    return library, policy_for


def _clean(
    library: SkillLibrary,
    seam: Seam,
    scene: SceneSpec,
    like: Task | None,
    scene_seed: int,
    policy_for: Callable[[str], Policy],
    seed: int,
) -> Tried | None:
    with Arena(scene) as arena:
        found = second_task(seam, arena, _second_rng(scene_seed), like)
        if found is None:
            return None
        begin = as_trial_task(library.get(seam.second), arena, found)
        single = _Chain(library, seam, arena, found, scene_seed, alone=True)
        outcome = _run(library, single, arena, begin.belief, policy_for, seed)
        return _tried(arena, single, outcome[0]) if outcome else None


def _second_rng(scene_seed: int) -> np.random.Generator:
    return np.random.default_rng([0xB, scene_seed])


def _run(
    library: SkillLibrary,
    chain: _Chain,
    arena: Arena,
    belief: Belief,
    policy_for: Callable[[str], Policy],
    seed: int,
) -> list[StepRecord]:
    config, recorder = LoopConfig(max_retries=0), NullRecorder()
    body = Body(arena.world, recorder, config, CancelToken(), seed=seed)
    parts = Parts(planner=chain, policy_for=policy_for, body=body, recorder=recorder)
    loop = Orchestrator(parts, skills=library, config=config, seed=seed)
    loop.state.belief = belief
    loop.run(str(chain.seam or "one step"))
    return loop.state.history


def _tried(arena: Arena, chain: _Chain, record: StepRecord) -> Tried:
    assert chain.before is not None and chain.task is not None, "the second step was pointed at before it was tried"
    arena.rest()
    arena.run(0.3)
    return Tried(record.outcome, verdict(arena, chain.before, chain.task))


class _Chain:
    """A planner whose plan is the seam, pointed at from ground truth when a step's turn comes.

    Attributes:
        task: what the second skill is to do, once known.
        before: the true state at that moment.
        slipped: what was wrong with the first then.
        about: kind and place of the second.
        state: the moment itself.
    """

    id = "ground-truth"

    def __init__(
        self,
        library: SkillLibrary,
        seam: Seam | None,
        arena: Arena,
        task: Task,
        scene_seed: int,
        *,
        alone: bool = False,
    ) -> None:
        """Begin with the first skill's task, or with the second's alone."""
        self.seam = seam
        self.task: Task | None = None
        self.before: State | None = None
        self.slipped = ""
        self.about: dict[str, Any] = {}
        self.state: SavedState | None = None
        self.rejected: tuple[RejectedAttempt, ...] = ()
        self._library = library
        self._arena = arena
        self._scene_seed = scene_seed
        self._opening = arena.state()
        self._task = task
        self._asked = False
        begin = as_trial_task(library.get(task.skill), arena, task)
        self.belief = begin.belief
        first = begin.step.replace(id="s1")
        self._steps: tuple[Step, ...] = (first,)
        if seam is not None and not alone:
            self._steps = (first, Step(id="s2", skill=seam.second))
        if alone:
            self.task, self.before = task, self._opening
            self.about = situation(arena, task)

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The chain, once; after that there is no other way."""
        if self._asked:
            return Refusal(reason="cannot_do", message="the second skill finds nothing to do")
        self._asked = True
        return Plan(goal=instruction, steps=self._steps, remaining=tuple(s.id for s in self._steps))

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The second step, pointed at in the world as the first left it."""
        arena = self._arena
        assert self.seam is not None, "a step alone is followed by nothing"
        self.slipped = verdict(arena, self._opening, self._task)
        found = second_task(self.seam, arena, _second_rng(self._scene_seed))
        if found is None:
            return None
        self.task, self.before = found, arena.state()
        self.about = situation(arena, found)
        self.state = SavedState.of(arena, found, str(self.seam))
        step = as_trial_task(self._library.get(found.skill), arena, found).step.replace(id="s2")
        return plan.replace(steps=(plan.steps[0], step))

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step as it is: its keypoint is in metres."""
        return step


__all__ = ["HandoffError", "HandoffReport", "HandoffTrial", "Tried", "handoff", "try_handoff"]
