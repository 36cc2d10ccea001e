"""Processes that train one network together: started by torchrun or accelerate, one for each GPU or CPU.

Each holds all data, draws the same global batch and works on its own part of it, so how many there are changes the
arithmetic by rounding only. https://docs.pytorch.org/docs/stable/elastic/run.html has the environment they start in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from hiervla.representations.errors import HiervlaError

PATIENCE = timedelta(hours=2)
"""How long the others wait for the first, which tries the policy out in simulation now and then."""


class TeamError(HiervlaError, RuntimeError):
    """Processes that should train together and cannot meet, or do not fit the batch.

    Attributes:
        problem: what is wrong.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        super().__init__(f"training in several processes: {problem}. {remedy}.")


def rank_here() -> int:
    """Number of this process, by what torchrun told it; 0 where it is alone."""
    return _number("RANK", 0)


class Team:
    """The processes of one training; a team of one needs no torchrun and no network.

    Attributes:
        rank: number of this process; the first, 0, writes and speaks.
        size: how many there are.
        device: name of the torch device where this one computes.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu") -> None:
        self.rank = rank
        self.size = size
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's part of so many samples.

        Raises:
            TeamError: they cannot be shared out evenly.
        """
        if count % self.size:
            raise TeamError(
                f"a batch of {count} cannot be shared evenly by {self.size}",
                f"Choose --batch {-(-count // self.size) * self.size}",
            )
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Make every tensor the mean over all processes, in place; all must bring the same ones."""
        if self.size == 1:
            return
        given = [t for t in tensors if t is not None]
        flat = torch.cat([t.reshape(-1) for t in given])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(given, flat.split([t.numel() for t in given]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, values: Sequence[float]) -> list[float]:
        """What the first process says; clocks differ, and all must stop and save at the same step."""
        if self.size == 1:
            return list(values)
        said = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(said, 0)
        return [float(v) for v in said.cpu()]

    def begin_alike(self, tensors: Iterable[Tensor]) -> None:
        """Give all the first process's tensors, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def collected(self, state: Tensor) -> list[Tensor]:
        """A CPU byte tensor of every process, in order, for all."""
        if self.size == 1:
            return [state]
        mine = state.to(self.device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(every, mine)
        return [t.cpu() for t in every]

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """The first process does the block, then the others, which find what it has left."""
        if not self.first:
            distributed.barrier()
        yield
        if self.first and self.size > 1:
            distributed.barrier()


@contextmanager
def team(device: str) -> Iterator[Team]:
    """The team that torchrun or `accelerate launch` has started this process in, for the length of the block.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (nccl; each process takes the GPU of its local rank).

    Raises:
        TeamError: they cannot meet.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield Team(device=device)
        return
    rank = rank_here()
    on_gpu = device.startswith("cuda")
    try:
        if device == "cuda":
            device = f"cuda:{_number('LOCAL_RANK', rank)}"
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError, AssertionError) as error:
        problem = f"process {rank} of {size} cannot meet the others ({str(error).splitlines()[0]})"
        raise TeamError(
            problem, "Start all with `torchrun --nproc-per-node N -m hiervla.cli train policy ...`"
        ) from error
    try:
        yield Team(rank, size, device)
    finally:
        distributed.destroy_process_group()


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    try:
        return int(text)
    except ValueError as error:
        raise TeamError(f"the variable {name} is '{text}', which is no number", "Start with torchrun") from error
