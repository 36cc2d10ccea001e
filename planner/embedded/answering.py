"""The language model's answer, held against what is seen and what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hiervla.planner.base import Objection, PlannerContext, Remembered, StepRecord
from hiervla.planner.embedded.grammar import PlanDraft, parse_answer
from hiervla.planner.embedded.naming import absent
from hiervla.planner.embedded.recall import hidden_thing, plan_for_hidden
from hiervla.planner.embedded.slots import SceneSlots
from hiervla.representations.errors import PlanError

if TYPE_CHECKING:
    from hiervla.planner.embedded.consistency import Ban
    from hiervla.planner.embedded.generation import Generated, LanguageDecoder


@dataclass(frozen=True)
class Answer:
    """What is to be done.

    Attributes:
        generated: the answer.
        slots: what it speaks of: what is seen, and at times a remembered thing after it.
        absent: what the instruction names and nobody sees, so that the model's plan was not taken; or "".
        hidden: what is remembered of a thing that is not in view.
    """

    generated: Generated
    slots: SceneSlots
    absent: str = ""
    hidden: Remembered | None = None


def answered(
    decoder: LanguageDecoder,
    slots: SceneSlots,
    instruction: str,
    records: Sequence[StepRecord],
    lines: Sequence[str],
    context: PlannerContext,
) -> Answer:
    """The answer to an instruction.

    Args:
        decoder: the language model.
        slots: what is seen.
        instruction: free text.
        records: attempts so far.
        lines: the same as the model reads them.
        context: of the question.

    Raises:
        PlanError: no complete answer.
    """
    found = decoder.answer(slots, instruction, lines, context.skills, banned=_bans(context.objections))
    missing = absent(instruction, slots, handled(records)) if found.draft.remaining else ""
    if missing:
        # It would handle another thing. What it wrote stays on record as it is.
        found = replace(found, draft=PlanDraft(found.draft.done, refuse="not_in_scene", missing=missing))
    if found.draft.refuse != "not_in_scene":
        return Answer(found, slots)
    hidden = hidden_thing(found.draft.missing, context.unseen)
    if hidden is None:
        return Answer(found, slots, missing)
    opened = plan_for_hidden(decoder, slots, hidden, instruction, lines, context.skills)
    return Answer(*(opened or (found, slots)), missing, hidden)


def handled(records: Sequence[StepRecord]) -> set[str]:
    """Names of what steps that worked have dealt with, which may be out of sight by now."""
    return {value for r in records if r.outcome == "succeeded" for value in r.step.args.values()}


def _bans(objections: Sequence[Objection]) -> list[Ban]:
    """The calls of earlier answers that were objected to; answers that are no plans are left out."""
    from hiervla.planner.embedded.consistency import Ban

    bans = []
    for objection in objections:
        try:
            calls = parse_answer(objection.raw_text).remaining
        except PlanError:
            continue
        if objection.step < len(calls):
            bans.append(Ban(objection.step, calls[objection.step]))
    return bans
