"""Hand-off tests: which skills follow which, the ideal state between them, and moments kept to train on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.representations import UnknownNameError
from hiervla.training.arena import Arena
from hiervla.training.collect import run_collect
from hiervla.training.experts.state import Task
from hiervla.training.handoffs import HandoffReport, HandoffTrial, Tried
from hiervla.training.reliability import rates_of
from hiervla.training.seams import Seam, first_task, ideal_after, occurring, seam_scene, second_task
from hiervla.training.states import SUFFIX, SavedState, StateError, saved_states

PAIRS = [
    ("pick", "place"), ("pick", "throw_away"), ("pick", "wipe"), ("place", "pick"), ("place", "close_drawer"),
    ("place", "open_drawer"), ("throw_away", "pick"), ("wipe", "place"), ("wipe", "throw_away"),
    ("open_drawer", "pick"),
]  # fmt: skip


def test_the_pairs_are_those_of_the_families_plans() -> None:
    met = occurring(40)
    assert {(s.first, s.second) for s in met} >= set(PAIRS)
    assert min(met.values()) >= 1
    assert next(iter(met)) == Seam("pick", "place"), "the commonest comes first"


def test_what_cannot_follow_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown skill after 'pick' 'open_drawer'"):
        Seam("pick", "open_drawer")
    with pytest.raises(UnknownNameError, match="unknown skill 'pik'"):
        Seam("pik", "place")


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_ideal_state_is_what_the_first_skill_is_for(first: str, second: str) -> None:
    seam = Seam(first, second)
    for seed in range(7, 27, 2):
        rng = np.random.default_rng(seed)
        scene = seam_scene(seam, 30_000_001 + seed * 2, rng)
        with Arena(scene) as arena:
            task = first_task(seam, arena, rng)
        if task is not None:
            break
    assert task is not None
    with Arena(ideal_after(scene, task)) as arena:
        facts, thing = arena.truth.facts(), str(task.object)
        wanted = {
            "pick": ("on", thing, "gripper"),
            "place": ("on", thing, task.onto or task.place or "table"),
            "throw_away": ("on", thing, "bin"),
            "open_drawer": ("drawer_open",),
            "wipe": ("on", thing, "gripper"),
        }
        assert wanted[first] in facts
        assert first != "wipe" or arena.scene.spill is None
        follows = second_task(seam, arena, rng)
        assert follows is not None
        assert follows.skill == second


def moment(tmp_path: Path) -> tuple[Path, Task]:
    scene = seam_scene(Seam("throw_away", "pick"), 30_000_001, np.random.default_rng(1))
    with Arena(scene) as arena:
        task = Task("throw_away", np.array([*scene.furniture.bin_xy, 0.01]), object=arena.scene.objects[0].id)
        SavedState.of(arena, task, "pick -> throw_away").save(tmp_path / f"one{SUFFIX}")
    return tmp_path / f"one{SUFFIX}", task


def test_a_moment_is_read_back_and_gone_back_to(tmp_path: Path) -> None:
    path, task = moment(tmp_path)
    assert saved_states([tmp_path]) == [path]
    again = SavedState.load(path)
    assert (again.origin, again.task.skill, again.task.object) == ("pick -> throw_away", "throw_away", task.object)
    assert again.task.target_w == pytest.approx(task.target_w)
    with Arena(again.scene) as arena:
        arena.run(0.2)
        again.restore(arena)
        assert arena.world.snapshot() == again.snapshot
        assert arena.state().held == task.object


def test_demonstrations_begin_in_saved_moments(tmp_path: Path) -> None:
    moment(tmp_path)
    report = run_collect(tmp_path / "demos", skills=("throw_away",), episodes=1, states=[tmp_path])
    assert report.kept["throw_away"] == 1
    assert report.samples > 5
    with pytest.raises(StateError, match="none is of wipe"):
        run_collect(tmp_path / "demos", skills=("wipe",), episodes=1, states=[tmp_path])


def test_damaged_moments_are_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"holds no \*\.state\.npz"):
        saved_states([tmp_path])
    (tmp_path / f"bad{SUFFIX}").write_bytes(b"PK nothing")
    with pytest.raises(StateError, match=r"bad\.state\.npz': cannot be read"):
        SavedState.load(tmp_path / f"bad{SUFFIX}")
    with pytest.raises(StateError, match="cannot be read"):
        SavedState.load(tmp_path / f"none{SUFFIX}")


def trial(chained: Tried | None, clean: Tried | None, first: str = "succeeded", slipped: str = "") -> HandoffTrial:
    block = {"kind": "block", "where": "table"}
    return HandoffTrial(Seam("pick", "place"), 0, first, slipped, block, {"kind": "block", "where": "plate"},
                        chained, clean)  # fmt: skip


def test_a_report_counts_both_arms_apart() -> None:
    good, bad, lie = Tried("succeeded", ""), Tried("failed", "not there"), Tried("succeeded", "not there")
    report = HandoffReport(Seam("pick", "place"))
    for each in (
        trial(good, good),
        trial(bad, good),
        trial(lie, good, slipped="dropped"),
        trial(None, good, "timed_out"),
    ):
        report.add(each)
    told = report.to_json()
    assert (told["chained"], told["clean"], told["gap"]) == ([1, 3], [4, 4], pytest.approx(2 / 3))
    assert (told["stopped"], told["slipped"], told["mistaken"]) == ({"timed_out": 1}, 1, 1)
    assert "not reached: 1 timed_out" in str(report)
    assert "gone on without cause: 1" in str(report)
    assert rates_of([report]) == {("pick", "block", "table"): (2, 4), ("place", "block", "plate"): (5, 7)}
    low, high = told["gap_interval"]
    assert low < told["gap"] < high


def test_a_hand_off_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "handoff", "pick", "throw_away", "--trials", "1", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["first"], report["second"], report["chained"], report["clean"]) == (
        "pick", "throw_away", [1, 1], [1, 1],
    )  # fmt: skip
    assert main(["skills", "handoff", "pick"]) == 2
    assert "give two skills" in capsys.readouterr().err
    assert main(["skills", "handoff", "pick", "wpie"]) != 0
    assert "Did you mean 'wipe'?" in capsys.readouterr().err
