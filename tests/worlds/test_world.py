from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from hiervla.controllers import panda
from hiervla.representations import ConventionError, HiervlaError, JointCommand, SnapshotError
from hiervla.worlds.base import SnapshotWorld
from hiervla.worlds.tabletop.scene import SpillSpec, sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld
from tests.worlds.scripted import Hand, scene, thing


def command(q: ArrayLike, dq: NDArray[np.float64] | None = None, width: float = 0.08) -> JointCommand:
    return JointCommand(q=np.array(q), dq=np.zeros(7) if dq is None else dq, gripper_width_m=width, time_s=0.0)


def sway(world: TabletopWorld, ticks: int, offset: int = 0) -> list[tuple[bytes, bytes]]:
    """Wave the arm and the fingers; returns the states passed through."""
    states = []
    for k in range(offset, offset + ticks):
        phase = 0.06 * k
        q = panda.HOME_Q + 0.25 * np.sin(phase) * np.array([1, 0.5, 0, 0.5, 0, 0, 1])
        world.step(command(q, width=0.08 if k % 40 < 20 else 0.0))
        states.append((world.proprio().q.tobytes(), world.snapshot()))
    return states


def test_it_is_a_world_that_can_be_saved() -> None:
    with TabletopWorld(scene(), cameras=()) as world:
        assert isinstance(world, SnapshotWorld)
        assert world.name == "tabletop"


def test_it_starts_at_home_with_the_hand_pointing_down() -> None:
    with TabletopWorld(scene(), cameras=()) as world:
        proprio = world.proprio()
        assert proprio.ee_position == pytest.approx([0.35, 0.0, 0.42], abs=1e-3)
        assert proprio.T_world_ee[:3, 2] == pytest.approx([0, 0, -1], abs=1e-3)
        assert proprio.ee_yaw == pytest.approx(0.0, abs=1e-3)
        assert proprio.gripper_width_m == pytest.approx(0.08, abs=1e-3)
        assert world.time_s == 0.0


def test_a_tick_lasts_a_fiftieth_of_a_second_and_tracks_the_target() -> None:
    with TabletopWorld(scene(), cameras=()) as world:
        goal = panda.HOME_Q + 0.1
        for k in range(1, 51):
            world.step(command(panda.HOME_Q + 0.1 * k / 50, np.full(7, 0.1)))
        assert world.time_s == pytest.approx(1.0)
        assert world.proprio().q == pytest.approx(goal, abs=2e-3)
        assert world.proprio().dq == pytest.approx(np.full(7, 0.1), abs=0.02)


def test_the_gripper_moves_at_its_rated_speed() -> None:
    with TabletopWorld(scene(), cameras=()) as world:
        for _ in range(20):
            world.step(command(panda.HOME_Q, width=0.0))
        assert world.proprio().gripper_width_m == pytest.approx(0.04, abs=0.004)
        for _ in range(40):
            world.step(command(panda.HOME_Q, width=0.0))
        assert world.proprio().gripper_width_m == pytest.approx(0.0, abs=0.001)
        assert world.proprio().gripper_effort_n < 5.0


def test_start_posture_and_noise() -> None:
    q = panda.HOME_Q + 0.05
    with TabletopWorld(scene(), cameras=(), start_q=q) as world:
        assert world.proprio().q == pytest.approx(q, abs=1e-3)
    postures = []
    for seed in (0, 0, 1):
        with TabletopWorld(scene(seed=seed), cameras=(), home_noise=0.02) as world:
            postures.append(world.proprio().q)
    assert np.array_equal(postures[0], postures[1])
    assert not np.allclose(postures[0], postures[2], atol=1e-3)


@pytest.mark.parametrize("bad", [np.full(7, 9.0), np.zeros(6), np.full(7, np.nan)])
def test_an_impossible_start_posture_is_refused(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ConventionError, match="start_q"):
        TabletopWorld(scene(), cameras=(), start_q=bad)


