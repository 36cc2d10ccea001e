"""Outcomes, values and advantages of experience, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hiervla.executor.policies.features import FeatureSpec
from hiervla.executor.policies.network import NEGATIVE, POSITIVE, UNADVISED
from hiervla.representations import CheckpointError
from hiervla.training.improve.advantages import AdvantageSpec, advantages
from hiervla.training.improve.experience import ExperienceError, gather, merged, read, write
from hiervla.training.improve.value import ValueSpec, load_value, returns_of, save_value, train_value
from tests.training.improve import tiny

QUICK = ValueSpec(steps=150, copies=1, width=32, batch=64, bins=21, lr=5e-3, held_out=0.3)


def test_experience_comes_back_from_its_file_and_an_attempt_counts_once(tmp_path: Path) -> None:
    made = tiny.experience(2, 1)
    write(made, tmp_path / "a.experience.npz", {"origin": "made up"})
    found, header = read(tmp_path / "a.experience.npz")
    assert header["origin"] == "made up" and found.counts() == made.counts()
    assert made.counts() == {"trails": 3, "moments": 18, "succeeded": 12, "failed": 6, "unknown": 0, "human": 0}
    again = merged([made, found, tiny.experience(3, 0)])
    assert again.counts()["trails"] == 4
    np.testing.assert_array_equal(again.demos.actions[:18], made.demos.actions)


def test_damaged_and_unfitting_experience_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.experience.npz"
    file.write_bytes(b"PK no archive")
    with pytest.raises(ExperienceError, match="cannot be read"):
        read(file)
    other = gather([tiny.trail(1, 1, 0.0)], FeatureSpec(points=32, voxel_m=0.01))
    with pytest.raises(ExperienceError, match="another feature recipe"):
        merged([tiny.experience(1, 1), other])
    with pytest.raises(ExperienceError, match="no moment"):
        gather([], tiny.FEATURES)


def test_returns_count_the_time_to_success_and_punish_failure() -> None:
    rows = gather([tiny.trail(1, 1, 0.0), tiny.trail(2, 0, 0.0), tiny.trail(3, -1, 0.0)], tiny.FEATURES)
    found = returns_of(rows)
    np.testing.assert_allclose(found[:6], [-1.0, -5 / 6, -4 / 6, -3 / 6, -2 / 6, -1 / 6], rtol=1e-6)
    assert (found[6:12] == -1.0).all() and np.isnan(found[12:]).all()


def test_the_value_function_tells_what_will_succeed_from_what_will_not(tmp_path: Path) -> None:
    rows = tiny.experience(20, 20)
    net, metrics = train_value(tiny.network(), rows, QUICK, points=24)
    # The first moments are alike, so that no function tells all of them apart.
    assert metrics["told_apart"] > 0.85 and metrics["value_error"] < 0.3
    again, _ = train_value(tiny.network(), rows, QUICK, points=24)
    assert all(bool((a == b).all()) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    save_value(net, tmp_path, {"metrics": metrics})
    kept, facts = load_value(tmp_path)
    assert facts["metrics"] == metrics
    assert all(bool((a == b).all()) for a, b in zip(net.parameters(), kept.parameters(), strict=True))
    (tmp_path / "value.json").write_text("{}")
    with pytest.raises(CheckpointError):
        load_value(tmp_path)


@pytest.mark.parametrize("lookahead", [None, 2.0])
def test_good_is_what_beats_the_expectation_and_what_people_did(lookahead: float | None) -> None:
    trails = [tiny.trail(n, 1, 0.03) for n in range(10)] + [tiny.trail(100 + n, 0, -0.03) for n in range(20)]
    trails += [tiny.trail(200, 1, 0.0, human=True), tiny.trail(201, -1, 0.0)]
    rows = gather(trails, tiny.FEATURES)
    net, _ = train_value(tiny.network(), rows, QUICK, points=24)
    found = advantages(tiny.network(), net, rows, AdvantageSpec(best=0.4, lookahead_s=lookahead))
    assert (found.told[rows.human] == POSITIVE).all()
    assert (found.told[rows.outcome == -1] == UNADVISED).all()
    own = ~rows.human & (rows.outcome >= 0)
    assert (found.told[own] == POSITIVE).mean() <= 0.4 + 1e-6
    failed, won = own & (rows.outcome == 0), own & (rows.outcome == 1)
    assert (found.told[failed] == NEGATIVE).mean() > 0.9
    assert (found.told[won] == POSITIVE).mean() > 2 * (found.told[failed] == POSITIVE).mean()
    assert found.thresholds["place"] >= 0.0
    assert sum(found.counts().values()) == len(rows)
