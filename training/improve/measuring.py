"""Generations measured on the same held-out seeds, and what that says of their difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from hiervla.executor.policies.families import load_policy
from hiervla.training.improve.experience import ExperienceError
from hiervla.training.improve.situations import Situation
from hiervla.training.pool import DIED, WorkerError, Workers
from hiervla.training.rates import rate

_RESAMPLES = 10_000
_MOST_SKIPPED = 4
"""How many times as many seeds as trials are drawn at most, where some scenes have nothing to try."""


@dataclass
class Scores:
    """Trials of one generation.

    Attributes:
        situation: what was tried.
        weights: digest of the weights.
        first_seed: of the seeds, which are tried in order.
        results: by seed, what went wrong; empty for a success, None where the scene had nothing to try.
    """

    situation: str
    weights: str
    first_seed: int
    results: dict[int, str | None] = field(default_factory=dict)

    @property
    def tried(self) -> dict[int, bool]:
        """Success by seed."""
        return {seed: wrong == "" for seed, wrong in self.results.items() if wrong is not None}

    @property
    def rate(self) -> tuple[int, int]:
        """Successes and trials."""
        return sum(self.tried.values()), len(self.tried)

    def failures(self) -> Counter[str]:
        """What went wrong, with counts; numbers in it are left out."""
        return Counter(wrong.split(" but ")[0] for wrong in self.results.values() if wrong)


@dataclass(frozen=True)
class Comparison:
    """A later generation against an earlier one on the seeds that both tried.

    Attributes:
        trials: common seeds.
        before: successes of the earlier one.
        after: successes of the later one.
        gained: seeds that only the later one does.
        lost: seeds that only the earlier one does.
        p: exact McNemar test, two-sided: the chance of so uneven a split if both were the same.
        low: 2.5 % end of the gain's paired bootstrap interval.
        high: 97.5 % end of it.
    """

    trials: int
    before: int
    after: int
    gained: int
    lost: int
    p: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """After minus before."""
        return (self.after - self.before) / max(self.trials, 1)

    @property
    def better(self) -> bool:
        """Whether the later one is shown to be better: the interval lies above zero, and the test agrees."""
        return self.low > 0.0 and self.p < 0.05

    @property
    def worse(self) -> bool:
        """Whether it is shown to be worse."""
        return self.high < 0.0 and self.p < 0.05

    def __str__(self) -> str:
        """One line that does not say more than was shown."""
        word = "better" if self.better else "WORSE" if self.worse else "not shown to differ"
        interval = f"{self.gain:+.3f} [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{interval}, {self.gained} seeds gained, {self.lost} lost, McNemar p = {self.p:.2g}: {word}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "gain": self.gain, "better": self.better}


def compare(before: Scores, after: Scores, seed: int = 0) -> Comparison:
    """Two generations on the same seeds; `seed` is the bootstrap's.

    Raises:
        ExperienceError: they were not tried in the same situation.
    """
    if before.situation != after.situation:
        problem = f"scores of '{before.situation}' and of '{after.situation}' do not compare"
        raise ExperienceError("scores", problem, "Measure both in one situation")
    first, second = before.tried, after.tried
    seeds = sorted(first.keys() & second.keys())
    change = np.array([int(second[s]) - int(first[s]) for s in seeds], dtype=np.int64)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    low = high = 0.0
    if seeds:
        drawn = np.random.default_rng(seed).integers(len(seeds), size=(_RESAMPLES, len(seeds)))
        low, high = (float(v) for v in np.quantile(change[drawn].mean(axis=1), (0.025, 0.975)))
    return Comparison(
        len(seeds), sum(first[s] for s in seeds), sum(second[s] for s in seeds), gained, lost, mcnemar(gained, lost),
        low, high,
    )  # fmt: skip


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test (1947): a fair coin for each pair in which the two differ."""
    n, k = gained + lost, min(gained, lost)
    return min(1.0, 2.0 * sum(comb(n, i) for i in range(k + 1)) / 2.0**n)


def measure(
    situation: Situation,
    folder: Path,
    digest: str,
    trials: int,
    first_seed: int,
    file: Path,
    tell: Callable[[str], None],
    like: Sequence[int] | None = None,
    workers: int = 1,
) -> Scores:
    """Try a generation, going on from `file` where it is of the same trials.

    The scores are the same, however many processes try.

    Args:
        situation: what to try.
        folder: its weights.
        digest: of them.
        trials: how many; scenes with nothing to try do not count.
        first_seed: of the held-out scenes.
        file: where the scores are kept, trial by trial.
        tell: hears of progress.
        like: the seeds that another generation was tried on; default the first that have something to try.
        workers: processes.

    Raises:
        ExperienceError: `file` is damaged, or hardly any scene has anything to try.
        WorkerError: a process died.
    """
    scores = read_scores(file, situation, digest, first_seed) or Scores(str(situation), digest, first_seed)
    seeds = like if like is not None else range(first_seed, first_seed + _MOST_SKIPPED * trials)
    left = [seed for seed in seeds if seed not in scores.results]
    with Workers(partial(_tries, situation, folder), workers, partial(_lost, situation)) as pool:
        tried = pool.until(left, trials - scores.rate[1]) if like is None else pool.each(left)
        for seed, wrong in tried:
            scores.results[seed] = wrong
            write_scores(scores, file)
            if scores.rate[1] % 10 == 0:
                tell(f"measuring {folder}: {rate(*scores.rate)}")
    if like is None and scores.rate[1] < trials:
        problem = f"{scores.rate[1]} of {trials} trials could be made from {_MOST_SKIPPED * trials} seeds"
        raise ExperienceError(str(situation), problem, "Ask for fewer --trials, or another situation")
    return scores


def _tries(situation: Situation, folder: Path) -> Callable[[int], str | None]:
    """What tries the seed of a scene, and says what went wrong; see :class:`Scores`."""
    loaded = load_policy(folder)

    def trial(seed: int) -> str | None:
        found = situation.measure(seed, str(folder), loaded)
        return None if found is None else found[1]

    return trial


def _lost(situation: Situation, seed: int) -> WorkerError:
    remedy = "Give the same command again to go on, with fewer --workers if memory is short"
    return WorkerError(DIED, remedy, str(situation), seed, doing="measuring")


def write_scores(scores: Scores, file: Path) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_suffix(".partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(vars(scores), indent=0) + "\n")
    partial.replace(file)


def read_scores(file: Path, situation: Situation, digest: str, first_seed: int) -> Scores | None:
    """Scores from a file; None where there is none, or it is of other trials.

    Raises:
        ExperienceError: it is damaged.
    """
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text())
        results = {int(seed): wrong for seed, wrong in values["results"].items()}
        scores = Scores(values["situation"], values["weights"], values["first_seed"], results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExperienceError(file, f"cannot be read ({error})", "Delete it to have it measured anew") from error
    same = (scores.situation, scores.weights, scores.first_seed) == (str(situation), digest, first_seed)
    return scores if same else None


__all__ = ["Comparison", "Scores", "compare", "mcnemar", "measure", "read_scores", "write_scores"]
