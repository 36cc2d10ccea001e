"""How often each skill worked, by kind of thing and by place, as it was measured: what a choice between ways goes by.

A rate belongs to a skill's very code and to the very weights that ran it: each entry carries a digest of both, and an
entry of another skill or of other weights counts for nothing. Rates are counted, never written by hand.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from hiervla.representations import HiervlaError, Typed
from hiervla.skills.base import Skill

FILE = "reliability.json"
_Z = 1.96


class ReliabilityError(HiervlaError, ValueError):
    """A file of rates that cannot be read or written.

    Attributes:
        path: the file.
        problem: what is wrong with it.
    """

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"measured rates '{path}': {problem}. {remedy}.")
        self.path = str(path)
        self.problem = problem


class Rate(Typed):
    """How often one skill worked on one kind of thing in one place."""

    skill: str
    kind: str = Field(description="kind of the thing, such as 'block'")
    where: str = Field(description="where it lies or is to go, such as 'drawer'")
    digest: str = Field(description="of the skill and of what ran it; see digest_of")
    successes: int = Field(ge=0)
    trials: int = Field(ge=1)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate."""
        n, p = self.trials, self.successes / self.trials
        middle = p + _Z**2 / (2 * n)
        spread = _Z * sqrt(p * (1 - p) / n + (_Z / (2 * n)) ** 2)
        scale = 1 + _Z**2 / n
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)

    def __str__(self) -> str:
        """``5 of 12``."""
        return f"{self.successes} of {self.trials}"


class Reliability(Typed):
    """Measured rates; those of one skill, kind, place and digest are one entry."""

    version: Literal[1] = 1
    rates: tuple[Rate, ...] = ()
    runs: tuple[str, ...] = Field(default=(), description="ids of recorded runs that are counted in")

    def rate(self, skill: str, kind: str, where: str, digest: str) -> Rate | None:
        """The rate of one skill in one situation, if it was measured with the present skill and weights."""
        return self._index.get((skill, kind, where, digest))

    def plus(self, others: Iterable[Rate]) -> Reliability:
        """With further trials counted in."""
        merged = dict(self._index)
        for rate in others:
            key = _key(rate)
            old = merged.get(key)
            merged[key] = rate if old is None else rate.replace(
                successes=old.successes + rate.successes, trials=old.trials + rate.trials
            )  # fmt: skip
        return Reliability(rates=tuple(merged[k] for k in sorted(merged)), runs=self.runs)

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str], Rate]:
        return {_key(r): r for r in self.rates}

    @classmethod
    def read(cls, path: Path) -> Reliability:
        """Read a file; one that does not exist has no rates.

        Raises:
            ReliabilityError: it is damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            problem = f"cannot be read ({str(error).splitlines()[0]})"
            raise ReliabilityError(path, problem, "Delete it and measure again") from error

    def write(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            ReliabilityError: it cannot be written.
        """
        partial = path.with_suffix(".partial")
        lines = ",\n".join(json.dumps(r.model_dump(mode="json")) for r in self.rates)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(f'{{"version": 1, "runs": {json.dumps(self.runs)}, "rates": [\n{lines}\n]}}\n')
            partial.replace(path)
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise ReliabilityError(path, problem, "Choose another folder") from error


def digest_of(skill: Skill, weights: str) -> str:
    """Twelve hexadecimal digits of a skill's source and of the weights that run it.

    Args:
        skill: the skill.
        weights: digest or version of its policy; see `Policy.id`.
    """
    thing = getattr(skill, "function", None) or type(skill)
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):
        source = f"{thing.__module__}.{thing.__qualname__}"
    return hashlib.sha256(f"{source}\n{weights}".encode()).hexdigest()[:12]


def user_file() -> Path:
    """Where rates from a user's own runs are kept: ``HIERVLA_RELIABILITY``, or a file in the user's data folder."""
    named = os.environ.get("HIERVLA_RELIABILITY")
    if named:
        return Path(named)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hiervla" / FILE


def _key(rate: Rate) -> tuple[str, str, str, str]:
    return rate.skill, rate.kind, rate.where, rate.digest


__all__ = ["FILE", "Rate", "Reliability", "ReliabilityError", "digest_of", "user_file"]
