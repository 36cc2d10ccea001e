"""From a run that worked to a skill of that name: its program, its contract, its test, in a folder of its own."""

from __future__ import annotations

import ast
import io
import keyword
import os
import re
import shutil
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from hiervla.executor.programs.contract import inferred_contract
from hiervla.executor.record.reader import RunRecord
from hiervla.representations import Condition, HiervlaError, Parameter, SkillSignature, Step
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from hiervla.skills.programs import Vocabulary
from hiervla.skills.programs.text import call_text
from hiervla.skills.rehearsal import misbehaviour
from hiervla.skills.saved import (
    ProgramSkill,
    SavedCall,
    SavedCalls,
    SavedFrom,
    SkillFile,
    sha256_of,
    skill_folders,
    versions_of,
)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_LONGEST: Final = 200


class SaveError(HiervlaError, ValueError):
    """A run that no skill can be made of, or not under that name.

    Attributes:
        run: id of the run.
        name: the name that was asked for.
        problem: why not.
    """

    exit_code = 2

    def __init__(self, run: str, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"run '{run}' was not saved as skill '{name}': {problem}. {remedy}.")
        self.run = run
        self.name = name
        self.problem = problem


def save_skill(
    record: RunRecord,
    name: str,
    *,
    folder: Path | str | None = None,
    doc: str = "",
    params: Mapping[str, str] | None = None,
    skills: SkillLibrary | None = None,
) -> Path:
    """Save what a run did as a new skill, or as a new version of a saved one; nothing is ever overwritten.

    A run of a program is saved as that program, a run of a plan as a program of the steps that were done. Its
    preconditions are those of its steps that no earlier step establishes, its postconditions what holds at the end;
    things that only perception named are left out of both.

    Args:
        record: a run that succeeded.
        name: of the skill.
        folder: where saved skills lie; by default the first of :func:`hiervla.skills.saved.skill_folders`.
        doc: one sentence that planners read; by default the run's instruction.
        params: words in the program that become arguments, by the argument's name: ``{"object": "red mug"}``.
        skills: the library; by default everything installed and saved.

    Returns:
        The folder of the new version.

    Raises:
        SaveError: the run did not succeed, the name cannot be had, or the program does not do the same again.
    """
    library = skills if skills is not None else SkillLibrary.load()
    run = record.manifest.run_id
    place = _place(record, name, folder, library)
    steps = _steps(record, name)
    source, calls = _program(record, name, steps, library)
    named = dict(params or {})
    kinds = _parameters(run, name, named, steps, library)
    for argument, word in named.items():
        source, found = _with_name(source, word, argument)
        if not found:
            raise SaveError(run, name, f"'{word}' is nowhere in its program", "Name words that stand in it")
    saved = SavedCalls(inputs=named, calls=calls)
    problem = misbehaviour(source, saved, library.signatures())
    if problem:
        raise SaveError(
            run, name, f"its program does not do the same again: {problem}", "Run it once more and save that"
        )
    before, after = (_general(c, source, named) for c in inferred_contract(steps))
    about = " ".join((doc or record.manifest.instruction).split())[:_LONGEST]
    signature = SkillSignature(
        name=name, params=kinds, doc=about, accepts=(), preconditions=before, postconditions=after
    )
    origin = SavedFrom(
        run_id=run,
        instruction=record.manifest.instruction,
        world=record.manifest.world,
        planner=record.manifest.planner,
    )
    return _write(place, signature, source, saved, origin)


def _place(record: RunRecord, name: str, folder: Path | str | None, library: SkillLibrary) -> Path:
    run = record.manifest.run_id
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise SaveError(run, name, "that is no name for a skill", "Use lower case letters, digits and underscores")
    reason = Vocabulary([SkillSignature(name=name)]).left_out.get(name)
    if reason:
        raise SaveError(run, name, reason, "Choose another name")
    folders = skill_folders()
    if folder is None and not folders:
        raise SaveError(run, name, "there is no folder for saved skills", "Name one with --skills DIR")
    place = Path(folder if folder is not None else folders[0]).expanduser() / name
    if name in library:
        has = library.get(name)
        if not isinstance(has, ProgramSkill) or has.path is None or has.path.parent.resolve() != place.resolve():
            raise SaveError(run, name, f"{library.origin(name)} has a skill of that name", "Choose another name")
    if record.finished is None or record.finished.outcome != "succeeded":
        how = "was not closed" if record.finished is None else f"ended as '{record.finished.outcome}'"
        raise SaveError(run, name, f"it {how}", "Save a run that succeeded")
    return place


def _steps(record: RunRecord, name: str) -> list[Step]:
    """The steps that were done, in order."""
    plans = [e.plan for e in record.of(ev.PlanProposed)]
    finished = record.finished
    if not plans or finished is None or not finished.done:
        raise SaveError(record.manifest.run_id, name, "it did no steps", "Save a run that did something")
    return [plans[-1].step(i) for i in finished.done]


