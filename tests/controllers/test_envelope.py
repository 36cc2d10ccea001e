from __future__ import annotations

import numpy as np
import pytest

from hiervla.controllers import panda
from hiervla.controllers.envelope import Check, EnvelopeEvent, EnvelopeLimits, SafeWorld, guard, world_snapshot
from hiervla.controllers.kinematics import Kinematics, panda_limits
from hiervla.controllers.limits import Array, JointLimits, Workspace
from hiervla.controllers.shape import ArmShape
from hiervla.controllers.testing import PerfectArm
from hiervla.controllers.timing import TICK_S, state_to_state
from hiervla.representations.actions import JointCommand

HOME = np.array(panda.HOME_Q)
LIMITS = panda_limits()


class Rig:
    """A perfect arm behind an envelope, and what the envelope reported."""

    def __init__(self, q: Array = HOME, limits: EnvelopeLimits | None = None) -> None:
        self.arm = PerfectArm(q)
        self.events: list[EnvelopeEvent] = []
        self.safe = SafeWorld(self.arm, limits, self.events.append)

    def send(self, q: Array, *, dq: Array | None = None, width: float = 0.08, time_s: float | None = None) -> None:
        at = self.arm.time_s if time_s is None else time_s
        speed = np.zeros(len(q)) if dq is None else dq
        self.safe.step(JointCommand(q=q, dq=speed, gripper_width_m=width, time_s=at))

    @property
    def seen(self) -> list[tuple[Check, str]]:
        return [(event.check, event.action) for event in self.events]

    def assert_sane(self) -> None:
        """Whatever was asked, what arrived keeps every limit."""
        velocity, acceleration, jerk = self.arm.rates()
        assert (np.abs(velocity) <= LIMITS.velocity + 1e-6).all()
        assert (np.abs(acceleration) <= LIMITS.acceleration + 1e-5).all()
        assert (np.abs(jerk) <= LIMITS.jerk).all()
        for command in self.arm.commands:
            assert LIMITS.contain(command.q, 1e-9)
            assert np.isfinite(command.dq).all() and (np.abs(command.dq) <= LIMITS.velocity + 1e-9).all()
            assert 0.0 <= command.gripper_width_m <= panda.GRIPPER_MAX_WIDTH_M


@pytest.fixture
def rig() -> Rig:
    return Rig()


def _moving(rig: Rig, ticks: int = 12) -> None:
    motion = state_to_state(HOME, HOME + [1.0, 0.2, 0, 0.3, 0, 0.2, 0], LIMITS.scaled(0.8, 0.8, 0.1))
    for command in list(motion.commands(0.08, rig.arm.time_s))[:ticks]:
        rig.safe.step(command)


def test_a_good_motion_passes_unchanged(rig: Rig) -> None:
    motion = state_to_state(HOME, HOME + 0.5, LIMITS.scaled(0.9, 0.9, 0.1))
    for command in motion.commands(0.05, 0.0):
        rig.safe.step(command)
    assert rig.events == []
    np.testing.assert_allclose(np.array(rig.arm.history), motion.q, atol=1e-9)
    rig.assert_sane()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["q", "dq", "width", "time"])
def test_what_is_not_finite_never_passes(rig: Rig, bad: float, place: str) -> None:
    _moving(rig)
    q, dq = rig.arm.history[-1].copy(), np.zeros(7)
    if place in {"q", "dq"}:
        {"q": q, "dq": dq}[place][4] = bad
    rig.send(q, dq=dq, width=bad if place == "width" else 0.08, time_s=bad if place == "time" else None)
    assert rig.seen == [(Check.NOT_FINITE, "refused")]
    assert rig.events[0].joint == (5 if place in {"q", "dq"} else None)
    for _ in range(50):
        rig.send(q, dq=dq)
    rig.assert_sane()
    np.testing.assert_allclose(rig.arm.rates()[0][-1], 0.0, atol=1e-9)


def test_wrong_number_of_joints(rig: Rig) -> None:
    rig.send(np.zeros(6))
    assert rig.seen == [(Check.SHAPE, "refused")]


