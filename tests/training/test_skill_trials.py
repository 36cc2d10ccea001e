"""Trials of skills in the tabletop world: judged by ground truth, whether built in or a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.executor.testing import LinePolicy
from hiervla.representations import Condition
from hiervla.skills import Place, SkillContext, SkillLibrary, Thing, Waypoint, skill
from hiervla.training.arena import Arena
from hiervla.training.rates import rate
from hiervla.training.skill_trials import Trial, TrialError, drawn_trial, trial_of, try_skill
from tests.skills import packages


@skill(preconditions=(Condition(predicate="holding", args=("{object}",)),), done=lambda c: True)
def show(
    context: SkillContext,
    object: Annotated[str, Thing("can")],
    over: Annotated[str, Place("bin", "drawer")],
    how: str = "slowly",
) -> list[Waypoint]:
    """Hold a can over the bin."""
    return []


def test_a_trial_is_drawn_from_a_signature() -> None:
    trial = drawn_trial(show)
    assert trial.judge is None
    rng = np.random.default_rng(3)
    with Arena(trial.scene(20_000_003, rng)) as arena:
        task = trial.task(arena, rng)
        assert task is not None
        can = next(o for o in arena.scene.objects if o.category == "can")
        assert arena.state().held == can.id
        assert task.step.args == {"object": f"{can.colour} can", "over": "bin", "how": "slowly"}
        assert task.belief.held == f"{can.colour} can"
        (keypoints,) = task.step.artifacts
        assert keypoints.kind == "keypoints"
        x, y, _ = keypoints.points[0].position_w or (0.0, 0.0, 0.0)
        bin_x, bin_y = arena.scene.furniture.bin_xy
        assert np.hypot(x - bin_x, y - bin_y) < 0.15
        frame = arena.world.observe(["front"]).frames[0]
        assert keypoints.image.sha256 == frame.sha256


def test_a_skill_for_which_no_trial_can_be_drawn_is_named() -> None:
    @skill
    def ring(context: SkillContext, bell: Annotated[str, Thing("bell")]) -> list[Waypoint]:
        """Ring a bell."""
        return []

    @skill
    def bow(context: SkillContext) -> list[Waypoint]:
        """Bow."""
        return []

    with pytest.raises(
        TrialError, match=r"skill 'ring' cannot be tried .*it has no bell for parameter 'bell'. Offer a"
    ):
        drawn_trial(ring)
    with pytest.raises(TrialError, match="skill 'bow' .* names no thing that a keypoint could be on"):
        drawn_trial(bow)
    nothing = Trial(drawn_trial(show).scene, lambda arena, rng: None)
    with pytest.raises(TrialError, match="nothing could be done in 8 scenes of seed 4"):
        try_skill(SkillLibrary([show]), show, nothing, 1, 4)


def test_ground_truth_overrules_what_a_skill_believes() -> None:
    """A pick that only moves down and says that it is done succeeds by nobody's standard but its own."""
    library = SkillLibrary.load()
    pick = library.get("pick")
    report = try_skill(library, pick, trial_of(pick), 1, 0, policy_for=lambda name: LinePolicy(opening=1.0))
    assert (report.trials, report.successes, report.privileged, report.mistaken) == (1, 0, True, 0)
    (how,) = report.failures
    assert how.startswith("not on-") and "(failed: holding: no" in how
    assert report.failures[how] == "1 times, seeds 0"
    assert "pick" in str(report) and "0.000 [0.00, 0.79] (0/1) by ground truth" in str(report)

    @skill(name="pick", done=lambda c: True, policy=lambda: LinePolicy(opening=1.0))
    def boast(context: SkillContext, object: Annotated[str, Thing("block", "mug", "can", "sponge")]) -> None:
        """Say that something was picked up."""

    report = try_skill(SkillLibrary([boast]), boast, trial_of(pick), 1)
    assert (report.successes, report.mistaken) == (0, 1), "it said succeeded, and ground truth says no"
    report = try_skill(SkillLibrary([boast]), boast, drawn_trial(boast), 1)
    assert (report.successes, report.privileged) == (1, False)
    assert "by its own `done`, there is no privileged check" in str(report)


def test_a_stranger_pushes_in_simulation_and_its_package_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(packages.install(packages.PUSH, tmp_path / "site")))
    assert main(["skills", "test", "push", "--trials", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("push          1.000 [0.21, 1.00] (1/1) by ground truth; ")


def test_rates_have_intervals() -> None:
    assert rate(9, 10) == "0.900 [0.60, 0.98] (9/10)"
    assert rate(0, 0) == "-"


def test_two_packages_cannot_both_try_a_skill_and_none_replaces_a_built_in_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one-trial", "two-trial"):
        where = f"{name.replace('-', '_')}:TRIAL"
        packages.write(tmp_path, name, "TRIAL = 3", {"hiervla.trials": {"show": where, "pick": where}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrialError, match=r"one-trial 1.0 .* and two-trial 1.0 .* both offer a trial of it"):
        trial_of(show)
    assert trial_of(SkillLibrary.load().get("pick")).judge is not None
    assert "the trial of 'pick' that one-trial 1.0" in caplog.text


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("TRIAL = 3", "offers 3, which is no Trial"),
        ("import no_such_world", "fails with ModuleNotFoundError: No module"),
    ],
)
def test_a_broken_trial_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, problem: str
) -> None:
    name = f"bad-trial-{len(module)}"  # modules stay imported
    packages.write(tmp_path, name, module, {"hiervla.trials": {"show": f"{name.replace('-', '_')}:TRIAL"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrialError, match=f"{name} 1.0 .*{problem}"):
        trial_of(show)
