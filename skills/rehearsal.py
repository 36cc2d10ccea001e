"""The test of a saved skill: its program, run on the answers that it got when it worked, has to make the same calls.

Nothing moves. It finds that the program was changed, that a skill that it calls is gone or takes other arguments now,
and that this version of the sandbox does something else with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hiervla.representations import SkillSignature
from hiervla.skills.programs import Call, CallResult, ProgramError, Sandbox, Vocabulary
from hiervla.skills.programs.vocabulary import QUESTIONS
from hiervla.skills.saved import SavedCall, SavedCalls, SavedSkillError, load_calls, load_saved


def rehearse(path: Path | str, signatures: Sequence[SkillSignature] | None = None) -> int:
    """Rehearse a saved skill; returns the number of calls that it made.

    Args:
        path: its folder, such as ``FOLDER/clear_table/2``.
        signatures: of the skills that it may call; by default everything installed and saved.

    Raises:
        SavedSkillError: its files are damaged, or it does something else than when it was saved.
    """
    folder = Path(path)
    skill = load_saved(folder)
    if signatures is None:
        from hiervla.skills.registry import SkillLibrary

        signatures = SkillLibrary.load().signatures()
    problem = misbehaviour(skill.source, load_calls(folder), signatures)
    if problem:
        raise SavedSkillError(folder, problem, "Repair what it calls, or save the skill again from a new run")
    return len(load_calls(folder).calls)


def misbehaviour(source: str, saved: SavedCalls, signatures: Sequence[SkillSignature]) -> str:
    """What a program does otherwise than when it was saved; empty when it does the same."""
    with Sandbox("saved skill", source, Vocabulary(signatures), inputs=saved.inputs) as sandbox:
        try:
            request = sandbox.begin()
        except ProgramError as error:
            return "; ".join(map(str, error.problems))
        for number, expected in enumerate(saved.calls, 1):
            if not isinstance(request, Call):
                return f"it ends before call {number} ({_said(expected)}): {request.message}"
            if (request.function, request.args) != (expected.function, expected.args):
                return f"call {number} was {_said(expected)} and is {request} now"
            request = sandbox.answer(_answer(expected))
    if isinstance(request, Call):
        return f"after {len(saved.calls)} calls it was done, and calls {request} now"
    return "" if request.how == "finished" else f"it {request.how.replace('_', ' ')} now: {request.message}"


def _answer(call: SavedCall) -> CallResult | bool | int | str | list[str]:
    if call.function not in QUESTIONS:
        return CallResult(call.outcome or "failed", call.message)
    return list(call.value) if isinstance(call.value, tuple) else call.value if call.value is not None else ""


def _said(call: SavedCall) -> str:
    return f"{call.function}({', '.join(call.args.values())})"
