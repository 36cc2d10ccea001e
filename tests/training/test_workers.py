"""The same episodes from one process, from several and from a Ray cluster; what is kept when somebody dies."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.representations.errors import CheckpointError, HiervlaError, MissingDependencyError
from hiervla.training import ray_workers
from hiervla.training.collect import CollectReport, run_collect
from hiervla.training.demos import DemoSet, load_demos
from hiervla.training.episodes import Episode
from hiervla.training.experts.state import Task
from hiervla.training.step_wordings import WORDINGS
from hiervla.training.workers import Job, Told, WorkerError, played
from tests.training.moments import saved_moment

COLUMNS = ("points", "count", "proprio", "actions", "done", "progress", "skill", "episode", "words")


def same(one: DemoSet, other: DemoSet) -> None:
    for column in COLUMNS:
        assert np.array_equal(getattr(one, column), getattr(other, column)), column
    assert [h["frames"] for h in one.headers] == [h["frames"] for h in other.headers]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoSet]:
    """Saved moments, and what one process collects from them."""
    folder = tmp_path_factory.mktemp("alone")
    saved_moment(folder / "states", 5)
    return folder / "states", gathered(folder / "demos", folder / "states")


def gathered(out: Path, states: Path, episodes: int = 2, **options: Any) -> DemoSet:
    run_collect(out, skills=("close_drawer",), episodes=episodes, seed=4, states=[states], **options)
    return load_demos([out])


def test_two_processes_collect_what_one_does(alone: tuple[Path, DemoSet], tmp_path: Path) -> None:
    assert set(alone[1].words) <= set(WORDINGS["close_drawer"]), "what the step says is kept"
    same(alone[1], gathered(tmp_path / "demos", alone[0], workers=2))


def test_a_worker_that_dies_is_an_account_and_costs_nothing_that_was_collected(
    alone: tuple[Path, DemoSet], tmp_path: Path
) -> None:
    def kill(report: CollectReport) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                mine = f"PPid:\t{os.getpid()}\n" in (process / "status").read_text()
                if mine and b"spawn_main" in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue

    with pytest.raises(WorkerError, match=r"scene seed \d+ or one near it: a worker process died.*is kept") as caught:
        gathered(tmp_path / "demos", alone[0], 99, workers=2, on_progress=kill)
    assert caught.value.story.endswith(".state.npz")
    kept = load_demos([tmp_path / "demos"])
    count = min(len(kept), len(alone[1]))
    assert count > 0 and kept.done[-1]
    assert np.array_equal(kept.actions[:count], alone[1].actions[:count]), "whole episodes, the first ones"


def test_ctrl_c_leaves_whole_shards(alone: tuple[Path, DemoSet], tmp_path: Path) -> None:
    def interrupt(report: CollectReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gathered(tmp_path / "demos", alone[0], on_progress=interrupt)
    kept = load_demos([tmp_path / "demos"])
    assert len(np.unique(kept.episode)) == 1 and kept.done[-1]
    assert not list(tmp_path.glob("**/*.partial"))


def test_errors_pass_between_processes() -> None:
    error = WorkerError("it died", "Look", "tidy", 7)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.story, again.seed) == (WorkerError, str(error), "tidy", 7)
    other = pickle.loads(pickle.dumps(MissingDependencyError("ray", "this", "Do that")))
    assert isinstance(other, MissingDependencyError) and other.what == "ray"


def test_bad_weights_are_said_before_a_worker_starts(tmp_path: Path) -> None:
    job = Job(frozenset({"pick"}), tmp_path / "nowhere")
    with pytest.raises(CheckpointError):
        next(played(iter([("tidy", 2)] * 9), job, 2))


class Cluster:
    """What `ray_workers` uses of Ray, in this process; `fails` says what becomes of a scene."""

    def __init__(self, fails: Callable[[int], Exception | None]) -> None:
        kinds = {n: type(n, (Exception,), {}) for n in ("RayError",)}
        task = type("RayTaskError", (kinds["RayError"],), {"cause": None})
        self.exceptions = SimpleNamespace(RayError=kinds["RayError"], RayTaskError=task)
        self.fails, self.cancelled, self.started = fails, 0, 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def put(self, value: Any) -> Any:
        return value

    def cancel(self, result: Any) -> None:
        self.cancelled += 1

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        assert options == {"num_cpus": 1, "max_retries": 2}

        def submit(token: str, job: Job, story: str, seed: int) -> int:
            self.started += 1
            return seed

        return lambda function: SimpleNamespace(remote=submit)

    def get(self, seed: int) -> Told:
        error = self.fails(seed)
        if error is not None:
            raise error
        return [(Episode(Task("pick", np.zeros(3))), seed)]


def on_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(ray_workers, "need_ray", lambda: cluster)
    scenes = (("tidy", seed) for seed in range(10**6))
    return played(scenes, Job(frozenset({"pick"})), 2, "somewhere")


def test_scenes_come_back_in_order_and_the_rest_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(lambda seed: None)
    results = on_cluster(cluster, monkeypatch)
    assert [next(results)[0][1] for _ in range(7)] == list(range(7))
    results.close()  # type: ignore[attr-defined]  # a generator
    assert cluster.started == 10 and cluster.cancelled == 3


def test_what_goes_wrong_on_a_cluster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Cluster(lambda seed: None).exceptions
    cracked = Cluster(lambda seed: kinds.RayError("worker crashed\nstack") if seed == 2 else None)
    cracked.exceptions = kinds
    results = on_cluster(cracked, monkeypatch)
    assert next(results) and next(results)
    with pytest.raises(WorkerError, match="scene seed 2 .*died 3 times, or the cluster is lost .worker crashed"):
        next(results)
    ours, theirs = HiervlaError("the state is damaged."), ZeroDivisionError("1/0")
    for cause, kind, says in ((ours, HiervlaError, "state is damaged"), (theirs, WorkerError, "ZeroDivisionError")):
        failed = kinds.RayTaskError("remote traceback")
        failed.cause = cause
        with pytest.raises(kind, match=says):
            next(on_cluster(_failing(cracked, failed), monkeypatch))


def _failing(like: Cluster, error: Exception) -> Cluster:
    made = Cluster(lambda seed: error)
    made.exceptions = like.exceptions
    return made


def test_without_ray_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["collect", "--ray", "local", "-o", str(tmp_path), "--skill", "pick"]) == 1
    assert "pip install 'hiervla[ray]'" in " ".join(capsys.readouterr().err.split())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a real cluster: the one of HIERVLA_TEST_RAY, or one that lives as long as these tests."""
    # No token in the home folder of whoever tests.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'hiervla[ray]' (240 MB)", exc_type=ImportError)
    given = os.environ.get("HIERVLA_TEST_RAY")
    if given:
        yield given
        return
    # With its ports given, Ray does not wait for its agent to choose them, which it does for too short a time.
    head, *ports = _free_ports(5)
    names = (
        "dashboard-agent-grpc-port",
        "dashboard-agent-listen-port",
        "runtime-env-agent-port",
        "metrics-export-port",
    )
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={head}",
        "--num-cpus=2",
    ]
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    with subprocess.Popen(
        [*command, *options, "--include-dashboard=false", "--object-store-memory=100000000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            said, address = "", None
            assert process.stdout is not None
            # What it says next is how other nodes join it.
            while address is None and (line := process.stdout.readline()):
                said += line
                address = re.search(r"ray start --address='([^']+)'", line)
            if address is None:
                pytest.skip(f"Ray does not start here: {said[-300:]}")
            yield address[1]
        finally:
            process.terminate()


def test_a_cluster_collects_what_one_process_does_though_a_worker_dies(
    cluster: str, alone: tuple[Path, DemoSet], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(report: CollectReport) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if not killed and (process / "cmdline").read_bytes().startswith(b"ray::_tell"):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.append(int(process.name))
            except (FileNotFoundError, ProcessLookupError):
                continue

    same(alone[1], gathered(tmp_path / "demos", alone[0], ray=cluster, on_progress=kill))
    assert killed, "a worker was at work"


def test_no_cluster_is_one_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Cluster(lambda seed: None)

    def init(**options: Any) -> None:
        assert options["address"] == "head:6379"
        try:
            raise RuntimeError("Traceback\n  AuthenticationError: the token is wrong.")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect") from error

    monkeypatch.setattr(refused, "is_initialized", lambda: False)
    monkeypatch.setattr(refused, "init", init, raising=False)
    monkeypatch.setattr(ray_workers, "need_ray", lambda: refused)
    assert main(["collect", "--ray", "head:6379", "-o", str(tmp_path), "--skill", "pick"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no Ray cluster to be used at 'head:6379' (AuthenticationError: the token is wrong)" in said
    assert "Traceback" not in said
