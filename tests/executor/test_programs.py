"""Programs in the loop, with fakes: steps, branches on failures, replay, forks, edited texts, resumption, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Decision, Hooks
from hiervla.executor.presets import world_preset
from hiervla.executor.programs.driver import ProgramEditError
from hiervla.executor.record.programs import program_views
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.record.verify import verify
from hiervla.executor.record.view import RunView
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.replay.diff.runs import diff_runs
from hiervla.executor.result import RunResult
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner
from hiervla.representations import Parameter, Plan, Program, Refusal, SeenThing, SkillSignature, Verdict
from hiervla.representations import events as ev
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary
from hiervla.skills.programs import ProgramError, ProgramLimits

PLACES = {"red mug": (0.5, 0.05, 0.02), "blue can": (0.45, -0.1, 0.02)}
MUG = SeenThing(name="red mug", kind="mug", where="table")
CAN = SeenThing(name="blue can", kind="can", where="table")
NOTHING = Refusal(reason="cannot_do", message="not asked for")


class Tap(Skill):
    """Taps a thing; fails as often as it is told to for each thing."""

    signature = SkillSignature(
        name="tap", doc="tap a thing", params=(Parameter(name="object", type="object", doc="what to tap"),)
    )
    timeout_s = 3.0

    def __init__(self, failures: dict[str, int] | None = None) -> None:
        self.failures = dict(failures or {})

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        thing = context.step.args["object"]
        left = self.failures.get(thing, 0)
        self.failures[thing] = left - 1
        return Verdict(name="tapped", value="no" if left > 0 else "yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def agent(
    failures: dict[str, int] | None = None,
    scenes: list[list[SeenThing]] | None = None,
    config: LoopConfig | None = None,
    answers: list[Plan | Refusal] | None = None,
) -> Agent:
    policy = LinePolicy()
    planner = ScriptedPlanner(answers or [NOTHING], scenes=scenes or [[MUG, CAN]], points=PLACES)
    return Agent(
        world_preset("tabletop"),
        planner,
        lambda name: policy,
        skills=SkillLibrary([Tap(failures)]),
        config=config,
    )


def run(program: str, folder: Path, **options: Any) -> tuple[RunResult, RunRecord]:
    control = options.pop("control", None)
    result = agent(**options).run(program=program, world=KinematicWorld(), record=folder, control=control)
    assert result.record is not None
    return result, RunRecord.open(result.record)


def answers(record: RunRecord) -> list[Any]:
    return [e.outcome or e.value for e in record.of(ev.ProgramReturned)]


LOOP = """\
# tap all that stands on the table
for thing in things(on="table"):
    result = tap(thing)
    if not result.succeeded:
        print(f"{thing}: {result.outcome}")
