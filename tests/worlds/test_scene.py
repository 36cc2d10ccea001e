import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError

from hiervla.worlds.tabletop.scene import (
    COLOURS,
    PICKABLE,
    PLACES,
    FurnitureSpec,
    ObjectSpec,
    Request,
    SceneRequestError,
    SceneSpec,
    sample_scene,
)
from tests.worlds.scripted import scene, thing


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert sample_scene(4) == sample_scene(4)
    assert sample_scene(4) != sample_scene(5)
    assert sample_scene(np.random.default_rng(0)) == sample_scene(np.random.default_rng(0))


def test_a_scene_survives_json() -> None:
    spec = sample_scene(3, spill=True)
    assert SceneSpec.from_json(spec.to_json()) == spec


def test_requests_come_first_and_in_order() -> None:
    wishes: list[Request] = [
        ("mug", "red"),
        ("plate", None),
        ("block", "blue", "#1"),
        ("can", None, "top_shelf"),
        ("sponge", None, "gripper"),
    ]
    for seed in range(15):
        spec = sample_scene(seed, n_objects=7, require=wishes)
        mug, plate, block, can, sponge = spec.objects[:5]
        assert (mug.category, mug.colour, plate.category) == ("mug", "red", "plate")
        assert (block.category, block.colour, block.support) == ("block", "blue", plate.id)
        assert (can.category, can.support, sponge.support) == ("can", "top_shelf", "gripper")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (("cup", "red"), "unknown category 'cup'; known: block, mug, can, sponge, bowl, plate"),
        (("mug", "pink"), "unknown colour 'pink'"),
        (("mug", None, "roof"), "unknown support 'roof'"),
        (("mug", None, "#0"), "unknown support '#0'"),
        (("plate", None, "drawer"), "only block, sponge can be there"),
    ],
)
def test_impossible_requests_are_named(wish: Request, message: str) -> None:
    with pytest.raises(SceneRequestError) as caught:
        sample_scene(0, require=[wish])
    assert message in str(caught.value)


def test_too_many_requests_are_refused() -> None:
    with pytest.raises(SceneRequestError, match="no room"):
        sample_scene(0, require=[("plate", None)] * 12)


def test_options_decide_what_is_there() -> None:
    for seed in range(12):
        spec = sample_scene(seed, n_objects=6, spill=True, drawer_open=True, gripper=True, stacks=1, same_category=True)
        assert spec.spill is not None
        assert spec.drawer_open > 0.12
        assert len(spec.carried_by("gripper")) == 1
        assert any(o.support.startswith(("block_", "bowl_", "plate_")) for o in spec.objects)
        kinds = {o.category: o.colour for o in spec.objects}
        assert len(kinds) < len(spec.objects)
    bare = sample_scene(1, n_objects=3, spill=False, drawer_open=False, gripper=False, stacks=0, shelf_prob=0.0)
    assert bare.spill is None
    assert bare.drawer_open == 0.0
    assert {o.support for o in bare.objects} == {"table"}


def test_names_are_distinct_unless_twins_are_allowed() -> None:
    for seed in range(40):
        names = [o.name for o in sample_scene(seed, n_objects=8).objects]
        assert len(set(names)) == len(names)
    twins = sample_scene(0, require=[("block", "red"), ("block", "red")])
    assert twins.objects[0].name == twins.objects[1].name


def test_things_on_the_table_leave_room_for_the_hand() -> None:
    for seed in range(60):
        spec = sample_scene(seed)
        for a, b in itertools.combinations(spec.carried_by("table"), 2):
            gap = math.dist(a.position[:2], b.position[:2])
            assert gap >= 0.11
            assert gap >= a.radius + b.radius + 0.02
        for o in spec.carried_by("table"):
            assert 0.33 < o.position[0] < 0.67
            assert -0.30 < o.position[1] - o.radius and o.position[1] + o.radius < 0.18
            if spec.spill is not None:
                assert math.dist(o.position[:2], spec.spill.centre) > spec.spill.radius + o.radius


def test_shelves_keep_a_free_spot_and_pieces_stand_inside_their_places() -> None:
    for seed in range(60):
        spec = sample_scene(seed, shelf_prob=0.8)
        for place in PLACES:
            held = spec.carried_by(place)
            if place == "table":
                continue
            assert len(held) <= 2
            region = spec.furniture.region(place, spec.drawer_open)
            for o in held:
                assert o.category in PICKABLE
                assert region.contains(o.position[0], o.position[1], margin=0.02)
                assert o.position[2] == region.z


def test_all_colours_categories_and_places_occur() -> None:
    seen = [o for seed in range(120) for o in sample_scene(seed, gripper=None).objects]
    assert {o.colour for o in seen} == set(COLOURS)
    assert {o.support for o in seen} >= {*PLACES, "gripper", "block_0", "plate_0", "bowl_0"}


def test_the_drawer_region_and_handle_move_with_the_opening() -> None:
    furniture = FurnitureSpec()
    shut, pulled = furniture.region("drawer"), furniture.region("drawer", 0.15)
    assert pulled.centre[1] == pytest.approx(shut.centre[1] - 0.15)
    assert furniture.handle(0.15)[1] == pytest.approx(furniture.handle()[1] - 0.15)


def test_contradictory_specs_are_refused() -> None:
    with pytest.raises(ValidationError, match="same id"):
        scene(thing("mug"), thing("mug"))
    with pytest.raises(ValidationError, match="neither|no place"):
        scene(thing("mug", support="attic"))
    with pytest.raises(ValidationError, match="one object only"):
        scene(thing("mug", support="gripper"), thing("can", support="gripper"))
    with pytest.raises(ValidationError, match="size"):
        ObjectSpec(id="mug_0", category="mug", colour="red", size=(0.06, 0.06, -1.0), position=(0, 0, 0))


def test_facts_speak_of_supports_and_drawer() -> None:
    spec = scene(thing("plate"), thing("block", support="plate_0", z=0.006), drawer_open=0.14)
    assert spec.facts() == {("on", "plate_0", "table"), ("on", "block_0", "plate_0"), ("drawer_open",)}
    assert ("drawer_closed",) in scene().facts()
