"""robomimic and LIBERO files, run records, our demonstrations, and the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hiervla.cli import main
from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.representations.errors import MissingDependencyError
from hiervla.training.data.errors import DatasetError, need
from hiervla.training.data.export import export_lerobot
from hiervla.training.data.hdf5 import Hdf5Source
from hiervla.training.data.lerobot.reader import LeRobotSource
from hiervla.training.data.opening import open_dataset
from hiervla.training.data.runs import RunSource
from hiervla.training.demos import DemoWriter, Sample, load_demos
from hiervla.training.policy import TrainSpec, train_policy
from tests import records


def hdf5(path: Path, *, libero: bool, demos: int = 3) -> Path:
    rng = np.random.default_rng(0)
    controller = {"type": "OSC_POSE", "control_delta": True}
    env = {
        "env_name": "Lift",
        "env_kwargs": {"control_freq": 20, "robots": ["Panda"], "controller_configs": controller},
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env)
        if libero:
            data.attrs["problem_info"] = json.dumps({"language_instruction": ["open the ", "drawer"]})
            data.attrs["macros_image_convention"] = "opengl"
        for i in range(demos):
            demo, n = data.create_group(f"demo_{i + 8}"), 4 + i
            demo.attrs["num_samples"] = n
            demo["actions"], demo["states"] = rng.normal(size=(n, 7)), rng.normal(size=(n, 9))
            demo["dones"] = (np.arange(n) == n - 1).astype(np.int64)
            demo["obs/joint_pos"] = rng.normal(size=(n, 7))
            demo["obs/agentview_rgb"] = rng.integers(0, 256, (n, 6, 8, 3)).astype(np.uint8)
    return path


@pytest.mark.parametrize("libero", [True, False])
def test_hdf5_layouts(tmp_path: Path, libero: bool) -> None:
    path = hdf5(tmp_path / "x.hdf5", libero=libero)
    source = Hdf5Source(path)
    episodes = list(source.episodes())
    assert source.skipped == [] and [len(e) for e in episodes] == [4, 5, 6]
    assert source.spec.format == ("libero" if libero else "robomimic")
    assert (source.spec.fps, source.spec.action.space, source.spec.robot) == (20.0, "ee_delta", "panda")
    assert episodes[0].instruction == ("open the drawer" if libero else "")
    with h5py.File(path) as file:
        raw = file["data/demo_8/obs/agentview_rgb"][0]
        assert np.array_equal(episodes[0].columns["action"], file["data/demo_8/actions"][()])
    shown = next(iter(episodes[0].images["observation.images.agentview_rgb"]))
    # LIBERO stores the bottom row first.
    assert np.array_equal(shown, raw[::-1] if libero else raw)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("nan", "NaN"),
        ("lacks", "lacks 'actions'"),
        ("shape", "'action' is"),
        ("count", "num_samples"),
        ("short", "lengths"),
    ],
)
def test_bad_demonstrations_are_named(tmp_path: Path, case: str, reason: str) -> None:
    path = hdf5(tmp_path / "x.hdf5", libero=False)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_9"]
        if case == "nan":
            demo["actions"][2, 3] = np.nan
        elif case == "count":
            demo.attrs["num_samples"] = 77
        elif case == "short":
            del demo["obs/joint_pos"]
            demo["obs/joint_pos"] = np.zeros((2, 7))
        else:
            del demo["actions"]
            if case == "shape":
                demo["actions"] = np.zeros((5, 6))
    source = Hdf5Source(path)
    assert len(list(source.episodes())) == 2
    (skip,) = source.skipped
    assert "demo_9" in skip.place and reason in skip.reason


def test_truncated_hdf5(tmp_path: Path) -> None:
    good = hdf5(tmp_path / "a.hdf5", libero=False)
    (tmp_path / "b.hdf5").write_bytes(good.read_bytes()[:2000])
    source = Hdf5Source(tmp_path)
    assert len(list(source.episodes())) == 3 and [s.place for s in source.skipped] == ["b.hdf5"]


def test_run_records_become_episodes(tmp_path: Path) -> None:
    record = records.make_record(tmp_path / "runs" / "one")
    records.make_refused(tmp_path / "runs" / "two")
    report = export_lerobot([record.parent], tmp_path / "set", fps=25.0, pictures="recorded", storage="png")
    assert report.episodes == 1 and "refused" in report.skipped[0].reason
    source = LeRobotSource(tmp_path / "set")
    (episode,) = source.episodes()
    assert episode.instruction == "put the red mug on the top shelf" and episode.success
    state, action = episode.columns["observation.state"], episode.columns["action"]
    for i in range(len(episode)):
        assert np.array_equal(state[i, :7], records.proprio(2 * i).q.astype(np.float32))
        # What is to be reached at the next frame is the last command before it.
        assert np.array_equal(action[i, :7], records.command(2 * i + 1).q.astype(np.float32))
    assert set(episode.subtasks) >= {"pick up the red mug", "put the red mug on the bottom shelf"}
    styles = {u.style for u in episode.language}
    assert styles == {"plan", "subtask", "vqa", "trace"}
    first = next(u for u in episode.language if u.style == "plan")
    assert first.content == "1. pick up the red mug\n2. put the red mug on the top shelf"
    answer = next(u for u in episode.language if u.style == "vqa" and u.role == "assistant")
    assert json.loads(answer.content)["points"][0] == {"label": "red mug", "point": [40.0, 12.0]}
    image = next(iter(episode.images["observation.images.front"]))
    assert np.array_equal(image, records.frame(0).rgb)
    assert episode.columns["observation.image_age_s"].min() >= 0.0


def test_run_records_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="refused"):
        RunSource([records.make_refused(tmp_path / "two")])
    with pytest.raises(DatasetError, match="do not divide"):
        RunSource([records.make_record(tmp_path / "one")], fps=30.0)


def shard(path: Path, seed: int, driver: str = "expert", worded: bool = True) -> None:
    rng = np.random.default_rng(seed)
    writer = DemoWriter({"seed": seed, "driver": driver}, FeatureSpec(points=24))
    for e in range(4):
        samples = []
        for _ in range(6):
            points = rng.normal(size=(24, 7)).astype(np.float32)
            inputs = PolicyInput(points, int(rng.integers(5, 24)), rng.normal(size=12).astype(np.float32))
            chunk = rng.normal(size=(16, 6)).astype(np.float32)
            samples.append(Sample(inputs, chunk, bool(rng.random() < 0.3), float(rng.random())))
        words = "" if e == 1 else f"do the thing in the {('rötlich', '', '赤い')[e % 3]} way, please"
        writer.add(SKILLS[e % 3], samples, seed * 1000 + e // 2, words=words if worded else "")
    writer.write(path)


@pytest.mark.parametrize("worded", [True, False])
def test_demonstrations_to_lerobot_and_back_are_the_same_bit_for_bit(tmp_path: Path, worded: bool) -> None:
    shard(tmp_path / "demos" / "a.npz", 1, worded=worded)
    # A shard of before there were words beside those of after.
    shard(tmp_path / "demos" / "b.npz", 2, worded=False)
    export_lerobot([tmp_path / "demos"], tmp_path / "set")
    before, after = load_demos([tmp_path / "demos"]), load_demos([tmp_path / "set"])
    assert before.features == after.features and before.headers == after.headers
    assert before.worded == worded
    told = [e.instruction for e in LeRobotSource(tmp_path / "set").episodes()]
    mute = ["pick", "place", "open drawer", "pick"]
    red, white = (f"do the thing in the {w} way, please" for w in ("rötlich", "赤い"))
    assert told == ([red, "place", white, red] if worded else mute) + mute, "others read them as tasks"
    for column in ("points", "count", "proprio", "actions", "done", "progress", "skill", "episode", "words"):
        one, two = getattr(before, column), getattr(after, column)
        assert one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes(), column
    spec = TrainSpec(steps=2, batch=4, points=16, seed=3, words=worded)
    weights = []
    for source in ("demos", "set"):
        train_policy([tmp_path / source], tmp_path / f"policy-{source}", spec)
        weights.append((tmp_path / f"policy-{source}" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_training_refuses_what_it_cannot_learn_from(tmp_path: Path) -> None:
    records.make_record(tmp_path / "run")
    export_lerobot([tmp_path / "run"], tmp_path / "set", pictures="none")
    with pytest.raises(DatasetError, match="point clouds"):
        load_demos([tmp_path / "set"])
    shard(tmp_path / "mixed" / "a.npz", 1)
    shard(tmp_path / "mixed" / "b.npz", 2, "policy")
    with pytest.raises(DatasetError, match="frames a second are not known"):
        export_lerobot([tmp_path / "mixed"], tmp_path / "other")


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records.make_record(tmp_path / "run")
    words = ["export", "run", "--to", "lerobot", "-o", "set", "--images", "recorded", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1
    assert main(["data", "info", "set", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["format"], found["episodes"], found["fps"], found["skipped"]) == ("lerobot-v3", 1, 10.0, [])
    assert main(["data", "info", "set"]) == 0
    assert "1 x put the red mug on the top shelf" in capsys.readouterr().out
    assert main(words) == 1
    assert "not an empty folder" in " ".join(capsys.readouterr().err.split())
    assert main(["export", "run", "--to", "lerobo", "-o", "x"]) == 2
    assert "lerobo" in capsys.readouterr().err
    assert main(["export", "run", "run", "--to", "mcap", "-o", "x"]) == 2
    assert "takes one run" in capsys.readouterr().err
    assert main(["data", "info", "nowhere"]) == 1


def test_unknown_formats_and_missing_packages(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no format that is read here"):
        open_dataset(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"hiervla\[data\]"):
        need("no_such_package.inside", "a test")