"""


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, RunRecord]:
    """A loop over what is seen; the can fails twice, which is once more than it is tried again."""
    return run(LOOP, tmp_path_factory.mktemp("runs"), failures={"blue can": 2})


def test_a_program_loops_over_what_is_seen_and_branches_on_failures(looped: tuple[RunResult, RunRecord]) -> None:
    result, record = looped
    assert result.outcome == "succeeded", result.message
    assert result.instruction == "tap all that stands on the table"
    assert answers(record) == [("red mug", "blue can"), "succeeded", "failed"]
    # A failed call is tried again, pointed at anew, before the program is told.
    assert [(s.step.args["object"], s.outcome) for s in result.steps] == [
        ("red mug", "succeeded"),
        ("blue can", "failed"),
        ("blue can", "failed"),
    ]
    called = list(record.of(ev.ProgramCalled))
    assert [(c.call, c.function, c.line) for c in called] == [(1, "things", 2), (2, "tap", 3), (3, "tap", 3)]
    assert LOOP.encode()[called[1].start : called[1].end] == b"tap(thing)"
    (ended,) = record.of(ev.ProgramEnded)
    assert (ended.how, ended.printed, ended.calls) == ("finished", "blue can: failed\n", 3)
    assert [s.step.id for s in record.of(ev.StepStarted)] == ["c2", "c3", "c3"]


def test_every_call_is_on_record_before_its_step_and_with_the_sandbox_state(
    looped: tuple[RunResult, RunRecord],
) -> None:
    _, record = looped
    order = [
        e.type for e in record if e.type in {"program_called", "step_started", "step_finished", "program_returned"}
    ]
    step = ["program_called", "step_started", "step_finished"]
    assert order == [
        "program_called",
        "program_returned",
        *step,
        "program_returned",
        *step,
        "step_started",
        "step_finished",
        "program_returned",
    ]
    for called in record.of(ev.ProgramCalled):
        assert 1000 < len(record.blobs.read(called.snapshot, "program")[1]) < 20_000
    report = verify(record.path)
    assert report.status == "whole" and not report.notices


def test_a_replay_runs_the_program_again_and_finds_a_changed_answer(
    looped: tuple[RunResult, RunRecord], tmp_path: Path
) -> None:
    _, record = looped
    found = replay_decisions(record, skills=SkillLibrary([Tap({"red mug": 99})]))
    assert found.identical and found.complete, found.divergence
    assert found.events == len(record) - 1
    # The same run with another text: the program is decided here and not taken from the record.
    other = _rewritten(
        record, tmp_path, lambda text: text.replace('for thing in things(on=\\"table\\")', "for thing in things()")
    )
    found = replay_decisions(other, skills=SkillLibrary([Tap()]))
    assert found.divergence is not None
    assert (found.divergence.type, found.divergence.field) == ("program_called", "args.on")


def _rewritten(record: RunRecord, folder: Path, change: Any) -> RunRecord:
    """A copy of a record with other lines, whole again in itself: what a forger would hand on."""
    import hashlib
    import shutil

    from hiervla.executor.record.lines import encode_line

    copy = folder / "copy"
    shutil.copytree(record.path, copy)
    previous = hashlib.sha256((copy / "manifest.json").read_bytes()).hexdigest()
    lines = []
    for number, line in enumerate(record.lines, 1):
        written = encode_line(number, previous, change(line.event.decode()).encode())
        previous = hashlib.sha256(written[:-1]).hexdigest()
        lines.append(written)
    (copy / "events.jsonl").write_bytes(b"".join(lines))
    return RunRecord.open(copy)


def test_the_snapshots_of_a_record_are_never_loaded(looped: tuple[RunResult, RunRecord], tmp_path: Path) -> None:
    _, record = looped
    copy = _rewritten(record, tmp_path, lambda text: text)
    for called in record.of(ev.ProgramCalled):
        (copy.path / f"blobs/{called.snapshot}.monty").write_bytes(b"not what it was")
    assert replay_decisions(copy, skills=SkillLibrary([Tap()])).identical
    assert verify(copy.path).status == "broken"


def test_the_view_has_one_chapter_and_marks_lines(looped: tuple[RunResult, RunRecord]) -> None:
    _, record = looped
    view = RunView.of(record)
    assert (len(view.chapters), view.replans, len(view.steps)) == (1, 0, 2)
    (program,) = program_views(record)
    assert [(n, mark) for n, _, mark, _ in program.lines()] == [
        (1, ""),
        (2, "answered"),
        (3, "failed"),
        (4, ""),
        (5, ""),
    ]
    assert program.lines()[2][3] == "failed, 2 calls"
    upto = [e for e in record if int(e.id[1:]) <= int(next(record.of(ev.StepStarted)).id[1:])]
    assert program_views(upto)[0].lines()[2][2:] == ("running", "running")


def test_a_failure_that_the_program_does_not_look_at_ends_the_run(tmp_path: Path) -> None:
    result, record = run('tap("red mug")\ntap("blue can")\n', tmp_path, failures={"red mug": 9})
    assert result.outcome == "failed"
    assert "tap(red mug) ended as failed" in result.message and "had not looked at it" in result.message
    assert [s.step.args["object"] for s in result.steps] == ["red mug", "red mug"]
    (ended,) = record.of(ev.ProgramEnded)
    assert (ended.how, ended.line) == ("failed", 1)


def test_what_is_not_in_view_is_an_outcome_and_nothing_moves_for_it(tmp_path: Path) -> None:
    result, record = run('r = tap("green cup")\nif r.outcome == "not_found":\n    give_up(r.message)\n', tmp_path)
    assert (result.outcome, result.steps) == ("failed", ())
    assert "it is not in view" in result.message
    assert not list(record.of(ev.ChunkProposed))
    assert answers(record) == ["not_found"]


def test_one_look_answers_all_questions_until_something_moves(tmp_path: Path) -> None:
    text = 'n = count("mug") + count("can", on="table")\ntap("red mug")\nassert see("blue can"), "it is gone"\n'
    result, record = run(text, tmp_path, scenes=[[MUG, CAN], [MUG]])
    assert (result.outcome, len(list(record.of(ev.SceneSeen)))) == ("failed", 2)
    assert answers(record) == [1, 1, "succeeded", False]
    assert "it is gone" in result.message


def test_type_errors_are_found_before_anything_moves(tmp_path: Path) -> None:
    world = KinematicWorld()
    with pytest.raises(ProgramError, match=r"line 2: Argument to function `tap` is incorrect") as error:
        agent().run(program='tap("red mug")\ntap(3)\n', world=world, record=tmp_path)
    assert error.value.problems[0].line == 2
    assert not world.commands and not list(tmp_path.iterdir())


def test_a_planners_program_is_checked_and_a_broken_one_leads_to_a_new_plan(tmp_path: Path) -> None:
    breaks = Plan(goal="tap", steps=(), remaining=(), program=Program(source='tap("red mug")\nassert False, "no"\n'))
    works = Plan(goal="tap", steps=(), remaining=(), program=Program(source='tap("blue can")\n'))
    made = agent(answers=[breaks, works])
    result = made.run("tap them", world=KinematicWorld(), record=tmp_path)
    assert result.outcome == "succeeded", result.message
    assert [s.step.args["object"] for s in result.steps] == ["red mug", "blue can"]
    assert [s.step.id for s in result.steps] == ["c1", "c2"]
    assert result.record is not None
    assert replay_decisions(RunRecord.open(result.record), skills=made.skills).identical
    wrong = Plan(goal="tap", steps=(), remaining=(), program=Program(source="tap(1)\n"))
    result = agent(answers=[wrong]).run("tap them", world=KinematicWorld())
    assert (result.outcome, result.steps) == ("error", ()) and "Expected `str`" in result.message


def test_limits_end_a_program(tmp_path: Path) -> None:
    text = 'while True:\n    tap("red mug")\n'
    config = LoopConfig(program=ProgramLimits(calls=2))
    result, record = run(text, tmp_path, config=config)
    assert (result.outcome, len(result.steps)) == ("failed", 2)
    assert "2 calls of skills, which is the limit" in result.message
    assert replay_decisions(record, skills=SkillLibrary([Tap()])).identical


def test_a_fork_goes_on_from_the_call_with_what_the_program_knew(
    looped: tuple[RunResult, RunRecord], tmp_path: Path
) -> None:
    _, record = looped
    forked = agent(failures={}).fork(record, "c3", record=tmp_path, world=KinematicWorld())
    assert forked.outcome == "succeeded"
    assert [(s.step.args["object"], s.outcome) for s in forked.steps] == [
        ("red mug", "succeeded"),
        ("blue can", "succeeded"),
    ]
    assert forked.record is not None
    other = RunRecord.open(forked.record)
    assert verify(other.path).status == "whole"
    assert replay_decisions(other, skills=SkillLibrary([Tap()])).identical
    found = diff_runs(record, other)
    assert found.first is not None and found.first.a is not None and found.first.a.event.type == "verdict"


def edited(record: RunRecord, text: str) -> Plan:
    from hiervla.executor.programs.editing import with_program

    return with_program(record, "c3", text)


def test_an_edited_text_keeps_what_was_done_and_goes_on_as_it_now_says(
    looped: tuple[RunResult, RunRecord], tmp_path: Path
) -> None:
    _, record = looped
    text = LOOP + 'tap("red mug")\nprint("again")\n'
    forked = agent(failures={}).fork(record, "c3", edited(record, text), record=tmp_path, world=KinematicWorld())
    assert forked.outcome == "succeeded", forked.message
    assert [s.step.args["object"] for s in forked.steps] == ["red mug", "blue can", "red mug"]
    assert forked.record is not None
    other = RunRecord.open(forked.record)
    assert replay_decisions(other, skills=SkillLibrary([Tap()])).identical
    assert len(program_views(other)) == 2
    texts = [f.text for b in diff_runs(record, other).blocks for d in b.differing for f in d.findings]
    assert any('+tap("red mug")' in t for t in texts), texts


def test_an_edited_text_that_undoes_what_was_done_is_refused(
    looped: tuple[RunResult, RunRecord], tmp_path: Path
) -> None:
    _, record = looped
    forked = agent().fork(record, "c3", edited(record, 'tap("blue can")\n'), record=tmp_path, world=KinematicWorld())
    assert forked.outcome == "error"
    assert "call 1 of a skill: it was tap(red mug), and the edited text has tap(blue can)" in forked.message
    error = ProgramEditError(2, "a", "b")
    assert (error.made, error.exit_code) == (2, 2) and "earlier step" in str(error)


def test_a_text_is_edited_at_a_breakpoint_while_it_runs(tmp_path: Path) -> None:
    hooks = Hooks()

    @hooks.on("step")
    def change(decision: Decision) -> Plan | None:
        step = decision.step
        if step is None or step.args["object"] != "blue can":
            return None
        return Plan(
            goal="g", steps=(), remaining=(), program=Program(source='tap("red mug")\nprint(see("blue can"))\n')
        )

    result, record = run('tap("red mug")\ntap("blue can")\n', tmp_path, control=hooks)
    assert result.outcome == "succeeded", result.message
    assert [s.step.args["object"] for s in result.steps] == ["red mug"]
    assert replay_decisions(record, skills=SkillLibrary([Tap()])).identical


def test_a_killed_run_is_resumed_from_its_last_call(looped: tuple[RunResult, RunRecord], tmp_path: Path) -> None:
    _, record = looped
    started = list(record.of(ev.StepStarted))[1]
    cut = tmp_path / "cut"
    import shutil

    shutil.copytree(record.path, cut)
    kept = int(started.id[1:]) + 2
    whole = (cut / "events.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "events.jsonl").write_bytes(b"".join(whole[:kept]) + whole[kept][:40])
    killed = RunRecord.open(cut)
    assert killed.finished is None and killed.torn is not None
    result = agent(failures={}).resume(killed, record=tmp_path / "runs", world=KinematicWorld())
    assert result.outcome == "succeeded"
    assert [s.step.args["object"] for s in result.steps] == ["red mug", "blue can"]


def test_events_of_programs_are_json_and_have_sentences(looped: tuple[RunResult, RunRecord]) -> None:
    from hiervla.executor.record.view import sentence

    _, record = looped
    said = [sentence(e) for e in record if e.type.startswith(("program_", "scene_"))]
    assert said == [
        "program, line 2: things(, table)",
        "in view: red mug, blue can",
        "program is told ['red mug', 'blue can']",
        "program, line 3: tap(red mug)",
        "program is told succeeded",
        "program, line 3: tap(blue can)",
        "program is told failed",
        "program finished: the program came to its end",
    ]
    assert all(json.loads(line.event) for line in record.lines)