def test_time_must_not_run_backwards(rig: Rig) -> None:
    for _ in range(3):
        rig.send(HOME)
    rig.send(HOME, time_s=rig.arm.time_s - 0.06)
    assert rig.seen == [(Check.CLOCK, "refused")] and "came after" in rig.events[0].message


@pytest.mark.parametrize("offset", [-0.5, 0.5])
def test_stale_and_future_commands(rig: Rig, offset: float) -> None:
    for _ in range(40):
        rig.send(HOME)
    rig.safe.reset()
    rig.send(HOME, time_s=rig.arm.time_s + offset)
    assert rig.seen[-1] == (Check.CLOCK, "refused") and "old, allowed is 0.100 s" in rig.events[-1].message


def test_position_a_little_outside_is_limited_far_outside_refused() -> None:
    start = HOME.copy()
    start[6] = LIMITS.upper[6] - 0.02
    rig = Rig(start)
    for k in range(30):
        rig.send(start + [0, 0, 0, 0, 0, 0, 0.002 * k])
    assert (Check.POSITION, "limited") in rig.seen
    assert rig.safe.latched is None
    assert rig.arm.history[-1][6] == pytest.approx(LIMITS.upper[6], abs=1e-3)
    for k in range(30, 60):
        rig.send(start + [0, 0, 0, 0, 0, 0, 0.002 * k])
    assert rig.seen[-1] == (Check.POSITION, "refused") and rig.events[-1].joint == 7
    rig.assert_sane()


def _ramp(rig: Rig, speed: float, acceleration: float, ticks: int) -> None:
    """Drive joint 1 from rest with constant acceleration up to a speed."""
    q, v = HOME.copy(), 0.0
    for _ in range(ticks):
        v = min(v + acceleration * TICK_S, speed)
        q = q + [v * TICK_S, 0, 0, 0, 0, 0, 0]
        rig.send(q)


def test_velocity_a_little_over_is_limited(rig: Rig) -> None:
    _ramp(rig, 1.15 * LIMITS.velocity[0], 0.9 * LIMITS.acceleration[0], 20)
    assert rig.seen == [(Check.VELOCITY, "limited")]
    rig.assert_sane()


def test_velocity_far_over_is_refused(rig: Rig) -> None:
    _ramp(rig, 3.0 * LIMITS.velocity[0], 0.9 * LIMITS.acceleration[0], 20)
    assert rig.seen == [(Check.VELOCITY, "limited"), (Check.VELOCITY, "refused")]
    rig.assert_sane()


def test_acceleration_a_little_over_is_limited_and_caught_up(rig: Rig) -> None:
    _ramp(rig, 0.5, 1.5 * LIMITS.acceleration[0], 60)
    assert rig.seen == [(Check.ACCELERATION, "limited")]
    assert rig.arm.history[-1][0] == pytest.approx(rig.arm.commands[-1].q[0])
    expected = HOME[0] + sum(min(0.5, 1.5 * LIMITS.acceleration[0] * TICK_S * k) for k in range(1, 61)) * TICK_S
    assert rig.arm.history[-1][0] == pytest.approx(expected, abs=1e-3)
    rig.assert_sane()


def test_what_was_left_behind_is_caught_up_and_settles(rig: Rig) -> None:
    steep = 5.0 * LIMITS.acceleration[1] * TICK_S
    q = HOME.copy()
    for speed in [min(steep * k, 1.8) for k in range(1, 11)] + [max(1.8 - steep * k, 0.0) for k in range(60)]:
        q = q - [0, speed * TICK_S, 0, 0, 0, 0, 0]
        rig.send(q)
    assert (Check.ACCELERATION, "limited") in rig.seen and rig.safe.latched is None
    assert rig.arm.history[-1][1] == pytest.approx(q[1], abs=1e-3)
    assert min(past[1] for past in rig.arm.history) > q[1] - 0.05
    rig.assert_sane()


