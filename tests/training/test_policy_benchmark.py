"""What the benchmark of policies computes from a trial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.policies import Tally, jump, main, mean_square_jerk
from hiervla.controllers import panda
from hiervla.controllers.kinematics import Kinematics
from hiervla.representations import ActionChunk
from hiervla.training.episodes import Boundary, Episode
from hiervla.training.experts.state import Task


def chunk(x: float, observed_at_s: float = 0.0, done: float | None = None) -> ActionChunk:
    """Sixteen rows that begin at `x` and go 1 cm a row."""
    positions = np.zeros((16, 3))
    positions[:, 0] = x + 0.01 * np.arange(16)
    return ActionChunk(
        positions=positions, yaws=np.zeros(16), gripper=np.zeros(16), rate_hz=10.0, observed_at_s=observed_at_s,
        done_prob=done, progress=done,
    )  # fmt: skip


def test_a_jump_is_measured_where_the_new_chunk_takes_over() -> None:
    assert jump(chunk(0.0), chunk(0.08, 0.8)) == pytest.approx(0.0, abs=1e-9)
    assert jump(chunk(0.0), chunk(0.11, 0.8)) == pytest.approx(0.03)
    assert jump(chunk(0.0), chunk(0.0, 1.5)) is None, "the old one ended before"


def test_jerk_is_of_the_tool_and_zero_at_rest() -> None:
    arm, still = Kinematics(), np.tile(panda.HOME_Q, (10, 1))
    assert mean_square_jerk(still, arm) == 0.0
    shaken = still.copy()
    shaken[5, 0] += 0.001
    radius = float(np.hypot(*arm.forward(panda.HOME_Q)[:2, 3]))
    kick = 0.001 * radius / 0.02**3
    assert mean_square_jerk(shaken, arm) == pytest.approx(kick**2 * (1 + 9 + 9 + 1) / 7, rel=0.01)


def test_a_tally_counts_success_and_what_the_heads_said() -> None:
    tally, arm = Tally(), Kinematics()
    said = [(0.1, False), (0.9, False), (0.9, True), (0.2, True)]
    boundaries = [Boundary(chunk(0.0, 0.8 * k, p), done, 0.5) for k, (p, done) in enumerate(said)]
    for success in (True, False):
        task = Task("pick" if success else "wipe", np.zeros(3))
        tally.add(Episode(task, success=success, boundaries=boundaries), arm)
    figures = tally.figures()
    assert (figures["min_success"], figures["mean_success"]) == (0.0, 0.5)
    assert figures["done_precision"][0] == 0.5 and figures["done_recall"][0] == 0.5
    assert figures["progress_error"] == pytest.approx(0.375)
    assert figures["success"]["pick"][0] == 1.0 and 0.0 < figures["success"]["pick"][1] < 0.5


def test_weights_are_named_with_their_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--quick", "--weights", f"rnn={tmp_path}"])
    assert "is not FAMILY=DIR with a family of flow, act" in capsys.readouterr().err
