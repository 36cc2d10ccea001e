"""Measured rates: counted, kept by what they were measured with, read back whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hiervla.skills import SkillContext, SkillLibrary, Waypoint, skill
from hiervla.skills.reliability import Rate, Reliability, ReliabilityError, digest_of, user_file
from hiervla.training.rates import difference, wilson


def rate(successes: int, trials: int, where: str = "table", digest: str = "d") -> Rate:
    return Rate(skill="pick", kind="block", where=where, digest=digest, successes=successes, trials=trials)


def test_trials_of_one_situation_are_counted_together() -> None:
    known = Reliability().plus([rate(3, 4), rate(1, 6), rate(2, 2, "drawer")])
    found = known.rate("pick", "block", "table", "d")
    assert found is not None
    assert (found.successes, found.trials, str(found)) == (4, 10, "4 of 10")
    assert len(known.rates) == 2
    assert known.rate("pick", "mug", "table", "d") is None
    assert known.rate("pick", "block", "table", "other weights") is None


def test_the_interval_is_wilsons() -> None:
    for successes, trials in ((0, 3), (5, 12), (30, 30)):
        assert rate(successes, trials).interval == pytest.approx(wilson(successes, trials), abs=1e-4)


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    known = Reliability().plus([rate(3, 4), rate(2, 2, "drawer")])
    known.write(tmp_path / "deep" / "rates.json")
    assert Reliability.read(tmp_path / "deep" / "rates.json") == known
    assert Reliability.read(tmp_path / "none.json") == Reliability()


def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text('{"version": 1, "rates": [{"skill": "pick"}]}')
    with pytest.raises(ReliabilityError, match=r"rates\.json': cannot be read .* Delete it and measure again\."):
        Reliability.read(path)
    with pytest.raises(ReliabilityError, match="cannot be written"):
        Reliability().write(path / "below" / "rates.json")


def test_a_digest_is_of_the_code_and_of_the_weights() -> None:
    library = SkillLibrary.load()
    pick, place = library.get("pick"), library.get("place")
    assert digest_of(pick, "w") == digest_of(pick, "w")
    assert len({digest_of(pick, "w"), digest_of(pick, "v"), digest_of(place, "w")}) == 3

    @skill
    def nod(context: SkillContext) -> list[Waypoint]:
        """Nod."""
        return []

    assert digest_of(nod, "w") != digest_of(pick, "w")


def test_the_users_own_file_may_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HIERVLA_RELIABILITY", str(tmp_path / "mine.json"))
    assert user_file() == tmp_path / "mine.json"
    monkeypatch.delenv("HIERVLA_RELIABILITY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_file() == tmp_path / "hiervla" / "reliability.json"


def test_the_interval_of_a_difference() -> None:
    low, high = difference((56, 70), (48, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=2e-4), "Newcombe 1998, table II, method 10"
    assert difference((3, 3), (0, 0)) == (-1.0, 1.0)