def test_broken_commands_are_refused_and_do_nothing() -> None:
    with TabletopWorld(scene(), cameras=()) as world:
        before = world.snapshot()
        with pytest.raises(ConventionError, match="NaN"):
            world.step(command(np.full(7, np.nan)))
        with pytest.raises(ConventionError, match="NaN"):
            world.step(command(panda.HOME_Q, width=float("inf")))
        with pytest.raises(ConventionError, match="7 joints"):
            world.step(command(np.zeros(6), np.zeros(6)))
        assert world.snapshot() == before


def test_two_worlds_from_one_scene_stay_equal() -> None:
    spec = sample_scene(6, n_objects=6, spill=True, gripper=True)
    with TabletopWorld(spec, cameras=()) as one, TabletopWorld(spec, cameras=()) as two:
        assert sway(one, 40) == sway(two, 40)


def test_restore_repeats_bit_for_bit_even_when_something_looked() -> None:
    spec = sample_scene(7, n_objects=6, spill=True)
    with TabletopWorld(spec, width=64, height=48) as world:
        sway(world, 25)
        saved = world.snapshot()
        first = sway(world, 30, offset=25)
        world.restore(saved)
        assert world.snapshot() == saved
        assert world.time_s == pytest.approx(0.5)
        world.observe()
        again = sway(world, 30, offset=25)
        assert first == again
    with TabletopWorld(spec, cameras=()) as other:
        other.restore(saved)
        assert sway(other, 30, offset=25) == first


def test_restore_brings_a_wiped_spill_back() -> None:
    sponge, spill = thing("sponge", (0.5, -0.15)), SpillSpec(centre=(0.5, 0.05), radius=0.03)
    with TabletopWorld(scene(sponge, spill=spill), width=64, height=48) as world:
        saved = world.snapshot()
        before = world.observe(["front"]).frame("front").rgb
        hand = Hand(world)
        hand.go(0.5, -0.15, 0.1)
        hand.go(0.5, -0.15, 0.019, speed=0.15)
        hand.grip(0.0)
        hand.go(0.5, 0.05, 0.0185)
        wiped = world.snapshot()
        world.restore(saved)
        assert np.array_equal(world.observe(["front"]).frame("front").rgb, before)
        world.restore(wiped)
        assert world.snapshot() == wiped


def _flip(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"", "do not start like"),
        (lambda b: b"PNG" + b, "do not start like"),
        (lambda b: b[:20], "cut off after 20 bytes"),
        (lambda b: b[:-9], "cut off or too long"),
        (lambda b: b + b"x", "cut off or too long"),
        (_flip, "checksum"),
        (lambda b: b[:4] + b"\x63\x00" + b[6:], "version 99"),
    ],
)
def test_damaged_snapshots_are_told_apart(damage: Callable[[bytes], bytes], message: str) -> None:
    with TabletopWorld(scene(thing("mug")), cameras=()) as world:
        whole = world.snapshot()
        with pytest.raises(SnapshotError, match=message) as caught:
            world.restore(damage(whole))
        assert isinstance(caught.value, HiervlaError)
        assert world.snapshot() == whole


def test_a_snapshot_of_another_scene_is_refused() -> None:
    with TabletopWorld(scene(thing("mug")), cameras=()) as one:
        with TabletopWorld(scene(thing("mug", colour="blue")), cameras=()) as other:
            with pytest.raises(SnapshotError, match="another scene"):
                other.restore(one.snapshot())


def test_nothing_public_leads_to_the_truth() -> None:
    """A policy that holds the world can walk all its public attributes and meets no scene and no simulator."""
    with TabletopWorld(scene(thing("mug")), width=64, height=48) as world:
        public = {n for n in dir(world) if not n.startswith("_")}
        assert public == {"cameras", "close", "name", "observe", "proprio", "restore", "snapshot", "step", "time_s"}
        seen = repr((world.cameras, world.name, world.time_s, world.observe()))
        assert "mug" not in seen
