"""Runs that worked become skills: contract, test, versions, names; and are used by plans and programs by their name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hiervla.cli import main
from hiervla.executor.agent import Agent
from hiervla.executor.policies import unfit
from hiervla.executor.presets import world_preset
from hiervla.executor.programs.contract import inferred_contract
from hiervla.executor.programs.saving import SaveError, save_skill
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.planner.embedded.wording import conditions
from hiervla.representations import Condition, Plan, Refusal, SkillSignature, Step
from hiervla.representations import events as ev
from hiervla.skills import Skill, SkillLibrary
from hiervla.skills.lint import check_skill
from hiervla.skills.rehearsal import rehearse
from hiervla.skills.saved import ProgramSkill, SavedSkillError, load_saved
from tests.executor.test_programs import CAN, MUG, PLACES, Tap

TWICE = 'for thing in things(on="table"):\n    tap(thing)\ntap("red mug")\n'


def agent(skills: SkillLibrary, answers: list[Plan | Refusal] | None = None) -> Agent:
    policy = LinePolicy()
    refusal = Refusal(reason="cannot_do", message="not asked for")
    planner = ScriptedPlanner(answers or [refusal], scenes=[[MUG, CAN]], points=PLACES)
    return Agent(world_preset("tabletop"), planner, lambda name: policy, skills=skills)


def library(*more: Skill) -> SkillLibrary:
    return SkillLibrary([Tap(), *more])


def run(
    folder: Path,
    program: str | None = None,
    skills: SkillLibrary | None = None,
    answers: list[Plan | Refusal] | None = None,
) -> tuple[RunResult, RunRecord]:
    made = agent(skills or library(), answers)
    result = made.run("tap them all", program=program, world=KinematicWorld(), record=folder)
    assert result.outcome == "succeeded" and result.record is not None, result.message
    return result, RunRecord.open(result.record)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(tmp_path_factory.mktemp("runs"), TWICE)[1]


def test_a_program_that_worked_becomes_a_skill_with_a_test_that_can_fail(recorded: RunRecord, tmp_path: Path) -> None:
    path = save_skill(recorded, "tap_all", folder=tmp_path, skills=library())
    assert path == tmp_path / "tap_all" / "1"
    assert sorted(p.name for p in path.iterdir()) == ["calls.json", "program.py", "skill.json", "test_tap_all.py"]
    skill = load_saved(path)
    assert (skill.source, skill.signature.doc, skill.policy) == (TWICE, "tap them all", "program")
    assert rehearse(path, library().signatures()) == 4
    calls = json.loads((path / "calls.json").read_text())["calls"]
    assert [c["function"] for c in calls] == ["things", "tap", "tap", "tap"]
    # Another answer of the day: the program asks for something else now.
    (path / "calls.json").write_text((path / "calls.json").read_text().replace("blue can", "green can", 1))
    with pytest.raises(SavedSkillError, match=r"call 3 was tap\(blue can\) and is tap\(green can\) now"):
        rehearse(path, library().signatures())
    with pytest.raises(SavedSkillError, match="Name `tap` used when not defined"):
        rehearse(path, [SkillSignature(name="other")])
    (path / "program.py").write_text(TWICE + "\n")
    with pytest.raises(SavedSkillError, match="not the one that was saved"):
        load_saved(path)


def test_nothing_is_overwritten_and_the_newest_version_counts(recorded: RunRecord, tmp_path: Path) -> None:
    first = save_skill(recorded, "tap_all", folder=tmp_path, skills=library())
    before = {p.name: p.read_bytes() for p in first.iterdir()}
    second = save_skill(recorded, "tap_all", folder=tmp_path, skills=library(load_saved(first)), doc="Tap all.")
    assert (second.name, load_saved(second).file.skill_version) == ("2", 2)
    assert {p.name: p.read_bytes() for p in first.iterdir()} == before
    assert not [p for p in second.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("tap", "has a skill of that name"), ("count", "function of every program"), ("Tap All", "no name for a skill"),
     ("print", "means something else in Python")],
)  # fmt: skip
def test_names_never_clash(recorded: RunRecord, tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(SaveError, match=problem):
        save_skill(recorded, name, folder=tmp_path, skills=library())
    assert not list(tmp_path.iterdir())


def test_a_skill_saved_elsewhere_keeps_its_name(recorded: RunRecord, tmp_path: Path) -> None:
    first = save_skill(recorded, "tap_all", folder=tmp_path / "a", skills=library())
    with pytest.raises(SaveError, match="has a skill of that name"):
        save_skill(recorded, "tap_all", folder=tmp_path / "b", skills=library(load_saved(first)))


def test_runs_that_failed_or_did_nothing_are_not_saved(tmp_path: Path) -> None:
    result = agent(library()).run(program='give_up("no")', world=KinematicWorld(), record=tmp_path / "runs")
    assert result.record is not None
    with pytest.raises(SaveError, match="it ended as 'failed'"):
        save_skill(RunRecord.open(result.record), "nothing", folder=tmp_path, skills=library())
    _, record = run(tmp_path / "runs", 'print(see("red mug"))')
    with pytest.raises(SaveError, match="it did no steps"):
        save_skill(record, "nothing", folder=tmp_path, skills=library())


def test_words_become_arguments(recorded: RunRecord, tmp_path: Path) -> None:
    _, record = run(tmp_path / "runs", 'r = tap("red mug")\nprint(f"red mug: {r.outcome}")\n')
    path = save_skill(record, "tap_it", folder=tmp_path, params={"it": "red mug"}, skills=library())
    skill = load_saved(path)
    assert skill.source == 'r = tap(it)\nprint(f"red mug: {r.outcome}")\n'
    assert str(skill.signature) == "tap_it(it: object)"
    result, _ = run(tmp_path / "runs", 'tap_it("blue can")\n', skills=library(skill))
    assert [s.step.args["object"] for s in result.steps] == ["blue can"]
    with pytest.raises(SaveError, match="'green cup' is nowhere in its program"):
        save_skill(record, "tap_that", folder=tmp_path, params={"it": "green cup"}, skills=library())


def test_a_plan_that_worked_becomes_a_program_of_its_steps(tmp_path: Path) -> None:
    steps = tuple(
        step_at(i, "tap", PLACES[thing], object=thing, source="table")
        for i, thing in (("a", "red mug"), ("b", "blue can"))
    )
    plan = Plan(goal="tap", steps=steps, remaining=("a", "b"))
    _, record = run(tmp_path / "runs", answers=[plan])
    path = save_skill(record, "tap_both", folder=tmp_path, skills=library())
    assert load_saved(path).source == "tap(object='red mug')\ntap(object='blue can')\n"
    assert rehearse(path, library().signatures()) == 2


def test_a_saved_skill_is_used_by_name_in_programs_and_plans(recorded: RunRecord, tmp_path: Path) -> None:
    saved = load_saved(save_skill(recorded, "tap_all", folder=tmp_path / "skills", skills=library()))
    skills = library(saved)
    text = 'result = tap_all()\nprint(result.outcome, result.message)\ntap("blue can")\n'
    result, record = run(tmp_path / "runs", text, skills=skills)
    tapped = ["red mug", "blue can", "red mug", "blue can"]
    assert [s.step.args["object"] for s in result.steps] == tapped
    called = list(record.of(ev.ProgramCalled))
    assert [(c.function, c.skill) for c in called] == [
        ("tap_all", ""),
        ("things", "tap_all"),
        ("tap", "tap_all"),
        ("tap", "tap_all"),
        ("tap", "tap_all"),
        ("tap", ""),
    ]
    assert {c.parent for c in called[1:5]} == {called[0].id} and called[5].parent is None
    (ended,) = record.of(ev.ProgramEnded)
    assert ended.printed == "" and called[5].printed == "succeeded the program came to its end\n"
    assert replay_decisions(record, skills=skills).identical
    # A planner's plan with the skill as a step becomes a program of its steps.
    plan = Plan(
        goal="tap",
        steps=(Step(id="a", skill="tap", args={"object": "blue can"}), Step(id="b", skill="tap_all")),
        remaining=("a", "b"),
    )
    result, record = run(tmp_path / "runs", skills=skills, answers=[plan])
    assert [s.step.args["object"] for s in result.steps] == ["blue can", "red mug", "blue can", "red mug"]
    assert replay_decisions(record, skills=skills).identical
    # And a program that calls it is a skill again.
    again = load_saved(save_skill(record, "tap_more", folder=tmp_path / "skills", skills=skills))
    assert again.source == "tap(object='blue can')\ntap_all()\n"
    result, _ = run(tmp_path / "runs", "tap_more()", skills=library(saved, again))
    assert len(result.steps) == 4


def test_skills_that_call_themselves_come_to_an_end(recorded: RunRecord, tmp_path: Path) -> None:
    saved = load_saved(save_skill(recorded, "tap_all", folder=tmp_path, skills=library()))
    endless = ProgramSkill(saved.file, "r = tap_all()\nif not r.succeeded:\n    give_up(r.message)\n")
    result = agent(library(endless)).run(program="tap_all()", world=KinematicWorld())
    assert result.outcome == "failed" and "8 deep, which is the limit" in result.message


def test_the_library_finds_saved_skills_and_tells_of_damaged_ones(
    recorded: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tap_all", "tap_too", "pick"):
        path = save_skill(recorded, name, folder=tmp_path / "one", skills=library())
    shutil.copytree(tmp_path / "one" / "tap_all", tmp_path / "two" / "tap_all")
    (tmp_path / "one" / "tap_too" / "1" / "skill.json").write_text("{}")
    monkeypatch.setenv("HIERVLA_SKILLS", f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}")
    found = SkillLibrary.load()
    assert isinstance(found.get("tap_all"), ProgramSkill) and not isinstance(found.get("pick"), ProgramSkill)
    assert found.origin("tap_all").where == str(tmp_path / "one" / "tap_all" / "1")
    assert sorted((b.point, b.origin.package) for b in found.broken) == [
        ("pick", "saved"),
        ("tap_all", "saved"),
        ("tap_too", "saved"),
    ]
    assert path.parent.name == "pick"
    (finding,) = check_skill(found.get("tap_all"), unfit)
    assert "`tap` used when not defined" in finding.problem


def test_contracts_are_what_no_earlier_step_gives_and_what_is_left() -> None:
    def step(number: int, skill: str, **args: str) -> Step:
        before, after = conditions(skill, args)
        return Step(id=f"s{number}", skill=skill, args=args, preconditions=before, postconditions=after)

    before, after = inferred_contract(
        [
            step(1, "open_drawer", drawer="drawer"),
            step(2, "pick", object="red mug"),
            step(3, "place", object="red mug", relation="in", target="drawer"),
            step(4, "close_drawer", drawer="drawer"),
        ]
    )
    assert set(map(str, before)) == {"hand_empty()", "not open(drawer)"}
    assert set(map(str, after)) == {"in(red mug, drawer)", "hand_empty()", "not open(drawer)"}
    before, after = inferred_contract([step(1, "pick", object="green sponge"), step(2, "wipe", surface="spill")])
    assert before == (Condition(predicate="hand_empty"),)
    assert set(map(str, after)) == {"holding(green sponge)", "clean(spill)"}
    moved = [
        step(1, "pick", object="can"),
        step(2, "place", object="can", relation="on", target="plate"),
        step(3, "pick", object="can"),
        step(4, "throw_away", object="can"),
    ]
    assert set(map(str, inferred_contract(moved)[1])) == {"in(can, bin)", "hand_empty()"}
    assert set(map(str, inferred_contract([step(1, "wipe", surface="spill")])[0])) == {"holding(sponge)"}


def test_the_made_test_runs_and_the_commands_do(
    recorded: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skills", "save", str(recorded.path), "--as", "tap_all", "--skills", str(tmp_path)]) == 2
    assert "`tap` used when not defined" in capsys.readouterr().err
    # A run of installed skills: here one of pick, whose program only its words are needed of.
    _, record = run(tmp_path / "runs", 'tap("red mug")\n')
    events = (record.path / "events.jsonl").read_text()
    assert '"function":"tap"' in events
    path = save_skill(record, "touch_it", folder=tmp_path / "skills", skills=library())
    test = (path / "test_touch_it.py").read_text()
    assert "rehearse(Path(__file__).parent)" in test
    environment = {**os.environ, "HIERVLA_SKILLS": str(tmp_path / "skills")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    # There is no installed skill `tap`, and the made test says so.
    assert done.returncode == 1 and "`tap` used when not defined" in done.stdout
    monkeypatch.setenv("HIERVLA_SKILLS", str(tmp_path / "skills"))
    assert main(["skills", "show", "touch_it"]) == 0
    assert "saved from run" in capsys.readouterr().out
    assert main(["skills", "list"]) == 0
    assert "saved 1" in capsys.readouterr().out
    assert main(["skills", "check", "touch_it"]) == 1
    assert main(["skills", "test", "touch_it"]) != 0
    assert "it is a program" in capsys.readouterr().err
