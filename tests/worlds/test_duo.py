"""Two arms at one table: each sees its half as it would see a table of its own, and both share one time and one bin."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.fence import Fence
from hiervla.controllers.kinematics import Kinematics
from hiervla.controllers.shape import ArmShape
from hiervla.representations import CameraError, JointCommand, SnapshotError, UnknownNameError
from hiervla.worlds.base import ArmsWorld, SnapshotWorld, World
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.scene import SceneRequestError
from hiervla.worlds.tabletop.world import TabletopWorld
from hiervla.worlds.tabletop_duo.privileged import DuoTruth
from hiervla.worlds.tabletop_duo.scene import ARMS, SHARED_BIN_XY, SHARED_SPACE, DuoScene, sample_duo_scene
from hiervla.worlds.tabletop_duo.world import DuoWorld


@pytest.fixture(scope="module")
def scene() -> DuoScene:
    return sample_duo_scene(3)


def command(q: np.ndarray, width: float = 0.08) -> JointCommand:
    return JointCommand(q=q, dq=np.zeros(7), gripper_width_m=width, time_s=0.0)


def test_each_arm_stands_and_sees_as_if_it_were_alone(scene: DuoScene) -> None:
    with DuoWorld(scene, width=64, height=48) as world:
        assert isinstance(world, ArmsWorld)
        for arm in ARMS:
            view = world.arm(arm)
            assert isinstance(view, World) and isinstance(view, SnapshotWorld)
            with TabletopWorld(scene.half(arm), width=64, height=48) as alone:
                seen, own = view.observe(), alone.observe()
                np.testing.assert_allclose(seen.proprio.T_world_ee, own.proprio.T_world_ee, atol=1e-4)
                for frame, other in zip(seen.frames, own.frames, strict=True):
                    assert frame.name == other.name
                    np.testing.assert_allclose(frame.T_world_camera, other.T_world_camera, atol=1e-4)
                    np.testing.assert_allclose(frame.K, other.K)
                truth, told = GroundTruth(alone), DuoTruth(world).halves[arm]
                for thing in truth.object_ids:
                    np.testing.assert_allclose(told.pose(thing), truth.pose(thing), atol=2e-3)
                assert told.facts() == truth.facts()
                # Of what is drawn, only what lies behind the seam differs: the middle of the picture is the same.
                near, same = seen.frames[0].require_depth(), own.frames[0].require_depth()
                assert np.abs(near[20:44, 16:44] - same[20:44, 16:44]).mean() < 0.01


def test_both_arms_move_in_one_tick_and_the_same_commands_give_the_same_states(scene: DuoScene) -> None:
    goal = panda.HOME_Q + 0.05
    with DuoWorld(scene, cameras=()) as one, DuoWorld(scene, cameras=()) as other:
        assert one.snapshot() == other.snapshot()
        for world in (one, other):
            for k in range(10):
                world.step({arm: command(panda.HOME_Q + (k + 1) / 10 * 0.05) for arm in ARMS})
        assert one.time_s == one.arm("right").time_s == pytest.approx(0.2)
        assert one.snapshot() == other.snapshot()
        for arm in ARMS:
            np.testing.assert_allclose(one.arm(arm).proprio().q, goal, atol=0.02)
        saved = one.snapshot()
        one.arm("left").step(command(panda.HOME_Q))
        after = one.snapshot()
        np.testing.assert_allclose(one.arm("right").proprio().q, goal, atol=0.02)
        one.arm("right").restore(saved)
        assert one.snapshot() == saved
        one.arm("left").step(command(panda.HOME_Q))
        assert one.snapshot() == after
    with DuoWorld(sample_duo_scene(4), cameras=()) as another, pytest.raises(SnapshotError, match="another scene"):
        another.restore(saved)


def test_arms_that_meet_touch_and_it_is_told(scene: DuoScene) -> None:
    kinematics = Kinematics()
    over_bin = kinematics.solve_topdown((*SHARED_BIN_XY, 0.25), 0.0, panda.HOME_Q)
    with DuoWorld(scene, cameras=()) as world:
        truth = DuoTruth(world)
        assert truth.collisions() == ()
        for k in range(60):
            world.step({arm: command(panda.HOME_Q + min(1.0, k / 45) * (over_bin - panda.HOME_Q)) for arm in ARMS})
        met = truth.collisions()
        assert met
        assert all(a.startswith("left_") and b.startswith("right_") for a, b in met)
        apart = [world.arm(arm).proprio().ee_position[1] for arm in ARMS]
        assert sum(apart) < 2 * SHARED_BIN_XY[1] - 0.02, "they have to hold each other off"


def test_the_shared_space_keeps_arms_apart_that_keep_to_it(scene: DuoScene) -> None:
    with DuoWorld(scene, cameras=()) as world:
        bases = world.T_root_base("right")
        distance = float(bases[:3, 3] @ np.array(SHARED_SPACE.normal))
        assert SHARED_SPACE.free_m + SHARED_SPACE.entered_m <= distance - 0.055
        space = world.shared_space("right")
    fence = Fence(space.name, space.normal, space.free_m, space.entered_m)
    shape, kinematics = ArmShape(), Kinematics()
    assert fence.clear(shape, panda.HOME_Q)
    over_bin = kinematics.solve_topdown((*SHARED_BIN_XY, 0.2), 0.0, panda.HOME_Q)
    assert not fence.clear(shape, over_bin)
    shape.place(over_bin)
    assert shape.extent(fence.normal) < fence.entered_m


def test_names_that_do_not_exist_are_told(scene: DuoScene) -> None:
    with pytest.raises(CameraError, match="top"):
        DuoWorld(scene, cameras=("top",))
    with DuoWorld(scene, cameras=()) as world:
        with pytest.raises(UnknownNameError, match="Known: left, right"):
            world.arm("middle")
        with pytest.raises(UnknownNameError, match="arm 'middle'"):
            world.step({"middle": command(panda.HOME_Q)})


def test_scenes_repeat_and_no_two_things_have_one_name() -> None:
    for seed in range(4):
        scene = sample_duo_scene(seed)
        assert scene == sample_duo_scene(seed) == DuoScene.from_json(scene.to_json())
        names = [o.name for arm in ARMS for o in scene.half(arm).objects]
        assert len(set(names)) == len(names) == 6
        assert scene.left.furniture.bin_xy == scene.right.furniture.bin_xy == SHARED_BIN_XY
    with pytest.raises(SceneRequestError, match="name others"):
        sample_duo_scene(0, left=[("can", "red", "table")], right=[("can", "red", "table")])
    with pytest.raises(ValueError, match="one bin"):
        half = scene.right.replace(furniture=scene.right.furniture.replace(bin_xy=(0.2, 0.4)))
        scene.replace(right=half)


def test_nothing_public_leads_to_the_truth(scene: DuoScene) -> None:
    with DuoWorld(scene, width=64, height=48) as world:
        public = {n for n in dir(world.arm("left")) if not n.startswith("_")}
        assert public == {"cameras", "close", "name", "observe", "proprio", "restore", "snapshot", "step", "time_s"}
        every = {n for n in dir(world) if not n.startswith("_")}
        motion = {"arm", "arms", "close", "name", "restore", "shared_space", "snapshot", "step", "time_s"}
        assert every == motion | {"T_root_base"}


def test_what_stands_on_the_other_halfs_thing_in_the_bin_is_in_the_bin(scene: DuoScene) -> None:
    with DuoWorld(scene, cameras=()) as world:
        truth = DuoTruth(world)
        for arm, height in (("left", 0.006), ("right", 0.006 + scene.left.object("can_0").size[2] + 0.001)):
            address = truth.halves[arm]._address("can_0")
            world._data.qpos[address : address + 7] = (*SHARED_BIN_XY, height, 1.0, 0.0, 0.0, 0.0)
        for _ in range(30):
            world.step({})
        assert ("right", "on", "can_0", "left_can_0") in truth.facts() or truth.place("right", "can_0") == "bin"
        assert truth.place("left", "can_0") == truth.place("right", "can_0") == "bin"
        assert truth.place("left", "mug_0") == "table"
        with pytest.raises(UnknownNameError):
            truth.place("left", "can_7")
