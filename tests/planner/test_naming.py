"""Names in an instruction held against what is seen: nothing is done to another thing; what is named is sought."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.planner.base import PlannerContext, StepRecord
from hiervla.planner.embedded.naming import absent, named
from hiervla.planner.embedded.planner import EmbeddedPlanner
from hiervla.planner.embedded.slots import SceneSlots, one_hot_slots
from hiervla.representations import Plan, Refusal
from hiervla.skills.registry import SkillLibrary
from hiervla.training.tasks import sample_task
from hiervla.training.tasks.examples import example_of
from hiervla.training.tasks.tabletop import sample_scene_for
from hiervla.worlds.tabletop.world import TabletopWorld

SKILLS = SkillLibrary.load().signatures()
SLOTS = one_hot_slots([("block", "red", "table", 0.3, 0.5), ("can", "green", "table", 0.6, 0.5)])


@pytest.fixture(scope="module")
def planner() -> EmbeddedPlanner:
    return EmbeddedPlanner()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Can you put the red cube on a dish?", ["red block", "plate"]),
        ("throw all cans away and blue blocks too", []),
        ("green tin and orange cup on the top shelf", ["green can", "orange mug"]),
        ("could you can that, can", []),
        ("the red block on the red block", ["red block"]),
    ],
)
def test_single_things_are_named_by_article_or_colour(text: str, names: list[str]) -> None:
    assert named(text) == names


def test_what_is_named_and_not_seen_is_absent_unless_it_was_dealt_with() -> None:
    assert absent("put the red block beside the can", SLOTS) == ""
    assert absent("put the blue block beside the can", SLOTS) == "blue block"
    assert absent("put the red block on the plate", SLOTS) == "plate"
    assert absent("put the blue block on the plate", SLOTS, ["blue block", "white plate"]) == ""
    assert absent("put the blue block on the red plate", SLOTS, ["blue block", "white plate"]) == "red plate"
    doubtful = SceneSlots(SLOTS.category, SLOTS.colour.copy(), SLOTS.state, SLOTS.uv)
    doubtful.colour[0] = 0.0
    doubtful.colour[0, 1:3] = 0.8, 0.2
    assert absent("put the green block beside the can", doubtful) == "", "it may well be green"
    assert absent("pick up the mug", one_hot_slots([])) == "mug"


def test_no_generated_instruction_names_a_thing_that_is_not_there() -> None:
    rng = np.random.default_rng(4)
    asked = 0
    for family in ("shelf", "drawer", "stack", "swap", "rubbish", "multi") * 8:
        task = sample_task(rng, family, "test")
        example = example_of(rng, task)
        # Of a thing that nobody can see, the instruction may speak all the same.
        if example is not None and all(i in example.ids for m in task.mentions for i in m.ids):
            asked += 1
            assert absent(task.instruction, example.slots) == "", task.instruction
    assert asked > 30


def test_a_block_that_its_neighbour_hides_is_found_because_it_is_named(planner: EmbeddedPlanner) -> None:
    scene, task = sample_scene_for("multi", 500_004, "test", 8, 8)
    assert "the white block" in task.instruction
    with TabletopWorld(scene) as world:
        seen = world.observe(["front"])
    context = PlannerContext(skills=SKILLS)
    plan = planner.plan(seen, task.instruction, context)
    other = planner.plan(seen, "throw the orange can away", context)
    assert isinstance(plan, Plan) and isinstance(other, Plan)
    told = [[k.label for a in p.scene if a.kind == "keypoints" for k in a.points] for p in (plan, other)]
    assert any(x.startswith("white block") for x in told[0])
    assert not any(x.startswith("white block") for x in told[1]), "it is hard to see, and the search is what finds it"
    assert [s.args["object"] for s in plan.steps[:2]] == ["green block", "green block"], "the upper one comes off first"
    fresh = planner.refresh(seen, plan.replace(remaining=plan.remaining[2:], done=plan.remaining[:2]), context)
    assert fresh is not None and fresh.step(fresh.remaining[0]).args["object"] == "white block"


def test_another_thing_is_not_taken_for_one_that_is_not_there(planner: EmbeddedPlanner) -> None:
    scene, _ = sample_scene_for("stack", 500_001, "test")
    with TabletopWorld(scene) as world:
        seen = world.observe(["front"])
    colours = {o.colour for o in scene.objects if o.category == "block"}
    missing = next(c for c in ("purple", "orange", "white", "red", "blue") if c not in colours)
    here = sorted(colours)[0]
    for text in (f"stack the {missing} block on the {here} block", f"swap the {missing} cube and the {here} cube"):
        answer = planner.plan(seen, text, PlannerContext(skills=SKILLS))
        assert isinstance(answer, Refusal) and answer.reason == "not_in_scene", text
        assert answer.missing == (f"{missing} block",)
        assert f"no {missing} block" in answer.message


def test_what_a_step_has_dealt_with_may_be_out_of_sight(planner: EmbeddedPlanner) -> None:
    scene, _ = sample_scene_for("rubbish", 500_001, "test")
    with TabletopWorld(scene) as world:
        seen = world.observe(["front"])
    loose = [o for o in scene.objects if o.category == "block" and o.support == "table"]
    text = f"throw the yellow mug away and then put the {loose[0].colour} block on the bottom shelf"
    assert isinstance(planner.plan(seen, text, PlannerContext(skills=SKILLS)), Refusal)
    first = planner.plan(seen, f"put the {loose[0].colour} block on the bottom shelf", PlannerContext(skills=SKILLS))
    assert isinstance(first, Plan)
    thrown = [
        StepRecord(step=first.steps[0].replace(skill=skill, args={"object": "yellow mug"}), outcome="succeeded")
        for skill in ("pick", "throw_away")
    ]
    answer = planner.plan(seen, text, PlannerContext(skills=SKILLS, history=tuple(thrown)))
    assert isinstance(answer, Plan) and answer.remaining
