"""Thresholds from records: what is counted as what, what is better, and what is said where little is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.executor.calibration import (
    Confusion,
    Ended,
    attempts_of,
    code_of,
    find_records,
    fit,
    fit_head,
    present,
    proposal,
)
from hiervla.executor.record.errors import NotARecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.testing import LinePolicy, run_skill
from hiervla.representations import Verdict
from hiervla.representations.events import VerdictGiven
from hiervla.skills import (
    DoneHead,
    ProgressHead,
    SkillContext,
    SkillLibrary,
    Timer,
    after,
    all_of,
    any_of,
    majority,
    skill,
)
from tests import records


@skill(termination=any_of(DoneHead(0.5, min_s=0.6), Timer(9.0)), policy=LinePolicy)
def pick(context: SkillContext) -> None:
    """Pick."""


LIBRARY = SkillLibrary([pick])


def ended(*values: float, worked: bool | None = True) -> Ended:
    return Ended("pick", worked, {"done_head": values})


def test_a_matrix_counts_four_ways() -> None:
    c = Confusion.at(0.5, done=[0.9, 0.6, 0.4], not_done=[0.1, 0.5])
    assert (c.stops, c.misses, c.early, c.goes_on) == (2, 1, 1, 1)
    assert c.balanced == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_threshold_that_stopped_too_early_is_raised_to_the_middle_of_the_widest_gap() -> None:
    found = fit_head("done_head", 0.5, done=[0.90, 0.92], not_done=[0.1, 0.55, 0.6])
    assert found.now.early == 2
    assert found.best.threshold == pytest.approx(0.75)
    assert (found.best.early, found.best.misses) == (0, 0)
    assert (found.highest, found.lowest) == (0.6, 0.90)
    assert not found.enough


def test_a_threshold_that_never_stopped_is_lowered() -> None:
    found = fit_head("done_head", 0.5, done=[0.4, 0.45], not_done=[0.1, 0.2])
    assert found.now.misses == 2
    assert found.best.threshold == pytest.approx(0.3)


def test_the_present_threshold_stays_where_none_is_better() -> None:
    found = fit_head("done_head", 0.5, done=[0.9] * 12, not_done=[0.1] * 12)
    assert found.best is found.now
    assert found.enough
    assert fit_head("done_head", 0.5, done=[0.9], not_done=[]).best.threshold == 0.5


def test_what_went_on_and_what_failed_is_not_done_and_what_worked_is_done_at_its_end() -> None:
    attempts: list[Ended | str] = [
        ended(0.1, 0.3, 0.7), ended(0.2, 0.6, worked=False), ended(0.4, 0.5, worked=None), "pick",
    ]  # fmt: skip
    (made,) = fit(attempts, LIBRARY)
    assert (made.attempts, made.worked, made.unsure, made.silent) == (2, 1, 1, 1)
    now = made.fits["done_head"].now
    assert (now.stops, now.misses, now.early, now.goes_on) == (1, 0, 1, 3)
    assert made.fits["done_head"].best.threshold == pytest.approx(0.65)
    assert list(made.fits) == ["done_head"], "nothing is known of the progress head"


def test_the_proposal_says_what_to_put_where() -> None:
    values = proposal(fit([ended(0.1, 0.7), ended(0.2, 0.6, worked=False)], LIBRARY), LIBRARY, [Path("runs/a")])
    entry = values["skills"]["pick"]
    assert entry["put"] == "termination = any_of(DoneHead(0.65, min_s=0.6), Timer(9))"
    assert entry["where"] == "the argument `termination` of @skill at tests.executor.test_calibration.pick"
    assert (entry["done_head"]["present"], entry["done_head"]["fitted"]) == (0.5, 0.65)
    assert entry["done_head"]["confusion_present"]["not_done_stop"] == 1
    assert not entry["done_head"]["samples_enough"]
    built_in = SkillLibrary.load()
    (entry,) = proposal(fit([ended(0.1, 0.7)], built_in), built_in, [])["skills"].values()
    assert entry["where"] == "the property `termination` of hiervla.skills.library.Pick"


def test_every_kind_of_termination_can_be_written_down_again() -> None:
    tree = majority(all_of(DoneHead(0.5), ProgressHead(0.9, min_s=1.0)), after(2.0), after(1.0, Timer(3.0)))
    text = code_of(tree, {"progress_head": 0.8})
    assert text == "majority(all_of(DoneHead(0.5), ProgressHead(0.8, min_s=1)), after(2), after(1, Timer(3)))"
    assert present(pick, "done_head") == 0.5
    assert present(pick, "progress_head") is None


class Judged(records.Script):
    """A script whose attempts end with what the heads said at each boundary and with a given verdict."""

    values: list[float]
    done: Any
    with_evidence = True

    def verdict(self, step: Any, phase: Any, name: str, value: Any) -> None:
        if phase != "done":
            return super().verdict(step, phase, name, value)
        for k, p in enumerate(self.values):
            heads = {"done_head.done_prob": p, "done_head.progress": p / 2} if self.with_evidence else {}
            said: dict[str, float | str | bool] = {**heads, "done_head": "no", "timer": "no"}
            value = "yes" if k == len(self.values) - 1 else "no"
            verdict = Verdict(name="any(done_head, timer)", value=value, evidence=said)
            self.recorder.emit(
                VerdictGiven,
                time_s=self.now_s,
                parent=self.parent,
                step_id=step.id,
                phase="during",
                verdict=verdict,
            )
        return super().verdict(step, phase, name, self.done)


def make_record(folder: Path, attempts: Sequence[tuple[list[float], Any]], *, evidence: bool = True) -> Path:
    """A record with attempts at a pick: what the done head said at each boundary, and the verdict at the end."""
    with RunRecorder.create(folder, records.manifest(), durable=False) as recorder:
        script = Judged(recorder)
        script.with_evidence = evidence
        script.plan((records.PICK,))
        for number, (script.values, script.done) in enumerate(attempts):
            script.step(records.PICK, "succeeded" if script.done == "yes" else "failed", attempt=number)
        script.finish()
    return folder


def test_attempts_are_read_from_a_record(tmp_path: Path) -> None:
    path = make_record(tmp_path / "run", [([0.1, 0.8], "yes"), ([0.2, 0.6], "no"), ([0.3, 0.7], "unsure")])
    read = list(attempts_of(RunRecord.open(path)))
    assert read == [
        Ended("pick", True, {"done_head": (0.1, 0.8), "progress_head": (0.05, 0.4)}),
        Ended("pick", False, {"done_head": (0.2, 0.6), "progress_head": (0.1, 0.3)}),
        Ended("pick", None, {"done_head": (0.3, 0.7), "progress_head": (0.15, 0.35)}),
    ]
    old = make_record(tmp_path / "old", [([0.1, 0.8], "yes")], evidence=False)
    assert list(attempts_of(RunRecord.open(old))) == ["pick"], "the last boundary's value is not in an older record"


def test_a_run_of_today_can_be_calibrated(tmp_path: Path) -> None:
    from hiervla.executor.agent import Agent
    from hiervla.executor.presets import world_preset
    from hiervla.executor.testing import KinematicWorld, ScriptedPlanner, step_at
    from hiervla.representations import Plan

    assert run_skill(pick)[0].outcome == "succeeded"
    plan = Plan(goal="g", steps=(step_at("a", "pick", (0.5, 0.05, 0.02)),), remaining=("a",))
    agent = Agent(world_preset("tabletop"), ScriptedPlanner([plan]), lambda name: LinePolicy(), skills=LIBRARY)
    result = agent.run("pick", world=KinematicWorld(), record=tmp_path)
    assert result.record is not None
    (attempt,) = attempts_of(RunRecord.open(result.record))
    assert attempt == Ended("pick", None, {"done_head": (0.0, 0.0, 1.0)}), "this pick's own check is always unsure"


def test_records_are_found_alone_and_in_folders(tmp_path: Path) -> None:
    one = records.make_record(tmp_path / "runs" / "a")
    two = records.make_record(tmp_path / "runs" / "b")
    assert find_records([one, tmp_path / "runs"]) == [one, one, two]
    with pytest.raises(NotARecordError, match="it is no run record and holds none"):
        find_records([tmp_path])


def test_the_command_prints_matrices_and_is_honest_about_few_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_record(tmp_path / "runs" / "a", [([0.1, 0.8], "yes"), ([0.2, 0.6], "no")])
    make_record(tmp_path / "runs" / "b", [([0.1, 0.3], "yes")], evidence=False)
    assert main(["calibrate", "runs"]) == 0
    said = capsys.readouterr().out
    for line in (
        "pick: 2 attempts, 1 worked, 1 did not",
        "  1 more are left out: the record does not hold what the heads said at the end",
        "    present 0.5000, balanced accuracy 0.833",
        "      not done      1      2",
        "    fitted 0.7000, balanced accuracy 1.000",
        "    at most 0.6000 while not done, at least 0.8000 when done",
        "    only 1 done and 3 not done: too few to go by",
        "  progress head, not asked by the termination",
    ):
        assert line in said.splitlines(), said
    assert "agrees with them by construction" in said
    written = json.loads(Path("thresholds.json").read_text())
    assert written["skills"]["pick"]["put"] == "termination = any_of(DoneHead(0.7, min_s=0.6), Timer(9))"
    make_record(tmp_path / "good" / "a", [([0.1, 0.8], "yes")])
    assert main(["calibrate", "good"]) == 0
    assert "no attempt failed: what a wrong stop looks like is not in these records" in capsys.readouterr().out
    assert main(["calibrate", "good", "--out", "nowhere/x.json"]) == 1
    assert "'nowhere/x.json' cannot be written" in capsys.readouterr().err
