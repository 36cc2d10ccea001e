"""Run records as experience: outcomes, corrections, a person at the controls; what lacks something is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.agent import Agent
from hiervla.executor.control import Decision, Hooks
from hiervla.executor.policies.features import FeatureSpec
from hiervla.executor.policies.network import NetworkSpec
from hiervla.executor.presets import world_preset
from hiervla.executor.record.errors import NotARecordError
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.decisions import replay_decisions
from hiervla.executor.takeover import Takeover, human_segments
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import ActionChunk, LanguageMotion, Observation, Plan, SkillSignature, Step, Verdict
from hiervla.representations import events as ev
from hiervla.skills import SkillContext, SkillLibrary
from hiervla.training.improve.records import Told, read_runs
from tests.executor.test_time_travel import Touch

HERE = (0.5, 0.05, 0.0)
FEATURES = FeatureSpec(points=64)


class Pick(Touch):
    """The name is the policy's; what it does to the fakes is to touch a spot."""

    signature = SkillSignature(name="pick", doc="touch a spot")

    def holds(self, context: SkillContext) -> Verdict | None:
        return None


class Blind(KinematicWorld):
    """Its wrist camera gives no depth."""

    def observe(self, cameras: Any = None) -> Observation:
        seen = super().observe(cameras)
        return Observation(
            frames=tuple(f.replace(depth_m=None) if f.name == "wrist" else f for f in seen.frames),
            proprio=seen.proprio,
            time_s=seen.time_s,
        )


def plan(*motions: LanguageMotion) -> Plan:
    step = step_at("a", "pick", HERE)
    step = step.replace(text="touch the red spot", artifacts=(*step.artifacts, *motions))
    return Plan(goal="touch", steps=(step,), remaining=("a",))


def recorded(folder: Path, *answers: Plan, succeeds_at: int = 0, world: Any = None, **options: Any) -> RunRecord:
    policy = LinePolicy()
    library = SkillLibrary([Pick(succeeds_at)])
    made = Agent(world_preset("tabletop"), ScriptedPlanner(answers or [plan()]), lambda name: policy, skills=library)
    result = made.run("touch it", world=world or KinematicWorld(), record=folder, **options)
    assert result.record is not None
    return RunRecord.open(result.record)


def learned(*paths: Path) -> tuple[Told, list[Any]]:
    return read_runs(paths, FEATURES, NetworkSpec())


def test_attempts_are_labelled_by_their_own_checks(tmp_path: Path) -> None:
    record = recorded(tmp_path, succeeds_at=1)
    told, trails = learned(tmp_path)
    assert (told.runs, dict(told.attempts)) == (1, {"failed": 1, "succeeded": 1})
    assert [t.success for t in trails] == [False, True] and {t.words for t in trails} == {"touch the red spot"}
    assert [{m.outcome for m in t.moments} for t in trails] == [{0}, {1}]
    # The last chunk of an attempt is not carried out: it is only asked whether the step is done.
    chunks = list(record.of(ev.ChunkProposed))
    assert told.moments == len(chunks) - 2 == sum(len(t.moments) for t in trails)
    first = trails[0].moments[0].sample
    np.testing.assert_allclose(first.actions[:, :3], chunks[0].chunk.positions[:16] - HERE, atol=1e-6)
    assert not any(m.human for t in trails for m in t.moments)


def test_a_person_who_takes_over_is_on_record_replayed_and_learned_from(tmp_path: Path) -> None:
    hooks, seen = Hooks(author="anna"), []
    takeover = Takeover(hooks)

    def drive(decision: Decision) -> ActionChunk | None:
        seen.append(decision)
        if len(seen) > 2:
            return None
        chunk = decision.value
        assert isinstance(chunk, ActionChunk) and isinstance(decision.step, Step)
        return chunk.replace(positions=chunk.positions + (0.0, 0.02, 0.0), policy="anna's hand")

    takeover.take(drive)
    assert takeover.taken
    record = recorded(tmp_path, control=hooks)
    assert not takeover.taken and len(seen) == 3
    (segment,) = human_segments(record)
    assert (segment.author, segment.step_id, len(segment.corrections)) == ("anna", "a", 2)
    given, instead = segment.corrections[0].chunk, segment.instead_of[0].chunk
    assert given is not None and given.policy == "anna's hand"
    np.testing.assert_allclose(given.positions - instead.positions, np.tile((0.0, 0.02, 0.0), (given.horizon, 1)))
    assert segment.start_s == pytest.approx(segment.corrections[0].time_s)
    assert replay_decisions(record, skills=SkillLibrary([Pick(99)])).identical
    told, (trail,) = learned(tmp_path)
    assert told.corrections == {"taken over": 2} and told.corrected == 2
    assert [m.human for m in trail.moments] == [True, True] + [False] * (len(trail.moments) - 2)
    np.testing.assert_allclose(trail.moments[0].sample.actions[:, 1], given.positions[:16, 1] - HERE[1], atol=1e-6)


