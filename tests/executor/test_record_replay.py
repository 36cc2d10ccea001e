"""`replay` executes the recorded commands again, and names the first tick at which the states part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hiervla.executor.record.errors import ReplayError
from hiervla.executor.record.physics_replay import replay
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.replay.cursor import difference
from hiervla.representations import JointCommand, Observation, Proprioception, Refusal, Verdict
from hiervla.representations import events as ev
from tests import records


class Springs:
    """Seven damped springs that are pulled towards the command: history matters, as in physics."""

    name = "fake"

    def __init__(self, disturbed_at: int | None = None, start: float = 0.0) -> None:
        self._x = np.full(14, start)
        self._ticks = 0
        self._disturbed_at = disturbed_at
        self.closed = False

    @property
    def time_s(self) -> float:
        return self._ticks * records.PERIOD_S

    def proprio(self) -> Proprioception:
        return Proprioception(
            q=self._x[:7].copy(),
            dq=self._x[7:].copy(),
            T_world_ee=np.eye(4),
            gripper_width_m=float(self._x[0]) * 0.01,
            time_s=self.time_s,
        )

    def observe(self, cameras: Sequence[str] | None = None) -> Observation:
        return Observation(frames=(records.frame(self._ticks),), proprio=self.proprio(), time_s=self.time_s)

    def step(self, command: JointCommand) -> None:
        dq = 0.7 * self._x[7:] + 3.1 * (command.q - self._x[:7]) * records.PERIOD_S
        if self._ticks == self._disturbed_at:
            dq = dq + 1e-9
        self._x = np.concatenate([self._x[:7] + dq * records.PERIOD_S, dq])
        self._ticks += 1

    def snapshot(self) -> bytes:
        return np.concatenate([[self._ticks], self._x]).tobytes()

    def restore(self, snapshot: bytes) -> None:
        values = np.frombuffer(snapshot)
        self._ticks, self._x = int(values[0]), values[1:].copy()

    def close(self) -> None:
        self.closed = True


def record_run(folder: Path, ticks: int = 40, snapshots: bool = True) -> RunRecord:
    world = Springs(start=0.3)
    with RunRecorder.create(folder, records.manifest(), durable=False) as recorder:
        play = records.Script(recorder)
        for tick in range(ticks):
            if snapshots and tick % 10 == 0:
                recorder.snapshot(world.snapshot(), f"at {tick}", world.time_s)
            recorder.tick(records.command(tick), world.proprio())
            world.step(records.command(tick))
        if snapshots:
            recorder.snapshot(world.snapshot(), "end", world.time_s)
        play.finish()
    return RunRecord.open(folder)


def test_the_same_world_agrees_bit_for_bit(tmp_path: Path) -> None:
    # It starts elsewhere: the initial snapshot has to be restored.
    world = Springs(start=-1.0)
    found = replay(record_run(tmp_path / "run"), world)
    assert found.agrees
    assert (found.ticks, found.ticks_recorded, found.snapshots, found.restored) == (40, 40, 5, True)
    assert not world.closed, "a world that was given stays open"


def test_a_world_that_is_off_by_a_billionth_is_caught_at_its_first_tick(tmp_path: Path) -> None:
    found = replay(record_run(tmp_path / "run"), Springs(disturbed_at=16))
    assert not found.agrees
    assert found.divergence is not None
    assert (found.divergence.tick, found.divergence.what) == (17, "joint positions")
    assert found.divergence.size == pytest.approx(2e-11, rel=0.01)
    assert found.snapshots == 2
    assert str(found.divergence) == "joint positions part at tick 17 (0.34 s) by 2e-11 rad"


def test_a_difference_after_the_last_tick_shows_in_the_snapshot(tmp_path: Path) -> None:
    found = replay(record_run(tmp_path / "run"), Springs(disturbed_at=39))
    assert found.divergence is not None
    assert (found.divergence.what, found.divergence.size, found.ticks) == ("snapshot 'end'", None, 40)


def test_without_snapshots_the_fresh_world_is_compared(tmp_path: Path) -> None:
    record = record_run(tmp_path / "run", snapshots=False)
    found = replay(record, Springs(start=0.3))
    assert found.agrees
    assert not found.restored
    wrong = replay(record, Springs(start=0.2))
    assert wrong.divergence is not None
    assert wrong.divergence.tick == 0
    assert wrong.divergence.size == pytest.approx(0.1)


def test_an_unfinished_record_replays_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    world = Springs()
    recorder = RunRecorder.create(folder, records.manifest(), durable=False)
    records.Script(recorder)
    for tick in range(7):
        recorder.tick(records.command(tick), world.proprio())
        world.step(records.command(tick))
    found = replay(RunRecord.open(folder), Springs())
    assert (found.agrees, found.ticks) == (True, 7)
    recorder.close()


def test_what_cannot_be_replayed_says_why(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="it holds no commands"):
        replay(RunRecord.open(records.make_refused(tmp_path / "refused")))
    with pytest.raises(ReplayError, match=r"world 'fake' cannot be rebuilt here.*Known: tabletop"):
        replay(record_run(tmp_path / "run"))


def test_rounding_of_a_timer_is_no_other_decision() -> None:
    def timed(elapsed_s: float) -> ev.VerdictGiven:
        verdict = Verdict(name="timer", value="yes", confidence=1.0, evidence={"elapsed_s": elapsed_s})
        return ev.VerdictGiven(id="e1", time_s=1.0, step_id="s1", phase="during", verdict=verdict)

    assert difference(timed(0.8000000000000007), timed(0.7999999999999972)) is None
    assert difference(timed(0.8), timed(0.82)) == ("verdict.evidence.elapsed_s", 0.8, 0.82)


def test_what_a_part_was_told_is_compared_where_it_was_kept() -> None:
    def refused(told: dict[str, str] | None) -> ev.PlanRefused:
        refusal = Refusal(reason="not_in_scene", message="I see none.")
        return ev.PlanRefused(id="e1", time_s=1.0, refusal=refusal, told=told)

    assert difference(refused(None), refused({"history": "1 ab"})) is None
    assert difference(refused({"history": "0"}), refused({"history": "1 ab"})) == ("told.history", "0", "1 ab")
