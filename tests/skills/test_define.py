"""A function becomes a skill: its parameters, its contract, its motion or policy; and every mistake in it is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from hiervla.executor.policies import make_policy
from hiervla.executor.testing import LinePolicy, run_skill
from hiervla.representations import (
    ActionChunk,
    Condition,
    Observation,
    Parameter,
    Resources,
    Step,
    Verdict,
    Waypoint3D,
    Waypoints3D,
)
from hiervla.skills import (
    Approach,
    Belief,
    Doc,
    Number,
    Place,
    Recovery,
    Skill,
    SkillArgumentError,
    SkillContext,
    SkillDefinitionError,
    Thing,
    Waypoint,
    after,
    policy_name,
    skill,
)
from hiervla.skills.samples import observation, sample_step


@skill(
    preconditions=(Condition(predicate="hand_empty"),),
    postconditions=(Condition(predicate="swept", args=("{what}", "{onto}")),),
    resources=Resources(arms=("left",), cameras=("front",)),
)
def sweep(
    context: SkillContext,
    what: Annotated[str, Thing("block", "can", doc="what to sweep")],
    onto: Annotated[str, Place("plate")],
    side: Annotated[Literal["left", "right"], Doc("which way")],
    far_m: Annotated[float, Number(0.02, 0.2, unit="m")] = 0.1,
    times: Annotated[int, Number(1, 5)] = 2,
    manner: str = "gently",
) -> Iterator[Waypoint]:
    """Sweep a thing onto a plate.

    More for those who read code.
    """
    x, y, z = context.target_w
    for _ in range(times):
        yield Waypoint((x, y - far_m if side == "right" else y + far_m, z + 0.05))
        yield Waypoint((x, y, z + 0.05))


ARGS = {"what": "red block", "onto": "white plate", "side": "right"}


def context(step: Step, **changes: Any) -> SkillContext:
    seen = observation()
    return SkillContext(**{"step": step, "before": seen, "proprio": seen.proprio, **changes})


def step_of(name: str = "sweep", **args: str) -> Step:
    return sample_step(sweep).replace(skill=name, args=args)


def test_annotations_and_docstring_are_the_signature() -> None:
    signature = sweep.signature
    assert (signature.name, signature.doc) == ("sweep", "sweep a thing onto a plate")
    assert signature.params == (
        Parameter(name="what", type="object", categories=("block", "can"), doc="what to sweep"),
        Parameter(name="onto", type="location", categories=("plate",)),
        Parameter(name="side", type="choice", choices=("left", "right"), doc="which way"),
        Parameter(name="far_m", type="number", minimum=0.02, maximum=0.2, unit="m", default="0.1"),
        Parameter(name="times", type="number", minimum=1.0, maximum=5.0, default="2"),
        Parameter(name="manner", type="text", default="gently"),
    )
    assert str(signature).startswith("sweep(what: object[block|can], onto: location[plate], side: left|right, far_m: ")
    assert sweep.__doc__ is not None and "read code" in sweep.__doc__


def test_its_conditions_name_the_arguments_of_a_call() -> None:
    before, then = sweep.signature.conditions(ARGS)
    assert [str(c) for c in (*before, *then)] == ["hand_empty()", "swept(red block, white plate)"]
    assert str(sweep.signature.conditions({"what": "{onto}"})[1][0]) == "swept({onto}, {onto})", "filled in once"


@pytest.mark.parametrize(
    ("args", "argument", "problem"),
    [
        ({**ARGS, "side": "up"}, "side", "'up' is not on offer"),
        ({**ARGS, "far_m": "9"}, "far_m", "9 is not allowed"),
        ({**ARGS, "far_m": "nan"}, "far_m", "nan is not allowed"),
        ({**ARGS, "far_m": "far"}, "far_m", "'far' is no number"),
        ({**ARGS, "times": "1.5"}, "times", "1.5 is no whole number"),
        ({"what": "red block", "side": "left"}, "onto", "is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_a_verdict_before_and_an_error_in_motion(
    args: dict[str, str], argument: str, problem: str
) -> None:
    ready = sweep.ready(context(step_of(**args)))
    assert (ready.name, ready.value, ready.evidence) == ("arguments", "no", {argument: problem})
    with pytest.raises(SkillArgumentError, match=rf"step s1 \(sweep\): {argument}: .*See `hiervla skills show sweep`"):
        make_policy(sweep.policy).act(observation(), step_of(**args))


def test_the_arguments_reach_the_motion() -> None:
    policy = make_policy(sweep.policy)
    reached = []
    for side in ("left", "right"):
        policy.reset(step_of(**{**ARGS, "side": side}), 0)
        rows = [
            policy.act(observation(time_s=t, tool_w=(0.5, 0.0, 0.15)), step_of(**{**ARGS, "side": side})).positions
            for t in (0.0, 1.0, 2.0)
        ]
        reached.append(np.concatenate(rows)[:, 1])
    assert reached[0].max() == pytest.approx(0.1, abs=0.01) and reached[0].min() > -0.01
    assert reached[1].min() == pytest.approx(-0.1, abs=0.01) and reached[1].max() < 0.01


def test_it_runs_in_the_real_loop_and_a_wrong_argument_moves_nothing() -> None:
    result, events, _ = run_skill(sweep, **ARGS)
    assert result.outcome == "succeeded", result.message
    assert {e.chunk.policy for e in events if e.type == "chunk"} == {"sweep"}
    result, events, _ = run_skill(sweep, **{**ARGS, "far_m": "9"})
    assert result.steps[0].outcome == "precondition_failed"
    assert "far_m 9 is not allowed" in result.message
    assert not [e for e in events if e.type == "chunk"]


def test_what_is_left_out_has_a_harmless_default() -> None:
    @skill
    def nod(context: SkillContext) -> list[Waypoint]:
        """Nod."""
        return []

    c = context(step_of("nod"), belief=Belief(held="red mug"))
    assert nod.approach(c) == Approach()
    assert nod.ready(c).name == "reachable"
    assert nod.holds(c) is None
    assert nod.done(c).value == "unsure"
    assert nod.effect(c) == Belief(held="red mug")
    assert nod.recovery == Recovery() and nod.recover("failed") == Recovery()
    assert nod.recover("unreachable") is None
    assert str(nod.termination) == "any(done_head(0.5, from 0.6 s), timer(10 s))"
    assert run_skill(nod)[0].outcome == "succeeded", "a motion of no length is over at once"


def test_a_contract_may_be_given_as_values_or_functions() -> None:
    def high(context: SkillContext) -> bool:
        return bool(context.proprio.ee_position[2] > 0.3)

    @skill(
        name="nod",
        ready=high,
        holds=lambda c: c.proprio.gripper_width_m > 0.01,
        done=lambda c: Verdict(name="nodded", value="no", confidence=0.4),
        effect=Belief(),
        approach=lambda c: Approach(height_m=0.2 if c.belief.held else 0.1),
        termination=after(2.0),
        timeout_s=2.0,
    )
    def twice(context: SkillContext) -> list[Waypoint]:
        """Nod twice."""
        return []

    c = context(step_of("nod"), belief=Belief(held="red mug"))
    assert twice.name == "nod"
    assert twice.ready(c) == Verdict(name="high", value="yes")
    assert not twice.ready(replace(c, proprio=observation(tool_w=(0.4, 0.0, 0.1)).proprio)).yes
    assert twice.holds(c) == Verdict(name="holds", value="yes")
    assert twice.done(c).confidence == 0.4
    assert twice.effect(c) == Belief()
    assert twice.approach(c).height_m == 0.2
    assert twice.termination == after(2.0)
    result, _, _ = run_skill(twice)
    assert (result.outcome, result.steps[0].outcome) == ("gave_up", "failed")


# Policies of its own.


def chunk(observation: Observation, step: Step) -> ActionChunk:
    here = np.tile(observation.proprio.ee_position, (16, 1))
    yaws, gripper = np.zeros(16), np.ones(16)
    return ActionChunk(
        positions=here, yaws=yaws, gripper=gripper, rate_hz=10.0, observed_at_s=observation.time_s, done_prob=0.9
    )


SHARED = LinePolicy()


@pytest.mark.parametrize(
    ("source", "made", "chunk_policy"),
    [
        (LinePolicy, "LinePolicy", "line"),
        (lambda: LinePolicy(chunks=1), "LinePolicy", "line"),
        (SHARED, "LinePolicy", "line"),
        (chunk, "FunctionPolicy", "wait"),
    ],
    ids=["class", "factory", "object", "function"],
)
def test_a_policy_of_its_own_in_every_form(source: Any, made: str, chunk_policy: str) -> None:
    @skill(policy=source)
    def wait(context: SkillContext) -> None:
        """Wait a little."""

    assert wait.policy == "own:wait"
    policy = make_policy(wait.policy)
    assert type(policy).__name__ == made
    assert policy.act(observation(), step_of("wait")).policy == chunk_policy
    assert run_skill(wait)[0].outcome == "succeeded"


def test_a_class_may_bring_its_policy_too_and_a_name_stays_a_name() -> None:
    class Wait(Skill):
        """Wait."""

        signature = sweep.signature.replace(name="wait", params=())
        policy = policy_name("wait", LinePolicy)

        def approach(self, context: SkillContext) -> Approach:
            return Approach()

        def ready(self, context: SkillContext) -> Verdict:
            return Verdict(name="ready", value="yes")

        def done(self, context: SkillContext) -> Verdict:
            return Verdict(name="done", value="yes")

        def effect(self, context: SkillContext) -> Belief:
            return context.belief

    assert run_skill(Wait())[0].outcome == "succeeded"
    assert policy_name("wait", "flow") == "flow"


def test_a_function_that_answers_with_chunks_is_asked_for_each() -> None:
    asked = []

    @skill(termination=after(3.0))
    def hold_still(context: SkillContext, how: Literal["open", "shut"] = "open") -> ActionChunk:
        """Hold still."""
        asked.append(context.proprio.time_s)
        here = context.proprio.ee_position
        return ActionChunk(
            positions=np.tile(here, (16, 1)), yaws=np.zeros(16), gripper=np.full(16, float(how == "open")),
            rate_hz=10.0, observed_at_s=context.before.time_s,
        )  # fmt: skip

    result, events, _ = run_skill(hold_still, how="shut")
    assert result.steps[0].outcome == "succeeded"
    assert len(asked) >= 4 and asked == sorted(set(asked))
    assert {e.chunk.policy for e in events if e.type == "chunk"} == {"hold_still"}


def test_a_path_of_the_planner_can_be_followed_without_a_keypoint() -> None:
    @skill(accepts=("waypoints_3d",), approach=Approach(height_m=0.05))
    def trace(context: SkillContext) -> tuple[Waypoint3D, ...]:
        """Follow a path that the planner drew."""
        path = context.artifact(Waypoints3D)
        return () if path is None else path.points

    path = Waypoints3D(points=tuple(Waypoint3D(position_w=(0.5, y, 0.2)) for y in (0.0, 0.1)))
    seen = observation()
    step = Step(id="s1", skill="trace", artifacts=(path,))
    c = SkillContext(step=step, before=seen, proprio=seen.proprio)
    assert c.target_w.tolist() == [0.5, 0.0, 0.2]
    policy = make_policy(trace.policy)
    rows = [policy.act(observation(time_s=t, tool_w=(0.5, 0.0, 0.25)), step).positions for t in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(rows[-1][-1], (0.5, 0.1, 0.2))


def test_making_a_skill_makes_no_policy() -> None:
    def heavy() -> LinePolicy:
        raise AssertionError("weights were loaded")

    @skill(policy=heavy)
    def lift(context: SkillContext) -> None:
        """Lift."""

    with pytest.raises(AssertionError, match="weights were loaded"):
        make_policy(lift.policy)


# Mistakes.


def no_docstring(context: SkillContext) -> None: ...


def bare(context: SkillContext, thing) -> None:  # type: ignore[no-untyped-def]  # what is tested
    """Do it."""


def listed(context: SkillContext, things: list[str]) -> None:
    """Do it."""


def open_ended(context: SkillContext, **things: str) -> None:
    """Do it."""


def without_context() -> None:
    """Do it."""


def bad_default(context: SkillContext, far_m: Annotated[float, Number(0.0, 1.0)] = 2.0) -> None:
    """Do it."""


def counts(context: SkillContext, n: Literal[1, 2]) -> None:
    """Do it."""


def Loud(context: SkillContext) -> None:
    """Do it."""


def unknown(context: SkillContext, thing: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821  # what is tested
    """Do it."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_docstring, "skill 'no_docstring', docstring: there is none. Give it a docstring: its first sentence"),
        (bare, "skill 'bare', parameter thing: is not annotated. Annotate it as Annotated"),
        (listed, r"parameter things: is annotated as list\[str\]. Annotate it"),
        (open_ended, "parameter things: is open-ended"),
        (without_context, "function: takes no context. Let its first parameter be `context: SkillContext`"),
        (bad_default, "parameter far_m: its default 2.0 is not allowed. Give a number from 0 to 1"),
        (counts, r"parameter n: offers \(1, 2\), which are not all words"),
        (Loud, "skill 'Loud', name: String should match pattern"),
        (unknown, "annotations: name 'Nowhere' is not defined"),
    ],
)
def test_a_mistake_in_the_definition_is_named_with_its_place_and_remedy(function: Any, message: str) -> None:
    with pytest.raises(SkillDefinitionError, match=message):
        skill(function)


