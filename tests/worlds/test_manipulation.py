"""Blind scripted motions: can the gripper hold, the sponge wipe, the drawer slide, things stand?"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import ObjectSpec, SpillSpec, sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld
from tests.worlds.scripted import Hand, scene, thing


def start(*objects: ObjectSpec, **kwargs: Any) -> tuple[Hand, GroundTruth]:
    world = TabletopWorld(scene(*objects, **kwargs), cameras=())
    return Hand(world), GroundTruth(world)


def take(hand: Hand, truth: GroundTruth, name: str) -> None:
    spec, (x, y, z) = truth.spec(name), truth.position(name)
    hand.grip(0.08, 0.1)
    hand.go(x, y, z + spec.size[2] + 0.08, speed=0.4)
    hand.go(x, y, z + spec.grasp_z, yaw=truth.yaw(name) if spec.category in ("sponge", "block") else None, speed=0.2)
    hand.grip(0.0, 0.7)


def put(hand: Hand, spec: ObjectSpec, x: float, y: float, z: float) -> None:
    hand.go(hand.position[0], hand.position[1], 0.42, speed=0.4)
    hand.go(x, y, z + spec.grasp_z + 0.10, speed=0.4)
    hand.go(x, y, z + spec.grasp_z + 0.003, speed=0.15)
    hand.grip(0.07, 0.5)
    hand.by(dz=0.14)
    hand.wait(0.3)


def in_hand(hand: Hand, truth: GroundTruth, name: str) -> NDArray[np.float64]:
    return np.linalg.inv(hand.world.proprio().T_world_ee) @ truth.pose(name)


@pytest.mark.parametrize(
    ("category", "size", "yaw"),
    [
        ("block", (0.036, 0.036, 0.036), 0.0),
        ("block", (0.046, 0.046, 0.046), 0.7),
        ("mug", (0.056, 0.056, 0.070), 0.5),
        ("mug", (0.066, 0.066, 0.090), 3.6),
        ("can", (0.052, 0.052, 0.090), 0.3),
        ("can", (0.066, 0.066, 0.110), 0.0),
        ("sponge", None, 0.5),
    ],
)
def test_what_is_gripped_stays_gripped(category: str, size: tuple[float, float, float] | None, yaw: float) -> None:
    hand, truth = start(thing(category, size=size, yaw=yaw))
    name = f"{category}_0"
    take(hand, truth, name)
    assert truth.held() == name
    assert hand.world.proprio().gripper_effort_n > 20.0
    assert ("on", name, "table") in truth.facts()
    hand.by(dz=0.15)
    before = in_hand(hand, truth, name)
    assert truth.facts() == {("on", name, "gripper"), ("drawer_closed",)}
    for dx, dy in ((0.03, 0.0), (-0.06, 0.03), (0.03, -0.06), (0.0, 0.03)):
        hand.by(dx=dx, dy=dy, speed=0.4)
    after = in_hand(hand, truth, name)
    assert np.linalg.norm(after[:3, 3] - before[:3, 3]) < 0.002
    assert np.trace(after[:3, :3].T @ before[:3, :3]) > 1 + 2 * np.cos(np.deg2rad(2))
    hand.by(dz=-0.148, speed=0.2)
    hand.grip(0.08, 0.5)
    hand.by(dz=0.1)
    assert truth.facts() == {("on", name, "table"), ("drawer_closed",)}
    assert truth.pose(name)[2, 2] > 0.999


def test_an_empty_grip_holds_nothing() -> None:
    hand, truth = start(thing("mug", (0.6, -0.2)))
    hand.go(0.45, 0.1, 0.03)
    hand.grip(0.0, 1.0)
    assert truth.held() is None
    assert hand.world.proprio().gripper_effort_n < 5.0


@pytest.mark.parametrize(
    ("category", "spot", "fact"),
    [
        ("mug", (0.38, -0.592, 0.20), "top_shelf"),
        ("can", (0.22, -0.592, 0.20), "top_shelf"),
        ("mug", (0.38, -0.400, 0.06), "bottom_shelf"),
        ("block", (0.22, -0.400, 0.06), "bottom_shelf"),
        ("can", (0.20, 0.460, 0.006), "bin"),
    ],
)
def test_shelves_and_bin_can_be_filled(category: str, spot: tuple[float, float, float], fact: str) -> None:
    hand, truth = start(thing(category, (0.45, -0.1)))
    name = f"{category}_0"
    take(hand, truth, name)
    put(hand, truth.spec(name), *spot)
    assert ("on", name, fact) in truth.facts()


@pytest.mark.parametrize(
    ("upper", "lower"), [("block", "block"), ("block", "bowl"), ("mug", "plate"), ("can", "plate")]
)
def test_things_stack(upper: str, lower: str) -> None:
    top, base = thing(upper, (0.45, -0.12), number=5), thing(lower, (0.5, 0.05))
    hand, truth = start(top, base)
    take(hand, truth, top.id)
    put(hand, top, 0.5, 0.05, base.carry_z)
    assert ("on", top.id, base.id) in truth.facts()
    assert ("on", base.id, "table") in truth.facts()


def test_the_drawer_opens_by_its_handle_takes_a_block_and_shuts() -> None:
    hand, truth = start(thing("block", (0.45, -0.1)))
    x, y, z = truth.handle()
    assert ("drawer_closed",) in truth.facts()
    hand.grip(0.04, 0.4)
    hand.go(x, y, z + 0.1)
    hand.go(x, y, z, speed=0.2)
    hand.grip(0.0, 0.4)
    hand.by(dy=-0.15, speed=0.2)
    hand.grip(0.04, 0.3)
    hand.by(dz=0.12)
    assert ("drawer_open",) in truth.facts()
    assert ("drawer_closed",) not in truth.facts()
    take(hand, truth, "block_0")
    hand.by(dz=0.15)
    drawer = truth.scene.furniture.region("drawer", truth.drawer_opening())
    hand.go(*drawer.centre, 0.2, yaw=np.pi / 2)
    hand.go(*drawer.centre, drawer.z + 0.026, speed=0.2)
    hand.grip(0.06, 0.4)
    hand.by(dz=0.16)
    assert ("on", "block_0", "drawer") in truth.facts()
    # Shut it with closed fingers against the front panel.
    hand.grip(0.0, 0.3)
    _, y, _ = truth.handle()
    hand.go(x, y - 0.03, 0.2, yaw=0.0)
    hand.go(x, y - 0.03, 0.06, speed=0.2)
    hand.by(dy=truth.drawer_opening() + 0.015, speed=0.2)
    assert ("drawer_closed",) in truth.facts()
    assert ("on", "block_0", "drawer") in truth.facts()


def test_the_drawer_stays_where_it_was_left() -> None:
    hand, truth = start(drawer_open=0.06)
    hand.wait(2.0)
    assert truth.drawer_opening() == pytest.approx(0.06, abs=1e-3)
    assert not {("drawer_open",), ("drawer_closed",)} & truth.facts()


def test_wiping_needs_the_sponge_and_contact() -> None:
    spill = SpillSpec(centre=(0.48, 0.03), radius=0.04)
    hand, truth = start(thing("sponge", (0.5, -0.15)), thing("block", (0.4, -0.15)), spill=spill)
    assert truth.spill_remaining() == 1.0
    take(hand, truth, "sponge_0")
    hand.by(dz=0.1)
    hand.go(0.48, -0.05, 0.05)
    hand.go(0.48, 0.12, 0.05)
    assert truth.spill_remaining() == 1.0, "the sponge passed 30 mm above the spill"
    hand.go(0.48, -0.06, 0.05)
    hand.go(0.48, -0.06, 0.0185, speed=0.15)
    assert ("spill_clean", "spill_0") not in truth.facts()
    hand.go(0.48, 0.12, 0.0185, speed=0.2)
    assert truth.held() == "sponge_0"
    assert truth.spill_remaining() <= 0.1
    assert ("spill_clean", "spill_0") in truth.facts()


def test_only_a_sponge_wipes() -> None:
    hand, truth = start(thing("block", (0.48, -0.1)), spill=SpillSpec(centre=(0.48, 0.03), radius=0.03))
    take(hand, truth, "block_0")
    hand.go(0.48, 0.08, 0.022)
    assert truth.spill_remaining() == 1.0


@pytest.mark.parametrize("category", ["block", "mug", "can", "sponge"])
def test_a_scene_may_start_with_something_in_the_gripper(category: str) -> None:
    spec = sample_scene(3, n_objects=3, require=[(category, None, "gripper")])
    with TabletopWorld(spec, cameras=(), home_noise=0.02) as world:
        hand, truth = Hand(world), GroundTruth(world)
        name = spec.objects[0].id
        assert truth.held() == name
        assert ("on", name, "gripper") in truth.facts()
        before = in_hand(hand, truth, name)
        hand.grip(0.0, 0.5)
        hand.by(dx=0.1, dy=0.1, speed=0.4)
        assert np.linalg.norm(in_hand(hand, truth, name)[:3, 3] - before[:3, 3]) < 0.002


def test_sampled_scenes_are_at_rest_and_true_to_their_recipe() -> None:
    for seed in range(12):
        spec = sample_scene(seed, gripper=None, shelf_prob=0.4)
        with TabletopWorld(spec, cameras=()) as world:
            truth = GroundTruth(world)
            assert truth.facts() == spec.facts()
            for o in spec.objects:
                assert truth.speed(o.id) < 0.01
                assert np.linalg.norm(truth.position(o.id) - o.position) < 0.006
