"""Who does what, decided from planners' answers alone; and who has what."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from hiervla.executor.arms.claims import Claims
from hiervla.executor.arms.conductor import Conductor
from hiervla.executor.arms.sharing import Shared, share_of, share_out, shared
from hiervla.executor.testing import KinematicArms
from hiervla.representations import JointCommand, Plan, Provenance, Refusal, Step

ARMS = ("left", "right")
Answers = Mapping[tuple[str, str], Plan | Refusal]


def tidy(*things: str, asked: str = "", requests: str = "", where: str = "top shelf") -> Plan:
    """A plan that picks things up and puts them somewhere, as a planner answers."""
    steps = []
    for k, thing in enumerate(things):
        pick = Step(id=f"s{2 * k + 1}", skill="pick", args={"object": thing, "source": "table"})
        place = Step(id=f"s{2 * k + 2}", skill="place", args={"object": thing, "target": where})
        steps += [pick, place.replace(depends_on=(pick.id,))]
    told = Provenance(model="m", sampling={"requests": requests} if requests else {})
    return Plan(goal=asked, steps=tuple(steps), remaining=tuple(s.id for s in steps), provenance=told)


def no(thing: str, requests: str = "") -> Refusal:
    told = Provenance(model="m", sampling={"requests": requests} if requests else {})
    return Refusal(
        reason="not_in_scene", message=f"There is no {thing}.", missing=(thing,), seen=("bin",), provenance=told
    )


def share(instruction: str, answers: Answers, spots: Mapping[str, tuple[float, ...]] | None = None) -> Shared | Refusal:
    def where(arm: str, step: Step) -> np.ndarray | None:
        spot = (spots or {}).get(f"{arm} {step.args['object']}")
        return None if spot is None else np.array(spot)

    return share_out(instruction, ARMS, lambda arm, words: answers[arm, words], where)


def who(found: Shared | Refusal) -> dict[str, str | None]:
    assert isinstance(found, Shared), found
    return {f"{s.skill} {s.args['object']}": s.arm for s in found.plan.steps}


def test_a_request_that_names_nothing_is_for_all_and_one_that_names_its_thing_for_one() -> None:
    words = "clear the table"
    both = share(words, {("left", words): tidy("red can"), ("right", words): tidy("blue can")})
    assert who(both) == {
        "pick red can": "left", "place red can": "left", "pick blue can": "right", "place blue can": "right",
    }  # fmt: skip
    words = "put the blue can on the top shelf"
    one = share(words, {("left", words): tidy("red can"), ("right", words): tidy("blue can")})
    assert set(who(one).values()) == {"right"}, "the left planner took the wrong thing"
    words = "put the can on the top shelf"
    either = share(words, {("left", words): tidy("red can"), ("right", words): tidy("blue can")})
    assert set(who(either).values()) == {"left"}
    words = "put every can on the top shelf"
    each = share(words, {("left", words): tidy("red can"), ("right", words): tidy("blue can")})
    assert set(who(each).values()) == {"left", "right"}


def test_a_sentence_with_a_thing_on_either_side_is_taken_apart() -> None:
    one, other = "throw the red can away", "put the blue mug on the top shelf"
    whole, parts = f"{one} and {other}", f"{one} | {other}"
    answers: dict[tuple[str, str], Plan | Refusal] = {
        ("left", whole): no("blue mug", parts), ("right", whole): no("red can", parts),
        ("left", one): tidy("red can"), ("right", one): no("red can"),
        ("left", other): no("blue mug"), ("right", other): tidy("blue mug"),
    }  # fmt: skip
    found = share(whole, answers)
    assert isinstance(found, Shared)
    assert {arm: s.instruction for arm, s in found.shares.items()} == {"left": one, "right": other}
    assert not any(s.depends_on for s in found.plan.steps if s.skill == "pick")
    then = f"{one} then {other}"
    ordered = share(then, {**answers, ("left", then): no("blue mug", parts), ("right", then): no("red can", parts)})
    assert isinstance(ordered, Shared)
    late = ordered.plan.step("right.s1")
    assert set(late.depends_on) == {"left.s1", "left.s2"}
    claims = Claims.of(ordered.plan, ARMS)
    assert claims.unmet("right", late) and not claims.unmet("left", ordered.plan.step("left.s1"))
    nobody = share(whole, {**answers, ("right", other): no("blue mug")})
    assert isinstance(nobody, Refusal)
    assert nobody.message == f"No arm can do '{other}': There is no blue mug."


def test_one_thing_that_both_see_is_picked_up_once() -> None:
    words = "clear the table"
    answers: Answers = {("left", words): tidy("red can", "red mug"), ("right", words): tidy("orange can")}
    same = share(words, answers, {"left red can": (0.3, 0.4, 0.0), "right orange can": (0.31, 0.42, 0.0)})
    assert who(same) == {
        "pick red mug": "left", "place red mug": "left", "pick orange can": "right", "place orange can": "right",
    }  # fmt: skip
    apart = share(words, answers, {"left red can": (0.3, 0.4, 0.0), "right orange can": (0.3, 0.5, 0.0)})
    assert len(who(apart)) == 6


def test_what_one_arm_moves_and_the_other_uses_comes_in_the_given_order() -> None:
    steps = (
        Step(id="a", skill="pick", args={"object": "red can"}, arm="left"),
        Step(id="b", skill="throw_away", args={"object": "red can"}, arm="left", depends_on=("a",)),
        Step(id="c", skill="pick", args={"object": "red can", "source": "bin"}, arm="right"),
        Step(id="d", skill="pick", args={"object": "blue can"}, arm="right"),
    )
    found = shared(Plan(goal="hand it over", steps=steps, remaining=("a", "b", "c", "d")), ARMS)
    assert set(found.plan.step("c").depends_on) == {"a", "b"}
    assert found.plan.step("d").depends_on == ()
    alone = share_of(found.plan, "right")
    assert [(s.id, s.depends_on) for s in alone.steps] == [("c", ()), ("d", ())]


def test_claims_are_first_come_first_served_and_all_or_nothing() -> None:
    step = Step(id="s1", skill="touch")
    claims = Claims({}, set(ARMS))
    claims.take("left", step, ("arm:left", "space:bin"))
    (holder,) = claims.blockers("right", ("arm:right", "space:bin"))
    assert (holder.arm, holder.step_id) == ("left", "s1")
    claims.wait("right", ("arm:right", "space:bin"))
    assert not claims.stuck
    assert claims.let_go("left") == ("arm:left", "space:bin")
    (first,) = claims.blockers("left", ("arm:left", "space:bin"))
    assert (first.arm, first.step_id) == ("right", ""), "who waits comes before who has just had it"
    claims.wait("left", ("space:bin",))
    assert claims.stuck
    claims.take("right", step, ("arm:right", "space:bin"))
    assert not claims.stuck
    claims.leave("right")
    assert claims.blockers("left", ("space:bin",)), "an arm that has ended keeps what it has not let go of"


def test_loops_take_turns_and_a_broken_world_is_told_to_every_loop() -> None:
    world, order = KinematicArms(), []
    conductor = Conductor(world)

    def loop(arm: str, ticks: int) -> int:
        for k in range(ticks):
            order.append((arm, k))
            q = world.views[arm].proprio().q
            command = JointCommand(q=q, dq=np.zeros(7), gripper_width_m=0.08, time_s=world.time_s)
            conductor.tick(arm, command)
        return ticks

    assert conductor.run({"left": lambda: loop("left", 2), "right": lambda: loop("right", 3)}) == {
        "left": 2, "right": 3,
    }  # fmt: skip
    assert order == [("left", 0), ("right", 0), ("left", 1), ("right", 1), ("right", 2)]
    assert len(world.views["left"].commands) == len(world.views["right"].commands) == 3

    def fail(commands: Mapping[str, JointCommand]) -> None:
        raise RuntimeError("the power is off")

    world.step = fail  # type: ignore[method-assign]  # a world that breaks
    order.clear()
    with pytest.raises(RuntimeError, match="the power is off"):
        conductor.run({"left": lambda: loop("left", 1), "right": lambda: loop("right", 1)})
    assert order == [("left", 0), ("right", 0)]