def test_a_policy_that_is_none_is_named() -> None:
    for wrong in (7, lambda a, b, c: None):
        with pytest.raises(SkillDefinitionError, match="skill 'wait', policy: .* is no policy. Give a name, an object"):
            policy_name("wait", wrong)  # type: ignore[arg-type]  # what is tested


def test_what_a_strangers_function_raises_ends_the_run_with_its_name_and_not_with_a_traceback() -> None:
    def torn(context: SkillContext) -> bool:
        raise KeyError("front")

    @skill(done=torn)
    def nod(context: SkillContext) -> Iterator[Waypoint]:
        """Nod."""
        yield Waypoint((0.5, 0.0, 0.2))

    result, events, _ = run_skill(nod)
    assert result.outcome == "error"
    assert result.message.startswith("skill 'nod', done: raised KeyError ('front'). Repair the skill; `hiervla skills")
    assert events[-1].type == "run_finished"

    @skill
    def trip(context: SkillContext) -> Iterator[Waypoint]:
        """Trip."""
        yield Waypoint((0.5, 0.0, 1.0 / len(context.step.args)))

    assert "skill 'trip', motion: raised ZeroDivisionError" in run_skill(trip)[0].message


def test_a_motion_that_returns_nothing_is_named() -> None:
    @skill
    def forgets(context: SkillContext) -> Any:
        """Forget to return."""

    with pytest.raises(SkillDefinitionError, match="returned None and not waypoints. Return, or yield, Waypoint"):
        make_policy(forgets.policy).act(observation(), step_of("forgets"))