@pytest.mark.parametrize("succeeds_at", [0, 99])
def test_an_edited_artifact_that_helped_counts_as_a_persons(tmp_path: Path, succeeds_at: int) -> None:
    hooks, other = Hooks(author="anna"), (0.45, -0.1, 0.0)

    @hooks.on("keypoints")
    def edit(decision: Decision) -> Step:
        assert isinstance(decision.value, Step)
        return decision.value.replace(artifacts=step_at("a", "pick", other).artifacts)

    recorded(tmp_path, control=hooks, succeeds_at=succeeds_at)
    told, trails = learned(tmp_path)
    assert set(told.corrections) == {"edited artifact"}
    assert {m.human for t in trails for m in t.moments} == {succeeds_at == 0}
    # What was done is seen from the point that the person gave.
    lowest = trails[0].moments[0].sample.inputs.proprio[0] + other[0]
    assert lowest == pytest.approx(0.45, abs=0.05)


def test_words_about_a_motion_end_an_attempt_and_what_heeds_them_counts_as_a_persons(tmp_path: Path) -> None:
    hooks = Hooks(author="anna")
    asked = 0

    @hooks.on("chunk")
    def stop(decision: Decision) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            hooks.say("a bit to the left")

    heeding = plan(LanguageMotion(text="a bit to the left", translation_m=(0.0, 0.02, 0.0)))
    recorded(tmp_path / "said", plan(), heeding, control=hooks)
    told, trails = learned(tmp_path / "said")
    assert told.corrections == {"language motion": 1}
    assert [t.success for t in trails] == [False, True]
    assert {m.outcome for m in trails[0].moments} == {0}
    assert [{m.human for m in t.moments} for t in trails] == [{False}, {True}]
    # A planner that speaks in motions of its own accord corrects nobody.
    recorded(tmp_path / "own", heeding)
    told, trails = learned(tmp_path / "own")
    assert told.corrected == 0 and told.attempts == {"succeeded": 1}


def test_what_lacks_something_is_left_out_and_counted(tmp_path: Path) -> None:
    blind = recorded(tmp_path / "a", world=Blind())
    told, trails = learned(blind.path)
    assert trails == [] and told.skipped == {"attempt: camera wrist has no depth": 1} and told.moments == 0
    damaged = recorded(tmp_path / "b")
    lines = (damaged.path / "events.jsonl").read_bytes().replace(b'"touched"', b'"teached"', 1)
    (damaged.path / "events.jsonl").write_bytes(lines)
    told, trails = learned(tmp_path / "b")
    assert trails == [] and told.runs == 0 and sum(told.skipped.values()) == 1
    assert any(line.startswith("left out: 1 x record: ") for line in told.lines())
    with pytest.raises(NotARecordError):
        learned(tmp_path)


def test_skills_that_the_policy_lacks_and_runs_that_broke_off_are_left_out(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    told, trails = read_runs([record.path], FEATURES, NetworkSpec(skills=("wipe",)))
    assert trails == [] and told.skipped == {"attempt: the policy has no skill pick": 1}
    events = (record.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    kept = [n for n, line in enumerate(events) if b'"type":"step_finished"' in line][0]
    (record.path / "events.jsonl").write_bytes(b"".join(events[:kept]))
    told, trails = learned(record.path)
    assert trails == [] and list(told.skipped) == [
        "attempt: it was broken off, so that nobody knows how it would have come out"
    ]


def test_a_record_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    once, twice = learned(record.path)[0], learned(record.path, record.path)[0]
    assert once.moments == twice.moments
    assert Told.from_json(once.to_json()) == once
