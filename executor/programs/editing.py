"""Another text for the program of a recorded run."""

from __future__ import annotations

from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.fork import ForkPoint, fork_point
from hiervla.planner.given import persons_program
from hiervla.representations import HiervlaError, Plan
from hiervla.representations.events import CorrectionGiven, PlanProposed


class NoProgramError(HiervlaError, ValueError):
    """A program's text is given for a run that carries out no program there."""

    exit_code = 2

    def __init__(self, run: str, at: str) -> None:
        super().__init__(
            f"run '{run}', {at}: it carries out a plan there and no program, so that there is no text to exchange. "
            "Give an artifact, a step or a plan as JSON, or start a program with `hiervla run --program`."
        )
        self.run = run


def with_program(record: RunRecord, at: str | ForkPoint, text: str) -> Plan:
    """The plan that a run has at a step, with another program in it: a correction for a fork.

    Raises:
        UnknownNameError: the run has no such step.
        NoProgramError: it carries out no program there.
    """
    point = at if isinstance(at, ForkPoint) else fork_point(record, at)
    before = int(point.started.id[1:])
    given: list[tuple[int, Plan]] = []
    given += [(int(e.id[1:]), e.plan) for e in record.of(PlanProposed)]
    given += [(int(e.id[1:]), e.plan) for e in record.of(CorrectionGiven) if e.plan is not None]
    plan = max(((n, p) for n, p in given if n < before), key=lambda pair: pair[0], default=(0, None))[1]
    if plan is None or plan.program is None:
        raise NoProgramError(
            record.manifest.run_id, f"event {point.started.id}" if point.step is None else f"step {point.step.id}"
        )
    done = tuple(plan.step(i) for i in plan.done)
    return plan.replace(steps=done, remaining=(), program=persons_program(text))
