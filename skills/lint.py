"""The contract lint: what can be found wrong with a skill before anything moves. ``hiervla skills check`` prints it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hiervla.controllers import panda
from hiervla.representations import Artifact, HiervlaError, Parameter, Verdict
from hiervla.skills.base import Approach, Skill
from hiervla.skills.checks import reachable
from hiervla.skills.context import Belief, SkillContext
from hiervla.skills.errors import SkillFailedError
from hiervla.skills.motion import RATE_HZ, MotionPolicy
from hiervla.skills.policy import OwnPolicy
from hiervla.skills.rehearsal import rehearse
from hiervla.skills.samples import TARGETS, cameras_of, contexts, observation, sample_step
from hiervla.skills.saved import ProgramSkill, SavedSkillError

LONGEST_S = 120.0
"""A termination that has not said stop by then, with a policy without heads, counts as one that never ends [s]."""
HIGHEST_M = 0.45
LOWEST_M = -0.005
"""Below it a scripted tool would be in the table [m]."""
TOP_M = 0.75
"""Above it the arm is nearly stretched [m]."""

_KINDS = tuple(str(c.model_fields["kind"].default) for c in get_args(get_args(Artifact)[0]))


@dataclass(frozen=True)
class Finding:
    """Something wrong with a skill.

    Attributes:
        skill: its name.
        place: the part of it, such as ``"done"``.
        problem: what was found.
        remedy: what to do.
    """

    skill: str
    place: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """One sentence and what to do."""
        return f"{self.skill}, {self.place}: {self.problem}. {self.remedy}."


Resolver = Callable[[str, str], tuple[str, str] | None]
"""From the names of a policy and of a skill to what is wrong with that policy for it, and the remedy; None: nothing."""


def check_skill(skill: Skill, resolve: Resolver | None = None) -> tuple[Finding, ...]:
    """Everything that the lint finds wrong with a skill; empty when it is well-formed.

    Args:
        skill: what to look at; its policy is asked for nothing that needs weights.
        resolve: looks policies up, such as ``hiervla.executor.policies.unfit``; None leaves that check out.
    """
    if isinstance(skill, ProgramSkill):
        return (*_signature(skill), *_saved(skill))
    found = [*_signature(skill), *_numbers(skill), *_contract(skill), *_ending(skill)]
    if resolve is not None and not isinstance(skill.policy, OwnPolicy):
        wrong = resolve(skill.policy, skill.name)
        if wrong is not None:
            found.append(Finding(skill.name, "policy", *wrong))
    if not found and isinstance(skill.policy, OwnPolicy):
        found += _motion(skill, skill.policy)
    return tuple(dict.fromkeys(found))


def _saved(skill: ProgramSkill) -> Iterator[Finding]:
    """What is wrong with a saved skill: its program, run on the answers of the day when it worked."""
    if skill.path is None:
        return
    try:
        rehearse(skill.path)
    except SavedSkillError as error:
        remedy = "Repair what it calls, or save the skill again from a new run"
        yield Finding(skill.name, "program", error.problem, remedy)


def _signature(skill: Skill) -> Iterator[Finding]:
    signature, name = skill.signature, skill.name
    if not signature.doc.strip():
        yield Finding(name, "signature", "has no doc", "Say in one sentence what the skill does; the planner reads it")
    elif len(signature.doc) > 200 or "\n" in signature.doc:
        yield Finding(
            name, "signature", "its doc is longer than a sentence", "Keep it under 200 characters, on one line"
        )
    if not inspect.getdoc(skill):
        yield Finding(name, "docstring", "there is none", "Describe the skill for those who read its code")
    names = [p.name for p in signature.params]
    for twice in sorted({n for n in names if names.count(n) > 1}):
        yield Finding(name, f"parameter {twice}", "is declared twice", "Rename one of the two")
    for parameter in signature.params:
        for problem, remedy in _parameter(parameter):
            yield Finding(name, f"parameter {parameter.name}", problem, remedy)
    for kind in signature.accepts:
        if kind not in _KINDS:
            remedy = _near(kind, _KINDS, f"Choose among {', '.join(_KINDS)}")
            yield Finding(name, "accepts", f"'{kind}' is no kind of artifact", remedy)
    for where, conditions in (("preconditions", signature.preconditions), ("postconditions", signature.postconditions)):
        for word in (w for c in conditions for w in c.args):
            if word.startswith("{") and word.strip("{}") not in names:
                yield Finding(name, where, f"{word} names no parameter", f"There are {', '.join(names) or 'none'}")


def _parameter(p: Parameter) -> Iterator[tuple[str, str]]:
    if p.type == "choice" and not p.choices:
        yield "is a choice without choices", "List them in `choices`"
    if p.type != "choice" and p.choices:
        yield f"is of type {p.type} and has choices", "Make it a choice"
    if p.type not in {"object", "location"} and p.categories:
        yield f"is of type {p.type} and has categories", "Make it an object or a location"
    if p.type != "number" and (p.minimum is not None or p.maximum is not None or p.unit):
        yield f"is of type {p.type} and has limits or a unit", "Make it a number"
    if p.minimum is not None and p.maximum is not None and p.minimum > p.maximum:
        yield f"has a minimum of {p.minimum:g} above its maximum of {p.maximum:g}", "Swap them"
    if p.default is not None and p.choices and p.default not in p.choices:
        yield f"has the default '{p.default}', which is no choice", "Choose one that is"


def _numbers(skill: Skill) -> Iterator[Finding]:
    for field in ("timeout_s", "naive_s"):
        value = getattr(skill, field)
        if not (isinstance(value, int | float) and 0.0 < value <= LONGEST_S):
            yield Finding(skill.name, field, f"{value!r} is no time", f"Give seconds, above 0 and up to {LONGEST_S:g}")


def _contract(skill: Skill) -> Iterator[Finding]:
    """Each verb answers in each situation, with the right type, twice the same."""

    def ends(context: SkillContext) -> Verdict:
        return skill.termination(context)

    asked: tuple[tuple[str, Callable[[SkillContext], object], tuple[type, ...]], ...] = (
        ("ready", skill.ready, (Verdict,)),
        ("holds", skill.holds, (Verdict, type(None))),
        ("done", skill.done, (Verdict,)),
        ("effect", skill.effect, (Belief,)),
        ("approach", skill.approach, (Approach,)),
        ("termination", ends, (Verdict,)),
    )
    for verb, ask, types in asked:
        for when, context in contexts(skill):
            try:
                answer, again = ask(context), ask(context)
            except Exception as error:  # what a stranger's contract raises is the finding
                problem = f"{_raised(error)} with {when}"
                yield Finding(skill.name, verb, problem, "Answer in every situation; 'unsure' is an answer too")
                break
            problem, remedy = _answer(answer, again, types)
            if problem:
                yield Finding(skill.name, verb, f"{problem} with {when}", remedy)
                break


def _answer(answer: object, again: object, types: tuple[type, ...]) -> tuple[str, str]:
    if not isinstance(answer, types):
        return f"answers {answer!r}", f"Return a {types[0].__name__}"
    if isinstance(answer, Verdict):
        bad = [k for k, v in answer.evidence.items() if isinstance(v, float) and not math.isfinite(v)]
        if bad:
            return f"gives evidence that is not finite ({', '.join(bad)})", "Say 'unsure', with evidence that is known"
    if isinstance(answer, Approach):
        if not 0.0 < answer.height_m <= HIGHEST_M:
            return f"hovers {answer.height_m:g} m above the keypoint", f"Stay between 0 and {HIGHEST_M:g} m"
        if not abs(answer.yaw) <= math.pi:
            return f"turns the hand to {answer.yaw:g} rad", "Stay within pi of zero"
        width = answer.gripper_width_m
        if width is not None and not 0.0 <= width <= panda.GRIPPER_MAX_WIDTH_M:
            return f"opens the gripper {width:g} m wide", f"Stay between 0 and {panda.GRIPPER_MAX_WIDTH_M:g} m"
    if answer != again:
        return "answers differently when it is asked twice", "Keep no state in a skill; all it needs is in the context"
    return "", ""


def _ending(skill: Skill) -> Iterator[Finding]:
    """The termination ends a policy without heads, and lets one that has just begun go on."""
    context = next(iter(contexts(skill)))[1]
    late = replace(context, elapsed_s=LONGEST_S)
    try:
        if not skill.termination(late).yes:
            yield Finding(
                skill.name, "termination", f"has not ended after {LONGEST_S:g} s with a policy that has no done-head",
                "Add a limit: any_of(..., Timer(10.0))",
            )  # fmt: skip
        begun = replace(context, elapsed_s=0.02, done_prob=0.0, progress=0.0)
        if skill.termination(begun).yes:
            yield Finding(
                skill.name,
                "termination",
                "ends a policy that has just begun",
                "Let its predicate count after(0.6, ...)",
            )
    except Exception as error:  # told by the contract's check already, unless only these two situations raise
        problem = f"{_raised(error)} after {LONGEST_S:g} s, or at once"
        yield Finding(skill.name, "termination", problem, "Answer in every situation")


def _motion(skill: Skill, own: OwnPolicy) -> Iterator[Finding]:
    """A scripted motion, played through at the hover without a robot: it plans, ends, and stays above the table."""
    policy = own.make()
    if not isinstance(policy, MotionPolicy):
        return
    for target in TARGETS:
        step = sample_step(skill, target)
        start = (target[0], target[1], target[2] + 0.13)
        where = f"for a keypoint at {', '.join(f'{c:g}' for c in target)} m"
        policy.reset(step, 0)
        for second in range(round(skill.timeout_s) + 1):
            try:
                chunk = policy.act(observation(tool_w=start, time_s=float(second), cameras=cameras_of(skill)), step)
            except HiervlaError as error:
                yield Finding(skill.name, "motion", f"{_raised(error)} {where}", "Correct the function")
                return
            outside = [p for p in chunk.positions[: round(RATE_HZ)] if not _in_reach(p)]
            if outside:
                x, y, z = outside[0]
                problem = f"leads to ({x:.2f}, {y:.2f}, {z:.2f}) m {where}, in the table or out of reach"
                yield Finding(skill.name, "motion", problem, "Keep the waypoints above the table and within reach")
                return
            if chunk.done_prob == 1.0:
                break
        else:
            problem = f"takes longer than the skill's limit of {skill.timeout_s:g} s {where}"
            yield Finding(skill.name, "motion", problem, "Raise timeout_s, or the waypoints' speed_m_s")
            return


def _raised(error: Exception) -> str:
    inner = error.error if isinstance(error, SkillFailedError) else error
    return f"raises {type(inner).__name__} ({inner})"


def _in_reach(tool_w: NDArray[np.float64]) -> bool:
    level = np.array([tool_w[0], tool_w[1], 0.0])
    return bool(LOWEST_M < tool_w[2] < TOP_M and reachable(level).yes)


def _near(name: str, known: tuple[str, ...], otherwise: str) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'? {otherwise}" if near else otherwise