def _program(
    record: RunRecord, name: str, steps: Sequence[Step], library: SkillLibrary
) -> tuple[str, tuple[SavedCall, ...]]:
    """The program of a run, and the calls that it made."""
    proposed = list(record.of(ev.PlanProposed))
    program = proposed[-1].plan.program
    if program is None:
        lines = [call_text(step, library.get(step.skill).signature) for step in steps]
        vocabulary = Vocabulary(library.signatures())
        calls = [
            SavedCall(
                function=step.skill,
                args=vocabulary.bind(step.skill, (), _known(step, library)),
                outcome="succeeded",
            )
            for step in steps
        ]
        return "".join(f"{line}\n" for line in lines), tuple(calls)
    # A plan with a saved skill among its steps becomes a program before its first step.
    first = next(e for e in proposed if e.plan.program is not None)
    texts = {None if e.plan.program is None else e.plan.program.source for e in proposed[proposed.index(first) :]}
    if len(texts) > 1 or any(int(s.id[1:]) < int(first.id[1:]) for s in record.of(ev.StepStarted)):
        raise SaveError(
            record.manifest.run_id,
            name,
            "its program was edited or exchanged while it ran",
            "Run the final text once from its beginning, and save that run",
        )
    answers = {e.call: e for e in record.of(ev.ProgramReturned)}
    made = [c for c in record.of(ev.ProgramCalled) if not c.skill and c.call in answers]
    return program.source, tuple(
        SavedCall(
            function=c.function,
            args=c.args,
            outcome=answers[c.call].outcome,
            message=answers[c.call].message,
            value=answers[c.call].value,
        )
        for c in made
    )


def _known(step: Step, library: SkillLibrary) -> dict[str, str | float]:
    """A step's arguments as a program would give them."""
    values: dict[str, str | float] = {}
    for p in library.get(step.skill).signature.params:
        if p.name in step.args:
            values[p.name] = float(step.args[p.name]) if p.type == "number" else step.args[p.name]
    return values


def _parameters(
    run: str, name: str, named: Mapping[str, str], steps: Sequence[Step], library: SkillLibrary
) -> tuple[Parameter, ...]:
    """Parameters for the words that become arguments: of the type that the first step has for the word."""
    found = []
    for argument, word in named.items():
        if not _NAME.fullmatch(argument) or keyword.iskeyword(argument) or argument in Vocabulary(library.signatures()):
            raise SaveError(run, name, f"'{argument}' is no name for an argument", "Use another word")
        uses = [
            p
            for step in steps
            for p in library.get(step.skill).signature.params
            if step.args.get(p.name) == word and p.type in ("object", "location", "text")
        ]
        like = uses[0] if uses else Parameter(name=argument, type="text")
        found.append(Parameter(name=argument, type=like.type, categories=like.categories, doc=like.doc))
    return tuple(found)


def _with_name(source: str, word: str, name: str) -> tuple[str, bool]:
    """A program with a name in the place of every string that is a word, and whether there was one."""
    lines = source.splitlines(keepends=True)
    places = []
    for token, value in _strings(source):
        if value == word:
            places.append((token.start, token.end))
    for (row, start), (last, end) in reversed(places):
        if row == last:
            lines[row - 1] = lines[row - 1][:start] + name + lines[row - 1][end:]
    return "".join(lines), bool(places)


def _strings(source: str) -> list[tuple[tokenize.TokenInfo, str]]:
    """The plain strings of a text with their values; those with something put into them are none."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        prefix = token.string[: len(token.string) - len(token.string.lstrip("rRuUbBfFtT"))].lower()
        if token.type == tokenize.STRING and prefix in {"", "r", "u"}:
            found.append((token, str(ast.literal_eval(token.string))))
    return found


def _general(conditions: Sequence[Condition], source: str, named: Mapping[str, str]) -> tuple[Condition, ...]:
    """Conditions about what the program's text names, with its arguments in the place of their words."""
    words = {word: f"{{{argument}}}" for argument, word in named.items()}
    literals = {value for _, value in _strings(source)}
    # What a skill acts upon without naming it, such as the bin, is the same whatever the program is about.
    fixed = {"bin", "sponge"}
    kept = []
    for condition in conditions:
        if all(a in words or a in literals or a in fixed for a in condition.args):
            kept.append(condition.replace(args=tuple(words.get(a, a) for a in condition.args)))
    return tuple(kept)


def _write(place: Path, signature: SkillSignature, source: str, saved: SavedCalls, origin: SavedFrom) -> Path:
    """Write a new version, whole or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".saving-{uuid4().hex}"
    temporary.mkdir()
    try:
        while True:
            version = (versions_of(place) or [0])[-1] + 1
            file = SkillFile(
                skill_version=version, signature=signature, program_sha256=sha256_of(source), saved_from=origin
            )
            (temporary / "program.py").write_text(source)
            (temporary / "skill.json").write_text(file.model_dump_json(indent=2) + "\n")
            (temporary / "calls.json").write_text(saved.model_dump_json(indent=2) + "\n")
            (temporary / f"test_{signature.name}.py").write_text(_TEST.replace("@NAME@", signature.name))
            try:
                # Onto a folder with something in it no rename goes: a version that somebody else just wrote stays.
                os.rename(temporary, place / str(version))
            except OSError:
                if not (place / str(version)).exists():
                    raise
                continue
            return place / str(version)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


_TEST: Final = '''\
"""The saved skill `@NAME@`: on the answers that it got when it worked, its program makes the same calls."""

from pathlib import Path

from hiervla.skills.rehearsal import rehearse


def test_it_makes_the_calls_that_it_made_when_it_worked() -> None:
    assert rehearse(Path(__file__).parent) > 0
'''
