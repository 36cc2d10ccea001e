"""Trials of any skill in the tabletop world: one step from a clean reset, through the agent's own loop.

The built-in skills have scenes and a success check by ground truth (:mod:`hiervla.training.trials`). A package can
bring those for its own skill, as an entry point of the group ``hiervla.trials`` with the skill's name that names a
:class:`Trial`. Without one, a scene with a thing for each parameter is drawn, and the skill's own `done` is the judge.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from hiervla.executor.activities import Parts
from hiervla.executor.body import Body, CancelToken
from hiervla.executor.config import LoopConfig
from hiervla.executor.loop import Orchestrator
from hiervla.executor.policies.base import SKILLS, Policy, make_policy
from hiervla.executor.record.recorder import NullRecorder
from hiervla.planner.base import PlannerContext, RejectedAttempt
from hiervla.representations import HiervlaError, ImageRef, Keypoint, Keypoints, Observation, Plan, Refusal, Step
from hiervla.skills import Belief, Skill, SkillLibrary
from hiervla.skills.registry import Origin
from hiervla.skills.samples import sample_argument
from hiervla.skills.saved import ProgramSkill
from hiervla.training.arena import Arena, as_step
from hiervla.training.episodes import verdict
from hiervla.training.experts.state import State, Task
from hiervla.training.experts.tasks import surface_point
from hiervla.training.rates import rate
from hiervla.training.trials import trial_scene, trial_task
from hiervla.worlds.tabletop.sampling import Request, sample_scene
from hiervla.worlds.tabletop.specs import CATEGORIES, SceneSpec

ENTRY_POINT_GROUP = "hiervla.trials"

log = logging.getLogger(__name__)
_FURNITURE = ("drawer", "bin", "top_shelf", "bottom_shelf", "table")
_SCENES = 8
"""How many scenes of one seed are drawn before it is given up."""


class TrialError(HiervlaError, ValueError):
    """A skill for which no trial can be set up."""

    def __init__(self, skill: str, problem: str) -> None:
        super().__init__(
            f"skill '{skill}' cannot be tried in the tabletop world: {problem}. "
            f"Offer a Trial of your own as an entry point '{skill}' of the group {ENTRY_POINT_GROUP}."
        )
        self.skill = skill
        self.problem = problem


@dataclass(frozen=True)
class TrialTask:
    """What to do in one scene.

    Attributes:
        step: arguments, and a keypoint in metres.
        belief: what the executor believes at the start.
        about: whatever the judge needs to know of it, such as the ids of things.
    """

    step: Step
    belief: Belief
    about: Any = None


@dataclass(frozen=True)
class Trial:
    """How a skill is tried.

    Attributes:
        scene: draws a scene.
        task: what to do in it; None where nothing can be done, then another scene is drawn.
        judge: what is wrong with the outcome by ground truth, given the state before; empty when nothing is. None
            leaves the judgement to the skill's own `done`.
    """

    scene: Callable[[int, np.random.Generator], SceneSpec]
    task: Callable[[Arena, np.random.Generator], TrialTask | None]
    judge: Callable[[Arena, State, TrialTask], str] | None = None


@dataclass
class TrialReport:
    """What came of the trials of one skill.

    Attributes:
        skill: its name.
        trials: how many were run.
        successes: by ground truth, or by the skill's own judgement where there is no privileged check.
        privileged: whether ground truth was the judge.
        mistaken: trials in which the loop said "succeeded" and ground truth says otherwise, or the other way round.
        failures: how often each thing went wrong, with a seed.
        robot_s: mean length of a trial on the world's clock [s].
    """

    skill: str
    trials: int
    successes: int
    privileged: bool
    mistaken: int
    failures: dict[str, str]
    robot_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self)

    def __str__(self) -> str:
        """One line, and one more for each way of failing."""
        judge = "by ground truth" if self.privileged else "by its own `done`, there is no privileged check"
        wrong = f", misjudged {self.mistaken} times" if self.mistaken else ""
        head = f"{self.skill:14}{rate(self.successes, self.trials)} {judge}{wrong}; {self.robot_s:.1f} s each"
        return "\n".join([head, *(f"  {how}: {where}" for how, where in self.failures.items())])


def trial_of(skill: Skill) -> Trial:
    """The trial that a package brings for a skill, the built-in one, or one made from its signature.

    Raises:
        TrialError: it is a saved program, two packages offer one, the package's is broken or none, or the world has no
            thing for a parameter.
    """
    if isinstance(skill, ProgramSkill):
        raise TrialError(skill.name, "it is a program and no single step; `hiervla skills check` rehearses it")
    points = sorted(entry_points(group=ENTRY_POINT_GROUP, name=skill.name), key=lambda point: point.value)
    owners = " and ".join(str(Origin.of(point)) for point in points)
    if skill.name in SKILLS:
        if points:
            log.warning(
                "the trial of '%s' that %s offers is left aside: the skill has a built-in one", skill.name, owners
            )
        return builtin_trial(skill)
    if len(points) > 1:
        raise TrialError(skill.name, f"{owners} both offer a trial of it, of which one has to go")
    if not points:
        return drawn_trial(skill)
    try:
        trial = points[0].load()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything when it is imported
        raise TrialError(skill.name, f"the trial of {owners} fails with {type(error).__name__}: {error}") from error
    if not isinstance(trial, Trial):
        raise TrialError(skill.name, f"{owners} offers {trial!r}, which is no Trial")
    return trial


def try_skill(
    library: SkillLibrary,
    skill: Skill,
    trial: Trial,
    trials: int,
    first_seed: int = 0,
    policy_for: Callable[[str], Policy] | None = None,
) -> TrialReport:
    """Run a skill's trials.

    Args:
        library: where the skill is registered.
        skill: what to try.
        trial: how.
        trials: number of scenes.
        first_seed: of the scenes; the same seed gives the same scene.
        policy_for: gives the policy of a name; by default each is made once.

    Raises:
        TrialError: nothing can be tried in any of a seed's scenes.
    """
    policies: dict[str, Policy] = {}

    def default(name: str) -> Policy:
        if name not in policies:
            policies[name] = make_policy(name)
        return policies[name]

    won, mistaken, seconds = 0, 0, 0.0
    failures: Counter[str] = Counter()
    seeds: dict[str, list[int]] = {}
    for seed in range(first_seed, first_seed + trials):
        said, wrong, duration = _try(library, skill, trial, seed, policy_for or default)
        seconds += duration
        won += not wrong
        mistaken += trial.judge is not None and (said == "succeeded") != (not wrong)
        if wrong:
            failures[wrong] += 1
            seeds.setdefault(wrong, []).append(seed)
    told = {how: f"{n} times, seeds {', '.join(map(str, seeds[how]))}" for how, n in failures.most_common()}
    return TrialReport(skill.name, trials, won, trial.judge is not None, mistaken, told, seconds / trials)


def _try(
    library: SkillLibrary, skill: Skill, trial: Trial, seed: int, policy_for: Callable[[str], Policy]
) -> tuple[str, str, float]:
    """What the loop said, what is wrong with the outcome (empty: nothing), and how long it took [s]."""
    for again in range(_SCENES):
        scene_seed = 20_000_000 + 2_000 * seed + 2 * again + 1
        rng = np.random.default_rng([0x5C11, scene_seed])
        with Arena(trial.scene(scene_seed, rng)) as arena:
            task = trial.task(arena, rng)
            if task is None:
                continue
            before, began = arena.state(), arena.world.time_s
            outcome, reason = _run(library, task, arena, seed, policy_for)
            arena.rest()
            arena.run(0.3)
            if trial.judge is None:
                wrong = "" if outcome == "succeeded" else f"{outcome}: {reason}"
            else:
                wrong = trial.judge(arena, before, task)
                if wrong and outcome != "succeeded":
                    wrong = f"{wrong} ({outcome}: {reason})"
            return outcome, wrong, arena.world.time_s - began
    raise TrialError(skill.name, f"nothing could be done in {_SCENES} scenes of seed {seed}")


def _run(
    library: SkillLibrary, task: TrialTask, arena: Arena, seed: int, policy_for: Callable[[str], Policy]
) -> tuple[str, str]:
    config, recorder = LoopConfig(replan="never", max_retries=0), NullRecorder()
    body = Body(arena.world, recorder, config, CancelToken(), seed=seed)
    parts = Parts(planner=OneStep(task.step), policy_for=policy_for, body=body, recorder=recorder)
    loop = Orchestrator(parts, skills=library, config=config, seed=seed)
    loop.state.belief = task.belief
    ending = loop.run(str(task.step))
    if not loop.state.history:
        return ending.outcome, ending.message
    return loop.state.history[-1].outcome, ending.message.rpartition(" attempts: ")[2]


class OneStep:
    """A planner whose plan is one step, already grounded."""

    id = "one-step"

    def __init__(self, step: Step) -> None:
        self._step = step
        self.rejected: tuple[RejectedAttempt, ...] = ()

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The step, still to be done."""
        return Plan(goal=instruction, steps=(self._step,), remaining=(self._step.id,))

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The plan as it is."""
        return plan

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step as it is: its keypoint is in metres."""
        return step


