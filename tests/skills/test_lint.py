"""The contract lint: the built-in skills pass, and every finding has a skill that earns it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hiervla.executor.policies import unfit
from hiervla.representations import Condition, Parameter, SkillSignature, Verdict
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary, Timer, Waypoint, any_of, skill
from hiervla.skills.lint import Finding, check_skill
from hiervla.skills.termination import DoneHead, Geometric


def test_the_built_in_skills_have_no_findings() -> None:
    assert [f for s in SkillLibrary.load() for f in check_skill(s, unfit)] == []


class Good(Skill):
    """Press a thing."""

    signature = SkillSignature(name="press", doc="press a thing", params=(Parameter(name="object", type="object"),))
    policy = "flow"

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        return Verdict(name="done", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def changed(**changes: Any) -> Skill:
    """A good skill but for what is changed."""
    made: Skill = type("Changed", (Good,), {"__doc__": "Press a thing.", **changes})()
    return made


def with_signature(**changes: Any) -> Skill:
    return changed(signature=Good.signature.replace(**changes))


def with_parameter(**changes: Any) -> Skill:
    return with_signature(params=(Parameter(**{"name": "how", "type": "text", **changes}),))


def raising(self: Skill, context: SkillContext) -> Verdict:
    if context.after is not None:
        raise ZeroDivisionError("no depth there")
    return Verdict(name="done", value="no")


counter = itertools.count()


@pytest.mark.parametrize(
    ("made", "place", "problem"),
    [
        (lambda: with_signature(doc=""), "signature", "has no doc"),
        (lambda: with_signature(doc="x" * 201), "signature", "its doc is longer than a sentence"),
        (lambda: changed(__doc__=None), "docstring", "there is none"),
        (lambda: with_signature(params=Good.signature.params * 2), "parameter object", "is declared twice"),
        (lambda: with_parameter(type="choice"), "parameter how", "is a choice without choices"),
        (lambda: with_parameter(choices=("a",)), "parameter how", "is of type text and has choices"),
        (lambda: with_parameter(categories=("mug",)), "parameter how", "is of type text and has categories"),
        (lambda: with_parameter(minimum=1.0), "parameter how", "is of type text and has limits or a unit"),
        (lambda: with_parameter(type="number", minimum=2.0, maximum=1.0), "parameter how", "has a minimum of 2 above"),
        (
            lambda: with_parameter(type="choice", choices=("a",), default="b"),
            "parameter how",
            "has the default 'b', which is no choice",
        ),
        (lambda: with_signature(accepts=("keypoint",)), "accepts", "'keypoint' is no kind of artifact"),
        (
            lambda: with_signature(postconditions=(Condition(predicate="pressed", args=("{thing}",)),)),
            "postconditions",
            "{thing} names no parameter",
        ),
        (lambda: changed(timeout_s=-1.0), "timeout_s", "-1.0 is no time"),
        (lambda: changed(naive_s="long"), "naive_s", "'long' is no time"),
        (lambda: changed(done=raising), "done", "raises ZeroDivisionError (no depth there) with keypoint at 0.5, 0, "),
        (lambda: changed(ready=lambda self, c: True), "ready", "answers True with keypoint"),
        (lambda: changed(holds=lambda self, c: "yes"), "holds", "answers 'yes'"),
        (lambda: changed(effect=lambda self, c: None), "effect", "answers None"),
        (
            lambda: changed(ready=lambda self, c: Verdict(name=f"asked {next(counter)} times", value="yes")),
            "ready",
            "answers differently when it is asked twice",
        ),
        (
            lambda: changed(
                ready=lambda self, c: Verdict(name="r", value="yes", evidence={"depth_m": float("nan"), "x": 1.0})
            ),
            "ready",
            "gives evidence that is not finite (depth_m)",
        ),
        (lambda: changed(approach=lambda self, c: Approach(height_m=2.0)), "approach", "hovers 2 m above"),
        (lambda: changed(approach=lambda self, c: Approach(height_m=float("nan"))), "approach", "hovers nan m"),
        (lambda: changed(approach=lambda self, c: Approach(yaw=7.0)), "approach", "turns the hand to 7 rad"),
        (
            lambda: changed(approach=lambda self, c: Approach(gripper_width_m=0.2)),
            "approach",
            "opens the gripper 0.2 m wide",
        ),
        (
            lambda: changed(termination=DoneHead(0.5)),
            "termination",
            "has not ended after 120 s with a policy that has no done-head",
        ),
        (
            lambda: changed(termination=any_of(Geometric(lambda c: c.proprio.ee_position[2] > 0.1), Timer(9.0))),
            "termination",
            "ends a policy that has just begun",
        ),
        (lambda: changed(policy="flwo"), "policy", "no policy 'flwo' is registered"),
        (lambda: changed(policy="flow"), "policy", "the built-in policy 'flow' knows pick, place,"),
    ],
)
def test_each_finding_names_skill_place_and_problem(made: Callable[[], Skill], place: str, problem: str) -> None:
    findings = check_skill(made(), unfit)
    assert any(f.skill == "press" and f.place == place and f.problem.startswith(problem) for f in findings), findings
    for finding in findings:
        assert finding.remedy
        assert str(finding) == f"press, {finding.place}: {finding.problem}. {finding.remedy}."


def test_a_near_miss_is_suggested() -> None:
    (finding,) = (f for f in check_skill(with_signature(accepts=("keypoint",))) if f.place == "accepts")
    assert finding.remedy.startswith("Did you mean 'keypoints'?")
    (finding,) = (f for f in check_skill(changed(policy="flwo"), unfit) if f.place == "policy")
    assert finding.remedy.startswith("Did you mean 'flow'?")


def test_without_a_resolver_the_policy_is_left_out() -> None:
    assert check_skill(changed(policy="flwo")) == ()


def motion(way: Callable[[tuple[float, ...]], Iterator[Waypoint]], **options: Any) -> tuple[Finding, ...]:
    @skill(**options)
    def press(context: SkillContext) -> Iterator[Waypoint]:
        """Press a thing."""
        yield from way(tuple(float(c) for c in context.target_w))

    return check_skill(press, unfit)


def test_a_scripted_motion_is_played_through() -> None:
    assert motion(lambda t: iter([Waypoint((t[0], t[1], t[2] + 0.02))])) == ()
    (deep,) = motion(lambda t: iter([Waypoint((t[0], t[1], -0.1))]))
    assert (deep.place, "in the table or out of reach" in deep.problem) == ("motion", True)
    (far,) = motion(lambda t: iter([Waypoint((t[0] + 1.0, t[1], t[2]), speed_m_s=0.5)]))
    assert "out of reach" in far.problem
    (long,) = motion(lambda t: iter([Waypoint((t[0], t[1], t[2] + 0.02), dwell_s=20.0)]))
    assert long.problem.startswith("takes longer than the skill's limit of 10 s")
    (broken,) = motion(lambda t: iter([Waypoint((t[3], 0.0, 0.0))]))
    assert broken.problem.startswith("raises IndexError")
    (bad,) = motion(lambda t: iter([Waypoint((float("nan"), 0.0, 0.0))]))
    assert "are not three finite numbers" in bad.problem