def test_a_jump_is_refused(rig: Rig) -> None:
    rig.send(HOME + [0.04, 0, 0, 0, 0, 0, 0])
    assert rig.seen == [(Check.ACCELERATION, "refused")] and "grossly" in rig.events[0].message
    rig.send(HOME)
    np.testing.assert_allclose(rig.arm.history[-1], HOME, atol=1e-12)


def test_running_ahead_of_what_is_safe_is_refused() -> None:
    tight = EnvelopeLimits(gross_lag_rad=0.05, gross_velocity=5.0)
    rig = Rig(limits=tight)
    _ramp(rig, 2.5 * LIMITS.velocity[0], 0.9 * LIMITS.acceleration[0], 40)
    assert rig.seen[-1] == (Check.LAG, "refused")
    rig.assert_sane()


def _dive(rig: Rig, to_z: float, speed: float = 0.1, sideways: float = 0.0) -> None:
    kinematics = Kinematics(LIMITS)
    pose = kinematics.forward(rig.arm.history[-1])
    x, y, z = pose[:3, 3]
    q, share = rig.arm.history[-1], 0.0
    while z > to_z:
        share = min(1.0, share + 0.05)
        z, y = z - share * speed * TICK_S, y + share * sideways * TICK_S
        q = kinematics.solve_topdown([x, y, z], 0.0, q)
        rig.send(q)


def test_nothing_goes_into_the_table_but_sliding_along_it_goes_on() -> None:
    start = Kinematics().solve_topdown([0.45, -0.1, 0.08], 0.0, HOME)
    rig, shape = Rig(start), ArmShape()
    _dive(rig, -0.02, speed=0.08, sideways=0.1)
    assert rig.seen == [(Check.TABLE, "limited")]
    lowest = [shape.place(q).lowest_m for q in rig.arm.history]
    assert min(lowest) > -0.0055
    assert min(lowest) < -0.003, "the test must reach the table"
    moved = [shape.place(q).ee_position[1] for q in rig.arm.history]
    assert moved[-1] - moved[-20] > 0.025
    rig.assert_sane()


def test_far_into_the_table_is_refused() -> None:
    start = Kinematics().solve_topdown([0.45, -0.1, 0.08], 0.0, HOME)
    rig, shape = Rig(start), ArmShape()
    _dive(rig, -0.08)
    assert rig.seen == [(Check.TABLE, "limited"), (Check.TABLE, "refused")]
    assert min(shape.place(q).lowest_m for q in rig.arm.history) > -0.0055


def test_a_fast_dive_is_stopped_above_the_table() -> None:
    rig, shape = Rig(), ArmShape()
    down = np.array([0, 0.9, 0, 0, 0, -0.9, 0]) * TICK_S
    q, v = HOME.copy(), np.zeros(7)
    for _ in range(120):
        v = np.clip(v + 0.05 * down, np.minimum(down, 0) * 2, np.maximum(down, 0) * 2)
        q = q + v
        rig.send(q)
    assert rig.safe.latched is not None or (Check.TABLE, "limited") in rig.seen
    assert min(shape.place(q).lowest_m for q in rig.arm.history) > -0.006
    rig.assert_sane()


def test_the_tool_stays_in_its_workspace() -> None:
    box = Workspace(np.array([0.2, -0.3, 0.0]), np.array([0.7, 0.3, 0.8]))
    rig, shape = Rig(limits=EnvelopeLimits(workspace=box)), ArmShape()
    _ramp(rig, 0.8, 2.0, 80)
    assert (Check.WORKSPACE, "limited") in rig.seen and (Check.WORKSPACE, "refused") in rig.seen
    assert max(shape.place(q).ee_position[1] for q in rig.arm.history) <= 0.3 + 1e-6
    rig.assert_sane()


def test_a_start_below_the_table_may_come_back_up() -> None:
    low = Kinematics(LIMITS).solve_topdown([0.45, 0.0, -0.01], 0.0, HOME)
    rig, shape = Rig(low), ArmShape()
    assert shape.place(low).lowest_m < -0.006
    up = Kinematics(LIMITS).solve_topdown([0.45, 0.0, 0.05], 0.0, low)
    for command in state_to_state(low, up, LIMITS.scaled(0.3, 0.3, 0.1)).commands(0.08, 0.0):
        rig.safe.step(command)
    np.testing.assert_allclose(rig.arm.history[-1], up, atol=1e-6)
    assert rig.events == []


