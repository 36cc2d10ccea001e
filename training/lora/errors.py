"""What can go wrong while a model is fine-tuned."""

from __future__ import annotations

from hiervla.representations import HiervlaError


class FineTuneError(HiervlaError):
    """Training that cannot begin or go on.

    Attributes:
        base: the checkpoint.
        problem: what is wrong.
    """

    def __init__(self, base: str, problem: str, remedy: str) -> None:
        super().__init__(f"fine-tuning of '{base}': {problem}. {remedy}.")
        self.base = base
        self.problem = problem
