"""What is learned from run records: plans that went well, and plans as a person wanted them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.config import LoopConfig
from hiervla.executor.control import Decision, Hooks
from hiervla.executor.presets import world_preset
from hiervla.executor.record.manifest import ForkOf
from hiervla.executor.record.writer import RunRecorder
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.planner.base import PlannerContext, StepRecord
from hiervla.planner.grounding import image_ref
from hiervla.planner.vlm.answers import Draft, Point, read_answer, read_point
from hiervla.planner.vlm.prompt import plan_prompt, point_prompt
from hiervla.representations import ConventionError, Keypoint, Keypoints, Plan, Step
from hiervla.representations import events as ev
from hiervla.skills import SkillLibrary
from hiervla.training.data.errors import DatasetError
from hiervla.training.lora.finetune import gather
from hiervla.training.lora.runs import run_samples
from hiervla.training.lora.samples import Sample
from tests import records
from tests.records import BOTTOM, PICK, PLACE, Script

SKILLS = SkillLibrary.load().signatures()
ASKED = "put the red mug on the top shelf"


def make(folder: Path, play: Callable[[Script], None], outcome: str = "succeeded", **changes: Any) -> Path:
    with RunRecorder.create(folder, records.manifest(**changes), durable=False) as recorder:
        script = Script(recorder)
        play(script)
        script.finish(outcome)
    return folder


def pointed(script: Script, step: Step, u: float = 16.0, v: float = 12.0) -> Step:
    """The step with a point in the image that the planner sees."""
    image = image_ref(script.seen.frame("front"))
    return step.replace(artifacts=(Keypoints(image=image, points=(Keypoint(label="it", u=u, v=v),)),))


def propose(script: Script, *steps: Step, done: tuple[str, ...] = (), reason: str = "initial") -> Plan:
    script.look("plan")
    made = tuple(pointed(script, s) for s in steps)
    remaining = tuple(s.id for s in made if s.id not in done)
    plan = Plan(goal=ASKED, steps=made, done=done, remaining=remaining)
    script.recorder.emit(ev.PlanProposed, time_s=script.now_s, parent=script.root, plan=plan, reason=reason)
    return plan


def proposes(script: Script) -> None:
    propose(script, PICK, PLACE)


def correct(script: Script, decision: Any, **what: Any) -> None:
    script.recorder.emit(ev.CorrectionGiven, time_s=script.now_s, parent=script.root, decision=decision, **what)


def plans_of(samples: list[Sample]) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    found: list[tuple[str, list[tuple[str, dict[str, str]]]]] = []
    for s in samples:
        if s.kind == "plan":
            draft = s.read(s.answer)
            assert isinstance(draft, Draft)
            found.append((s.origin, [(c.skill, dict(c.args)) for c in draft.calls]))
    return found


PICKED = ("pick", {"object": "red mug"})
PLACED = ("place", {"object": "red mug", "relation": "on", "target": "top shelf"})
LOWER = ("place", {"object": "red mug", "relation": "on", "target": "bottom shelf"})


def test_first_plans_and_replans_as_the_planner_was_asked_for_them(tmp_path: Path) -> None:
    kept: list[Any] = []

    def play(script: Script) -> None:
        propose(script, PICK, PLACE)
        kept.append(script.seen.frame("front").rgb)
        script.step(PICK, "failed")
        propose(script, PICK, PLACE, reason="followed after s1: failed")
        script.step(PICK, attempt=1)
        propose(script, PICK, PLACE, done=("s1",), reason="after s1: succeeded")
        kept.append(script.seen.frame("front").rgb)
        script.step(PLACE)

    samples, left_out = run_samples([make(tmp_path / "a", play)], SKILLS)
    assert plans_of(samples) == [("run", [PICKED, PLACED]), ("run", [PLACED])] and not left_out
    history = (StepRecord(PICK, "failed"), StepRecord(PICK, "succeeded"))
    first, _, second, where = samples
    assert first.messages == (plan_prompt(ASKED, PlannerContext(skills=SKILLS)),)
    assert second.messages == (plan_prompt(ASKED, PlannerContext(skills=SKILLS, history=history)),)
    assert "pick up the red mug: failed" in second.messages[0].text
    assert (first.image == kept[0]).all() and (second.image == kept[1]).all() and (kept[0] != kept[1]).any()
    draft = read_answer(first.answer, SKILLS)
    assert [c.point for c in draft.calls] == [Point(x=250, y=250)] * 2
    assert where.messages == (point_prompt(PLACE),) and read_point(where.answer) == Point(x=250, y=250)


def test_a_corrected_plan_is_the_target_in_place_of_the_planners(tmp_path: Path) -> None:
    def play(script: Script) -> None:
        plan = propose(script, PICK, PLACE)
        # The person writes steps, not pixels; the pick's point is the planner's, the new place has one of its own.
        steps = (PICK, pointed(script, BOTTOM, 32.0, 24.0))
        correct(script, "plan", plan=plan.replace(steps=steps, remaining=("s1", "s3")))
        script.step(PICK)

    samples, left_out = run_samples([make(tmp_path / "a", play, "failed")], SKILLS)
    assert plans_of(samples) == [("correction", [PICKED, LOWER])] and not left_out
    draft = read_answer(samples[0].answer, SKILLS)
    assert [c.point for c in draft.calls] == [Point(x=250, y=250), Point(x=500, y=500)]


def test_corrected_steps_points_and_words(tmp_path: Path) -> None:
    def play(script: Script) -> None:
        propose(script, PICK, PLACE)
        correct(script, "keypoints", step_id="s1", step=pointed(script, PICK, 48.0, 36.0))
        script.step(PICK)
        propose(script, PICK, PLACE, done=("s1",), reason="after s1: succeeded")
        correct(script, "step", step_id="s2", step=pointed(script, BOTTOM.replace(id="s2")))
        script.step(BOTTOM.replace(id="s2"), "failed")
        propose(script, PICK, PLACE, done=("s1",), reason="after s2: failed")
        correct(script, "plan", text="no, the bottom one")
        propose(script, PICK, BOTTOM, done=("s1",), reason="somebody said: no, the bottom one")
        script.step(BOTTOM)

    samples, left_out = run_samples([make(tmp_path / "a", play)], SKILLS)
    assert plans_of(samples) == [("correction", [PICKED, PLACED]), ("correction", [LOWER]), ("run", [LOWER])]
    draft = read_answer(samples[0].answer, SKILLS)
    assert [c.point for c in draft.calls] == [Point(x=750, y=750), Point(x=250, y=250)]
    assert left_out == {"plan that a person objected to": 1}
    heard = [s.messages[0].text for s in samples if s.kind == "plan"]
    assert ["no, the bottom one" in text for text in heard] == [False, False, True]


def test_a_plan_that_is_corrected_later_was_not_right_from_the_start(tmp_path: Path) -> None:
    def play(script: Script) -> None:
        propose(script, PICK, PLACE)
        script.step(PICK)
        propose(script, PICK, PLACE, done=("s1",), reason="followed after s1: succeeded")
        correct(script, "step", step_id="s2", step=pointed(script, BOTTOM.replace(id="s2")))
        script.step(BOTTOM.replace(id="s2"))

    samples, left_out = run_samples([make(tmp_path / "a", play)], SKILLS)
    assert plans_of(samples) == [("correction", [LOWER])]
    assert left_out == {"plan that a person objected to": 1}


def test_a_fork_and_its_parent_are_one_group_and_the_correction_counts(tmp_path: Path) -> None:
    def parent(script: Script) -> None:
        propose(script, PICK, PLACE)
        script.step(PICK)

    def fork(script: Script) -> None:
        plan = propose(script, PICK, PLACE)
        correct(script, "plan", plan=plan.replace(steps=(PICK, pointed(script, BOTTOM)), remaining=("s1", "s3")))
        script.step(PICK)

    make(tmp_path / "a", parent, run_id="parent")
    make(tmp_path / "b", fork, run_id="fork", parent=ForkOf(run_id="parent", event="e5", path="../a"))
    samples, _ = run_samples([tmp_path], SKILLS)
    assert plans_of(samples) == [("correction", [PICKED, LOWER])]
    assert {s.group for s in samples} == {"parent"}


def test_runs_without_a_usable_plan(tmp_path: Path) -> None:
    make(tmp_path / "a", proposes, "failed")
    records.make_record(tmp_path / "b")
    with pytest.raises(DatasetError) as caught:
        gather([tmp_path], 0)
    said = str(caught.value)
    assert "plan of a run that did not succeed (1)" in said and "no point in the image" in said and "--scenes" in said
    with pytest.raises(DatasetError, match="does not exist"):
        gather([tmp_path / "none"], 0)
    with pytest.raises(ConventionError, match="nothing to learn from"):
        gather([], 0)
    with pytest.raises(DatasetError, match="camera 'side' is not in the record"):
        gather([make(tmp_path / "c", proposes)], 0, camera="side")


def test_a_real_run_that_was_corrected(tmp_path: Path) -> None:
    world = KinematicWorld(0.03)
    image = image_ref(world.observe(["front"]).frame("front"))

    def step(number: str, thing: str, u: float) -> Step:
        made = step_at(number, "pick", (0.5, 0.05, 0.02), object=thing)
        point = Keypoint(label=thing, u=u, v=16.0, position_w=(0.5, 0.05, 0.02))
        return made.replace(artifacts=(Keypoints(image=image, points=(point,)),))

    def plan(thing: str, u: float) -> Plan:
        return Plan(goal="pick it up", steps=(step("s1", thing, u),), remaining=("s1",))

    hooks, asked = Hooks(), list[Decision]()

    @hooks.on("plan")
    def other(decision: Decision) -> Plan | None:
        asked.append(decision)
        return plan("blue block", 48.0) if len(asked) == 1 else None

    config = LoopConfig(max_retries=0, screen=False)
    agent = Agent(
        world_preset("tabletop"), ScriptedPlanner([plan("red mug", 16.0)]), lambda _: LinePolicy(), config=config
    )
    result = agent.run("pick it up", world=world, control=hooks, record=tmp_path)
    assert result.record is not None
    samples, _ = run_samples([result.record], SKILLS)
    corrected = [s for s in samples if s.origin == "correction" and s.kind == "plan"]
    assert len(corrected) == 1
    draft = read_answer(corrected[0].answer, SKILLS)
    assert [(c.args, c.point) for c in draft.calls] == [({"object": "blue block"}, Point(x=750, y=250))]
    assert "Instruction: pick it up" in corrected[0].messages[0].text