def builtin_trial(skill: Skill) -> Trial:
    """The trial of a built-in skill: the scenes and the ground truth of ``benchmarks.skills``."""
    name = skill.name

    def task(arena: Arena, rng: np.random.Generator) -> TrialTask | None:
        found = trial_task(name, arena, rng)
        return None if found is None else as_trial_task(skill, arena, found)

    def judge(arena: Arena, before: State, done: TrialTask) -> str:
        about: Task = done.about
        return verdict(arena, before, about)

    return Trial(lambda seed, rng: trial_scene(name, seed, rng), task, judge)


def as_trial_task(skill: Skill, arena: Arena, found: Task) -> TrialTask:
    """An expert's task as a step of the loop, with its arguments in a planner's words, and what is held to begin with.

    Args:
        skill: the built-in skill that the task is of.
        arena: where.
        found: what to do.
    """
    held = arena.state().held
    onto = found.onto or found.place or "table"
    inside = found.place == "drawer" or onto.startswith("bowl")
    values = {
        "object": "" if found.object is None else _word(arena, found.object),
        "target": _word(arena, onto),
        "relation": "at" if onto == "table" else "in" if inside else "on",
        "surface": "spill",
        "drawer": "drawer",
    }
    args = {p.name: values[p.name] for p in skill.signature.params}
    belief = Belief() if held is None else Belief(held=_word(arena, held), source="gripper")
    return TrialTask(as_step(found).replace(args=args), belief, found)