def test_a_blocked_joint_gives_way(rig: Rig) -> None:
    rig.arm.stuck[2] = -0.3
    for _ in range(6):
        rig.send(HOME)
    assert rig.seen == [(Check.TRACKING, "refused")] and rig.events[0].joint == 3
    blocked_at = rig.arm.history[-1][2] - 0.3
    for _ in range(100):
        rig.send(HOME)
    assert rig.arm.history[-1][2] == pytest.approx(blocked_at, abs=0.02)
    rig.assert_sane()


def test_gripper_width_is_limited(rig: Rig) -> None:
    rig.send(HOME, width=0.3)
    rig.send(HOME, width=0.3)
    rig.send(HOME, width=-0.1)
    assert rig.seen == [(Check.GRIPPER, "limited")], "an ongoing excess is reported once"
    assert [c.gripper_width_m for c in rig.arm.commands] == [0.08, 0.08, 0.0]


@pytest.mark.parametrize(("effort", "width"), [(20.0, 0.0), (0.0, 0.04)])
def test_a_hold_from_the_start_does_not_drop_what_is_held(rig: Rig, effort: float, width: float) -> None:
    rig.send(HOME, width=0.04)
    rig.arm.effort_n = effort
    rig.safe.reset()
    rig.send(HOME * np.nan)
    assert rig.arm.commands[-1].gripper_width_m == width


def test_feed_forward_that_contradicts_the_motion_is_limited(rig: Rig) -> None:
    rig.send(HOME, dq=np.full(7, 2.0))
    assert (np.abs(rig.arm.commands[-1].dq) <= LIMITS.acceleration * TICK_S + 1e-12).all()


def test_a_refusal_holds_until_reset(rig: Rig) -> None:
    _moving(rig)
    rig.send(HOME * np.nan)
    assert rig.safe.latched is not None and rig.safe.latched.check is Check.NOT_FINITE
    ticks = len(rig.arm.commands)
    for _ in range(30):
        rig.send(rig.arm.history[-1])
    assert len(rig.arm.commands) == ticks + 30, "the clock goes on while the arm holds"
    held = rig.arm.history[-1]
    rig.send(held + 0.001)
    assert np.array_equal(rig.arm.history[-1], held)
    rig.safe.reset()
    assert rig.safe.latched is None and rig.seen[-1] == (Check.STOP, "reset")
    rig.send(held + 0.0005)
    assert not np.array_equal(rig.arm.history[-1], held)
    rig.assert_sane()


def test_stop_brings_a_moving_arm_to_rest(rig: Rig) -> None:
    _moving(rig)
    assert np.abs(rig.safe.reference[1]).max() > 0.5
    ticks = rig.safe.stop()
    assert 0 < ticks < 25
    np.testing.assert_allclose(rig.arm.rates()[0][-1], 0.0, atol=1e-9)
    assert rig.seen == [(Check.STOP, "stopped")]
    rig.send(HOME)
    np.testing.assert_allclose(rig.arm.rates()[0][-1], 0.0, atol=1e-9)
    rig.assert_sane()


def test_close_stops_first_and_always_closes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    _moving(rig)
    rig.safe.close()
    assert rig.arm.closed and (Check.STOP, "stopped") in rig.seen
    broken = Rig()
    _moving(broken)

    def fail(_: JointCommand) -> None:
        raise RuntimeError("cable cut")

    monkeypatch.setattr(broken.arm, "step", fail)
    with pytest.raises(RuntimeError, match="cable cut"):
        broken.safe.close()
    assert broken.arm.closed


