"""LeRobotDataset v3: what is written is read back bit for bit, and damage is named."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiervla.training.data.errors import DatasetError, EpisodeError
from hiervla.training.data.lerobot.reader import LeRobotSource
from hiervla.training.data.lerobot.stats import RunningStats, number_stats
from hiervla.training.data.lerobot.writer import LeRobotWriter
from tests.training.data import made


def write(path: Path, episodes: list[Any], **options: Any) -> LeRobotSource:
    with LeRobotWriter(path, made.SPEC, **options) as writer:
        for episode in episodes:
            writer.add(episode)
    return LeRobotSource(path)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.floats(0.002, 0.2), st.integers(0, 1000))
def test_png_round_trip_is_exact_with_any_roll_over(lengths: list[int], limit: float, seed: int) -> None:
    episodes = [made.episode(seed + i, n, subtasks=(), language=()) for i, n in enumerate(lengths)]
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder) / "set", episodes, images="png", data_mb=limit)
        back = list(source.episodes())
        assert source.skipped == [] and len(back) == len(episodes)
        for one, two in zip(episodes, back, strict=True):
            made.same(one, two)


def test_language_subtasks_and_meaning_come_back(tmp_path: Path) -> None:
    episodes = [made.episode(i) for i in range(3)]
    source = write(tmp_path / "set", episodes, images="png")
    for one, two in zip(episodes, source.episodes(), strict=True):
        made.same(one, two)
    assert source.spec.action == made.SPEC.action and source.spec.extra["note"] == [1, "two"]
    assert source.spec.feature("observation.state") == made.SPEC.feature("observation.state")
    frame = list(next(source.episodes()).frames())[3]
    assert frame.time_s == 3 / made.FPS and frame.images[made.FRONT].shape == (32, 48, 3) and frame.subtask


def test_videos_hold_their_frames_in_order_over_several_files(tmp_path: Path) -> None:
    episodes = [made.episode(i, 10 + i, noisy=False) for i in range(4)]
    source = write(tmp_path / "set", episodes, images="video", video_mb=0.001, language=False)
    assert len(list((tmp_path / "set" / "videos" / made.FRONT).glob("*/*.mp4"))) > 1
    for one, two in zip(episodes, source.episodes(), strict=True):
        for name, column in one.images.items():
            for i, (a, b) in enumerate(zip(column, two.images[name], strict=True)):
                assert np.abs(a.astype(int) - b).mean() < 4.0, (name, i)


def test_files_are_as_the_format_says(tmp_path: Path) -> None:
    write(tmp_path / "set", [made.episode(0, 4), made.episode(1, 6)], images="png")
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["fps"]) == ("v3.0", 2, 10, 10)
    assert info["splits"] == {"train": "0:2"} and info["features"][made.FRONT]["dtype"] == "image"
    assert info["features"]["language_persistent"] == {"dtype": "language", "shape": [1], "names": None}
    rows = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["tasks"]) for r in rows] == [
        (0, 4, ["put the mug on the shelf"]),
        (4, 10, ["wipe the table"]),
    ]
    data = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert data["index"].to_pylist() == list(range(10)) and data["frame_index"].to_pylist() == [*range(4), *range(6)]
    pandas = json.loads(pq.read_schema(tmp_path / "set/meta/tasks.parquet").metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"]
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    assert np.shape(stats[made.FRONT]["mean"]) == (3, 1, 1) and 0.4 < np.mean(stats[made.FRONT]["mean"]) < 0.6
    assert stats["action"]["count"] == [10]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 99))
def test_running_statistics_are_those_of_all_frames(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(), 1 + rng.random(), (n, 3)) for n in lengths]
    running = RunningStats()
    for part in parts:
        running.add(number_stats(part))
    found, wanted = running.to_json(), number_stats(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-12)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "video"])
def test_damage_costs_the_episodes_it_hits_and_is_counted(tmp_path: Path, damage: str) -> None:
    storage = "video" if damage == "video" else "png"
    source = write(
        tmp_path / "set", [made.episode(i, 8, noisy=damage != "video") for i in range(4)], images=storage, data_mb=0.05
    )
    kind = "mp4" if damage == "video" else "parquet"
    inside = "videos" if damage == "video" else "data"
    victim = sorted((tmp_path / "set" / inside).glob(f"**/*.{kind}"))[-1]
    raw = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    elif damage == "flipped":
        raw[len(raw) // 3] ^= 0xFF
        victim.write_bytes(raw)
    else:
        victim.write_bytes(raw[: len(raw) // 2])
    back = list(source.episodes())
    assert source.skipped and len(back) + sum(s.episodes for s in source.skipped) == 4
    assert all(s.reason for s in source.skipped)
    for episode in back:
        made.same(
            episode, made.episode(int(episode.facts["seed"]), 8, noisy=damage != "video"), images=storage == "png"
        )


def test_an_interrupted_or_impossible_dataset_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), LeRobotWriter(tmp_path / "set", made.SPEC, images="png") as writer:
        writer.add(made.episode(0))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError, match="no episode"), LeRobotWriter(tmp_path / "set", made.SPEC):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").touch()
    with pytest.raises(DatasetError, match="not an empty folder"):
        LeRobotWriter(tmp_path / "set", made.SPEC)


def test_wrong_episodes_are_refused(tmp_path: Path) -> None:
    good = dict(made.episode(0).columns)
    with pytest.raises(EpisodeError, match="frame 2 is NaN"):
        action = good["action"].copy()
        action[2, 1] = np.nan
        made.episode(0, columns={**good, "action": action})
    with pytest.raises(EpisodeError, match="different lengths"):
        made.episode(0, columns={**good, "count": good["count"][:3]})
    with (
        pytest.raises(EpisodeError, match="'count' is int32"),
        LeRobotWriter(tmp_path / "set", made.SPEC, images="png") as writer,
    ):
        writer.add(made.episode(0, columns={**good, "count": good["count"].astype(np.int32)}))


def test_older_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1"}')
    with pytest.raises(DatasetError, match=r"v2\.1"):
        LeRobotSource(tmp_path)