def drawn_trial(skill: Skill) -> Trial:
    """A trial from the signature alone: a thing for each parameter, the keypoint on the first place, or thing.

    Its tasks say in ``about`` which thing stands for which parameter. It has no judge.

    Raises:
        TrialError: the signature names nothing that this world has.
    """
    wanted: dict[str, str] = {}
    for p in skill.signature.params:
        if p.type in {"object", "location"}:
            fits = [c for c in p.categories if c in CATEGORIES or c in _FURNITURE] if p.categories else ["block"]
            if not fits:
                raise TrialError(skill.name, f"it has no {' or '.join(p.categories)} for parameter '{p.name}'")
            wanted[p.name] = fits[0]
    if not wanted:
        raise TrialError(skill.name, "its signature names no thing that a keypoint could be on")
    holds = any(c.predicate == "holding" and c.holds for c in skill.signature.preconditions)
    loose = [(name, kind) for name, kind in wanted.items() if kind in CATEGORIES]
    places = [p.name for p in skill.signature.params if p.type == "location"]
    pointed = (places or list(wanted))[0]

    def scene(seed: int, rng: np.random.Generator) -> SceneSpec:
        first = "gripper" if holds else "table"
        need: list[Request] = [(kind, None, first if i == 0 else "table") for i, (_, kind) in enumerate(loose)]  # type: ignore[misc]  # kinds were checked against CATEGORIES
        drawer_open = False if "drawer" in wanted.values() else None
        return sample_scene(
            seed, n_objects=(max(2, len(need)), max(5, len(need))), require=need, stacks=0, spill=False,
            gripper=holds, drawer_open=drawer_open,
        )  # fmt: skip

    def task(arena: Arena, rng: np.random.Generator) -> TrialTask | None:
        ids = {name: arena.scene.objects[i].id for i, (name, _) in enumerate(loose)}
        ids |= {name: kind for name, kind in wanted.items() if name not in ids}
        mask = arena.truth.segmentation("front").mask(ids[pointed])
        frame = arena.world.observe(["front"]).frames[0]
        point = surface_point(frame, mask, rng) if mask.sum() >= 12 else None
        if point is None:
            return None
        words = {name: _word(arena, thing) for name, thing in ids.items()}
        args = {p.name: words.get(p.name) or sample_argument(p) for p in skill.signature.params}
        image = ImageRef(
            camera="front", sha256=frame.sha256, width=frame.width, height=frame.height, time_s=frame.time_s
        )
        x, y, z = (float(c) for c in point)
        v, u = (float(np.median(axis)) + 0.5 for axis in np.nonzero(mask))
        keypoint = Keypoint(label=words[pointed], u=u, v=v, position_w=(x, y, z))
        step = Step(id="s1", skill=skill.name, args=args, artifacts=(Keypoints(image=image, points=(keypoint,)),))
        held = arena.state().held
        belief = Belief() if held is None else Belief(held=_word(arena, held), source="gripper")
        return TrialTask(step, belief, ids)

    return Trial(scene, task)


def _word(arena: Arena, thing: str) -> str:
    """A thing as a planner names it: "red block" for an id, "top shelf" for a place."""
    for spec in arena.scene.objects:
        if spec.id == thing:
            return f"{spec.colour} {spec.category}"
    return thing.replace("_", " ")