def test_a_failing_subscriber_does_not_stop_the_robot(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: EnvelopeEvent) -> None:
        raise RuntimeError("subscriber is broken")

    arm = PerfectArm()
    safe = SafeWorld(arm, on_event=fail)
    safe.step(JointCommand(q=HOME, dq=np.zeros(7), gripper_width_m=0.5, time_s=0.0))
    assert len(arm.commands) == 1
    assert "the robot goes on" in caplog.text


def test_snapshots_continue_bit_for_bit(rig: Rig) -> None:
    _moving(rig)
    saved = rig.safe.snapshot()
    assert world_snapshot(saved) == rig.arm.snapshot() == world_snapshot(rig.arm.snapshot())
    motion = [rig.arm.history[-1] + 0.002 * k for k in range(1, 20)]

    def play() -> Array:
        for q in motion:
            rig.send(q)
        return np.array(rig.arm.history[-19:])

    first = play()
    rig.safe.restore(saved)
    assert np.array_equal(first, play())
    rig.safe.stop()
    rig.safe.restore(world_snapshot(saved))
    assert rig.safe.latched is None
    np.testing.assert_allclose(rig.safe.reference[1], 0.0)


def test_limits_can_be_tightened_but_not_widened() -> None:
    tight = EnvelopeLimits(joints=LIMITS.scaled(0.3, 0.3, 1.0))
    rig = Rig(limits=tight)
    _ramp(rig, 0.4 * LIMITS.velocity[0], 0.2 * LIMITS.acceleration[0], 30)
    assert rig.seen[0] == (Check.VELOCITY, "limited")
    wide = JointLimits(LIMITS.lower, LIMITS.upper, LIMITS.velocity * 2, LIMITS.acceleration, LIMITS.jerk)
    with pytest.raises(ValueError, match="wider than the robot's own"):
        EnvelopeLimits(joints=wide)


def test_there_is_no_public_way_around_it(rig: Rig) -> None:
    public = [getattr(rig.safe, name) for name in dir(rig.safe) if not name.startswith("_")]
    assert all(thing is not rig.arm for thing in public)
    with pytest.raises(AttributeError):
        rig.safe.limits = EnvelopeLimits(gross_velocity=99.0)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        rig.safe.off = True  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        rig.safe.limits.gross_velocity = 99.0  # type: ignore[misc]
    assert guard(rig.safe) is rig.safe
    assert guard(PerfectArm()) is not None


@pytest.mark.parametrize("seed", range(12))
def test_random_commands_never_break_a_limit(seed: int) -> None:
    """Noise, drifts, jumps, NaN, time warps: whatever arrives at the arm is sane."""
    rng, shape = np.random.default_rng(seed), ArmShape()
    rig = Rig(rng.uniform(LIMITS.lower, LIMITS.upper) * 0.2 + HOME * 0.8)
    q = rig.arm.history[0].copy()
    drift = np.zeros(7)
    scale = 10.0 ** rng.uniform(-4, -0.5)
    for k in range(400):
        if rig.safe.latched is not None and rng.random() < 0.1:
            rig.safe.reset()
            q = rig.arm.history[-1].copy()
            drift = np.zeros(7)
        if k % 20 == 0:
            goal = rng.uniform(LIMITS.lower - 0.3, LIMITS.upper + 0.3)
        drift = np.clip(drift + np.clip(0.02 * (goal - q) - drift, -0.004, 0.004), -0.05, 0.05)
        q = q + drift * rng.uniform(0.5, 1.2) + rng.normal(0, scale * 0.01, 7)
        sent = q.copy()
        if rng.random() < 0.005:
            sent[rng.integers(7)] = rng.choice([np.nan, np.inf, 100.0, -3.0])
        late = rng.uniform(-0.2, 0.2) if rng.random() < 0.005 else 0.0
        rig.send(sent, dq=rng.normal(0, 3, 7), width=float(rng.uniform(-0.1, 0.2)), time_s=rig.arm.time_s + late)
    rig.assert_sane()
    assert len(rig.arm.commands) >= 400
    floor = min(-0.0055, shape.place(rig.arm.history[0]).lowest_m - 1e-6)
    assert min(shape.place(q).lowest_m for q in rig.arm.history) > floor - 2e-3
