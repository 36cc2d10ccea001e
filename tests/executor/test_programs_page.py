"""The page about programs is true: its programs pass the checker, its code runs in order, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hiervla.cli import main
from hiervla.skills import SkillLibrary
from hiervla.skills.programs import ProgramError, ProgramLimits, Vocabulary, check_program
from hiervla.skills.programs.vocabulary import GIVE_UP, QUESTIONS
from tests.skills.test_program_escapes import ATTACKS, BOMBS

PAGE = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_first_block_is_a_program_and_the_others_run_in_order() -> None:
    program, *code = blocks("python")
    vocabulary = Vocabulary(SkillLibrary.load().signatures())
    check_program("page", program, vocabulary)
    with pytest.raises(ProgramError, match="line 4"):
        check_program("page", program.replace("pick(name)", "pick(4)"), vocabulary)
    namespace: dict[str, Any] = {"__name__": "page"}
    assert len(code) == 3
    for number, block in enumerate(code):
        exec(compile(block, f"docs/programs.md, block {number + 2}", "exec"), namespace)
    assert namespace["planner"].programs is True


def test_the_table_has_every_question() -> None:
    table = PAGE[PAGE.index("| call |") : PAGE.index("Names are the planner's")]
    assert {*QUESTIONS, GIVE_UP.name} <= set(re.findall(r"`(\w+)\(", table))


def test_the_numbers_are_those_of_the_code() -> None:
    limits = ProgramLimits()
    words = " ".join(PAGE.split())
    for said in (
        f"calls of skills ({limits.calls})",
        f"stops for an answer ({limits.suspensions})",
        f"computing time ({limits.seconds:g} s)",
        f"memory ({limits.memory_mb} MB)",
        f"recursion ({limits.recursion})",
        f"{len(ATTACKS)} ways in which",
        f"{len(BOMBS)} ways to wear",
    ):
        assert said in words, said


def test_the_commands_and_their_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    seen = set()
    for line in lines:
        command = re.match(r"hiervla (skills \w+|\w+)", line)
        assert command is not None, line
        seen.add(command[1])
        assert main([*command[1].split(), "--help"]) == 0
        text = capsys.readouterr().out
        for option in re.findall(r" (--\w+)", line):
            assert option in text, line
    assert {"run", "replay", "fork", "diff", "resume", "inspect", "skills save", "skills stubs"} <= seen
