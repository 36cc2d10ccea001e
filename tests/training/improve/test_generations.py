"""Generations: measured on the same seeds, called better only where that is shown, and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiervla.executor.policies.families import load_policy
from hiervla.training.improve.experience import ExperienceError, read
from hiervla.training.improve.generations import ImproveSpec, collect, improve
from hiervla.training.improve.measuring import Scores, compare, mcnemar, measure
from hiervla.training.improve.situations import Situation, WeightsFolderError, situation_of
from hiervla.training.improve.value import ValueSpec
from hiervla.training.trainer import TrainSpec
from tests.training.improve import tiny

SPEC = ImproveSpec(
    tiny.Counted("place"), rollouts=24, trials=20, first_seed=100,
    value=ValueSpec(steps=5, copies=1, width=8, bins=5, batch=16),
    train=TrainSpec(steps=3, batch=8, points=24, freeze_encoder=True, copies=1),
)  # fmt: skip


def scores(*won: bool | None) -> Scores:
    results = {k: None if w is None else "" if w else "missed" for k, w in enumerate(won)}
    return Scores("place", "w", 0, results)


def test_mcnemar_is_the_exact_test() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(3, 3) == 1.0
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2 ** 12
    assert mcnemar(10, 2) == pytest.approx(158 / 4096)
    assert mcnemar(2, 10) == mcnemar(10, 2)


def test_better_is_said_only_of_what_is_shown() -> None:
    low, high = scores(*[False] * 30), scores(*[True] * 12, *[False] * 18)
    shown = compare(low, high)
    assert (shown.before, shown.after, shown.gained, shown.lost, shown.trials) == (0, 12, 12, 0, 30)
    assert shown.better and shown.low > 0.2 and "better" in str(shown)
    assert compare(high, low).worse and "WORSE" in str(compare(high, low))
    little = compare(low, scores(*[True] * 4, *[False] * 26))
    # The interval alone would call this a gain; the exact test does not.
    assert little.low > 0.0 and little.p > 0.05 and not little.better and "not shown to differ" in str(little)
    assert not compare(high, high).better
    assert compare(scores(True, None, False), scores(None, True, True)).trials == 1
    with pytest.raises(ExperienceError, match="do not compare"):
        compare(low, Scores("wipe", "w", 0))


def test_generations_are_made_measured_alike_and_not_made_again(tmp_path: Path) -> None:
    begin, out = tiny.weights(tmp_path / "w"), tmp_path / "out"
    said: list[str] = []
    tiny.ASKED.clear()
    made = list(improve(SPEC, out, begin, generations=2, command="hiervla improve", tell=said.append))
    assert [g.number for g in made] == [0, 1, 2]
    assert {frozenset(g.scores.tried) for g in made} == {frozenset(made[0].scores.tried)}
    assert made[1].against_last is not None and made[1].against_last.better
    assert made[2].against_last is not None and not made[2].against_last.better
    assert made[2].against_first is not None and made[2].against_first.better
    measured = {seed for what, seed in tiny.ASKED if what == "measure"}
    assert measured.isdisjoint(seed for what, seed in tiny.ASKED if what == "roll out")
    policy = load_policy(made[2].folder)
    assert policy.id == "tiny-1-g2" and policy.network.spec.advantage
    config = json.loads((made[2].folder / "config.json").read_text())
    first, second = config["improved"]
    assert first["parent"]["sha256"] == made[0].digest and second["parent"]["sha256"] == made[1].digest
    assert second["measured"]["successes"] == made[2].scores.rate[0]
    # The second generation learns from the first one's rollouts as well.
    assert first["experience"]["trails"] == 24 and second["experience"]["trails"] == 48
    card = (made[2].folder / "README.md").read_text()
    assert made[1].digest in card and "hiervla improve" in card and "not shown to differ" in card
    tiny.ASKED.clear()
    again = list(improve(SPEC, out, begin, generations=2, tell=said.append))
    assert [g.digest for g in again] == [g.digest for g in made] and tiny.ASKED == []


def test_an_interrupted_improvement_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    begin = tiny.weights(tmp_path / "w")
    whole = list(improve(SPEC, tmp_path / "a", begin, tell=lambda line: None))

    class Interrupted(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("rollouts: 20 of 24"):
            raise Interrupted

    with pytest.raises(Interrupted):
        list(improve(SPEC, tmp_path / "b", begin, tell=stop))
    tiny.ASKED.clear()
    parts = list(improve(SPEC, tmp_path / "b", begin, tell=lambda line: None))
    assert sum(what == "roll out" for what, _ in tiny.ASKED) < 8
    one, other = (load_policy(g[1].folder).network.state_dict() for g in (whole, parts))
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    begin, out = tiny.weights(tmp_path / "w"), tmp_path / "out"
    list(improve(SPEC, out, begin, generations=0, tell=lambda line: None))
    with pytest.raises(ExperienceError, match="another spec"):
        list(improve(replace(SPEC, trials=21), out, begin, tell=lambda line: None))
    with pytest.raises(WeightsFolderError, match="no folder of weights"):
        list(improve(SPEC, out, tmp_path, tell=lambda line: None))
    with pytest.raises(ExperienceError, match="has none"):
        list(improve(replace(SPEC, rollouts=0), tmp_path / "none", begin, tell=lambda line: None))
    with pytest.raises(ExperienceError, match="no measured rate"):
        situation_of(begin, None, None, None)
    with pytest.raises(ExperienceError, match="but for pick"):
        situation_of(begin, "wipe", None, "drawer")
    assert situation_of(begin, "wipe", None, None) == Situation("wipe")
    assert str(situation_of(begin, None, None, "drawer")) == "pick block from drawer"


def test_measuring_goes_on_from_its_file_and_needs_scenes(tmp_path: Path) -> None:
    begin, file = tiny.weights(tmp_path / "w"), tmp_path / "scores.json"
    place = tiny.Counted("place")
    first = measure(place, begin, "d", 4, 100, file, lambda line: None)
    tiny.ASKED.clear()
    more = measure(place, begin, "d", 6, 100, file, lambda line: None)
    assert len(tiny.ASKED) == len(more.results) - len(first.results) == 3
    # Scores of other weights are not taken for these.
    tiny.ASKED.clear()
    measure(place, begin, "other", 4, 100, file, lambda line: None)
    assert len(tiny.ASKED) == 5
    file.write_text("{")
    with pytest.raises(ExperienceError, match="cannot be read"):
        measure(place, begin, "d", 4, 100, file, lambda line: None)


def test_two_processes_come_to_what_one_does(tmp_path: Path) -> None:
    begin, folders = tiny.weights(tmp_path / "w"), [tmp_path / "1", tmp_path / "2"]
    for workers, folder in enumerate(folders, 1):
        collect(SPEC, 1, begin, folder, lambda line: None, workers)
        measure(SPEC.situation, begin, "d", 6, 100, folder / "scores.json", lambda line: None, workers=workers)
    one, other = ((folder / "scores.json").read_text() for folder in folders)
    assert one == other and one.count("null") == 2
    files = [sorted(folder.glob("*.npz")) for folder in folders]
    assert [f.name for f in files[0]] == [f.name for f in files[1]] and len(files[0]) == 2
    for alone, shared in zip(*files, strict=True):
        (first, said), (second, told) = read(alone), read(shared)
        assert said == told and first.counts() == second.counts()
        np.testing.assert_array_equal(first.demos.actions, second.demos.actions)
