"""Few demonstrations into many: what is cut out of them, where it is carried, and what is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.cli import main
from hiervla.controllers.envelope import SafeWorld
from hiervla.executor.policies.features import FeatureSpec, PolicyInput
from hiervla.representations import JointCommand
from hiervla.training.arena import Arena
from hiervla.training.collect import run_collect
from hiervla.training.demos import DemoError, DemoWriter, Sample, load_demos
from hiervla.training.experts import tasks
from hiervla.training.experts.state import State, Task, Thing
from hiervla.training.multiply.frames import ObjectFrame, object_frame
from hiervla.training.multiply.replay import UNMATCHED, choose, joined, moved, replay
from hiervla.training.multiply.sources import Segment, Sources, contact_begins, read_sources
from hiervla.training.stories import approach
from hiervla.training.trials import trial_scene
from tests.training.moments import saved_moment

BLOCK = ObjectFrame("block", np.array([0.01, -0.02, -0.03]), 0.3, math.pi / 2, (0.04, 0.04, 0.04))


def path(*, kick: bool = False) -> np.ndarray:
    """Down onto a thing at the origin, close, and up again, 10 Hz; perhaps with a detour before."""
    down = np.linspace(0.16, 0.0, 12)
    rows = [(0.01, 0.0, z, 0.3, 1.0) for z in down] + [(0.0, 0.0, 0.0, 0.3, 0.0)] * 4
    rows += [(0.0, 0.0, z, 0.3, 0.0) for z in np.linspace(0.0, 0.14, 10)]
    early = [(0.0, 0.0, z, 0.3, float(z > 0.02)) for z in np.linspace(0.16, 0.0, 12)] if kick else []
    early += [(0.0, 0.0, z, 0.3, 1.0) for z in np.linspace(0.0, 0.16, 8)] if kick else []
    return np.array(early + rows)


def segment(frame: ObjectFrame = BLOCK, skill: str = "pick", name: str = "a") -> Segment:
    rows = path()
    return Segment(name, skill, frame, rows, np.linspace(0, 1, len(rows)), np.arange(len(rows)) > len(rows) - 4)


def state(*things: Thing, held: str | None = None, yaw: float = 0.0) -> State:
    nothing = np.zeros(3)
    return State(np.array([0.45, 0.0, 0.2]), nothing, yaw, 0.08, {t.id: t for t in things}, held, 0.0, nothing, 0.0,
                 np.zeros((0, 2)))  # fmt: skip


def thing(category: str = "block", x: float = 0.5, yaw: float = 0.0, side: float = 0.04) -> Thing:
    return Thing(f"{category}_0", category, (side, side, 0.04), np.array([x, 0.1, 0.0]), yaw, 1.0, 0.02)


def test_a_segment_begins_with_the_last_approach() -> None:
    plain, kicked = path(), path(kick=True)
    begin = contact_begins(plain)
    assert 0 < begin < 12 and plain[begin, 2] > 0.05 > plain[begin + 1, 2]
    assert contact_begins(kicked) == begin + 20, "the attempt that missed is left out"
    pushed = plain.copy()
    pushed[:, 4] = 0.0
    assert contact_begins(pushed) <= begin, "without fingers, the lowest place counts"
    opened = plain.copy()
    opened[:, 4] = 1.0 - opened[:, 4]
    assert contact_begins(opened) == begin


@pytest.mark.parametrize("turned", [0.0, 0.4, 1.3, -2.0, 3.0])
def test_in_the_frame_of_the_thing_the_motion_is_the_same(turned: float) -> None:
    source, here = segment(), replace(BLOCK, origin=np.array([0.5, 0.1, 0.02]), yaw=0.3 + turned)
    rows = moved(source, here, state(yaw=0.1))
    first = rows[0, :3] - here.origin
    # Up to the symmetry of a square block, the tool is where it was, seen from the thing.
    seen = math.atan2(first[1], first[0]) - turned
    assert abs(math.remainder(seen, math.pi / 2)) < 1e-6
    assert np.allclose(rows[:, 2], source.rows[:, 2] + 0.02) and np.array_equal(rows[:, 4], source.rows[:, 4])
    assert abs(math.remainder(rows[0, 3] - (source.rows[0, 3] + turned), math.pi / 2)) < 1e-6
    assert abs(rows[0, 3] - 0.1) <= math.pi / 4 + 1e-6, "the wrist turns no more than it must"


def test_a_motion_with_a_fixed_direction_is_never_turned() -> None:
    handle = ObjectFrame("handle", np.zeros(3), 0.0, math.inf)
    rows = moved(segment(handle, "open_drawer"), replace(handle, origin=np.ones(3)), state(yaw=1.0))
    assert np.allclose(rows[:, :3], path()[:, :3] + 1.0)


def test_what_is_held_moves_as_it_did_wherever_it_sits_in_the_hand() -> None:
    there = ObjectFrame("table", np.zeros(3), 0.0, 0.0, (0.04, 0.04, 0.04), "block", np.array([0.01, 0.0, 0.03]))
    here = replace(there, origin=np.array([0.5, 0.2, 0.0]), offset=np.array([-0.01, 0.005, 0.05]))
    source = segment(there, "place")
    assert there.offset is not None and here.offset is not None
    rows = moved(source, here, state(yaw=0.3))
    was, now = source.rows[:, :3] - there.offset, rows[:, :3] - here.offset - here.origin
    assert np.allclose(was, now)
    # With the hand turned by a quarter, so is the way, about the place.
    turned = moved(source, here, state(yaw=0.3 + 1.5))[:, :3] - here.offset - here.origin
    assert np.allclose(np.hypot(*turned[:, :2].T), np.hypot(*was[:, :2].T)) and not np.allclose(turned, was)


def test_the_way_to_the_motion_is_joined_on_without_a_jump() -> None:
    now = state(yaw=0.1)
    plan = joined(segment(), replace(BLOCK, origin=np.array([0.5, 0.1, 0.02])), now)
    steps = np.linalg.norm(np.diff(np.vstack([now.ee, plan.rows[:, :3]]), axis=0), axis=1)
    assert len(plan.rows) > len(path()) + 2 and steps.max() < 0.03
    assert not plan.done[: len(plan.rows) - len(path())].any() and plan.done[-1]
    assert np.array_equal(plan.ahead(6, True)[:3], plan.rows[[5, 5, 6]])


def test_only_what_is_alike_is_chosen() -> None:
    rng = np.random.default_rng(0)
    task = Task("pick", np.array([0.5, 0.1, 0.03]), object="block_0")
    now = state(thing())
    frame = object_frame(now, task)
    near, mug = segment(name="near"), segment(replace(BLOCK, kind="mug"), name="mug")
    far = segment(replace(BLOCK, size=(0.2, 0.2, 0.2)), name="far")
    assert {choose([near, mug, far], task, frame, now, rng).source for _ in range(9)} == {"near"}  # type: ignore[union-attr]
    assert choose([mug, far], task, frame, now, rng) is None
    assert choose([segment(skill="place")], task, frame, now, rng) is None
    into = Task("place", np.array([0.5, 0.1, 0.0]), object="block_0", place="drawer")
    held = object_frame(now, into)
    assert held.kind == "drawer" and held.offset is not None
    on_table = segment(replace(held, kind="table"), "place")
    assert choose([on_table], into, held, now, rng) is None, "into a drawer it falls from higher"
    assert choose([on_table], into, replace(held, kind="top_shelf"), now, rng) is on_table


def test_frames_survive_json() -> None:
    keypoint = np.array([0.5, 0.1, 0.03])
    for made in (BLOCK, replace(BLOCK, period=math.inf, held="can", offset=np.ones(3))):
        again = ObjectFrame.from_json(made.to_json(keypoint))
        assert np.allclose(again.origin + keypoint, made.origin) and again.period == made.period
        assert (again.kind, again.size, again.held) == (made.kind, made.size, made.held)
    for broken in ({"origin": [0, 1]}, {"yaw": math.nan}, {"size": [0, math.inf, 1]}, {"period": -1.0}):
        with pytest.raises(ValueError):
            ObjectFrame.from_json({**BLOCK.to_json(keypoint), **broken})


def written(folder: Path, case: str, number: int = 1) -> None:
    """A shard with one good pick and, by `case`, one that is not."""
    writer = DemoWriter({"driver": "policy" if case == "driven" else "expert"}, FeatureSpec(points=8))
    frame: dict[str, Any] = BLOCK.to_json(np.zeros(3))
    for e, bad in enumerate((False, True)):
        rows = path()
        if bad and case == "jump":
            rows[20, 0] += 0.3
        samples = []
        for k in range(0, len(rows) - 1, 2):
            ahead = rows[np.minimum(np.arange(k, k + 16), len(rows) - 1)]
            yaw = ahead[:, 3:4]
            chunk = np.hstack([ahead[:, :3], np.sin(2 * yaw), np.cos(2 * yaw), ahead[:, 4:]]).astype(np.float32)
            if bad and case == "nan" and k == 4:
                chunk[0, 0] = np.nan
            seen = PolicyInput(np.zeros((8, 7), np.float32), 8, np.zeros(12, np.float32))
            samples.append(Sample(seen, chunk, k > 21 and not (bad and case == "unfinished"), k / 26))
        if bad and case == "short":
            samples = samples[-2:]
        given = None if bad and case == "frameless" else {**frame, "yaw": "x"} if bad and case == "yaw" else frame
        writer.add("pick", samples, 7 if case == "twice" else 16 * number + e, given)
    writer.write(folder / f"{number}.npz")


CASES = {
    "jump": "jumps 30 cm", "nan": "holds NaN", "unfinished": "ends before it is done", "short": "2 moments short",
    "frameless": "does not say where its thing was", "yaw": "could not convert",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_sources_are_named_and_skipped_with_a_count(case: str, tmp_path: Path) -> None:
    written(tmp_path, case)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "1.npz").read_bytes()[:400])
    found = read_sources([tmp_path])
    assert [s.source for s in found.segments] == ["1.npz, episode 16"] and found.counts() == {"pick": 1}
    assert [s.source for s in found.skipped] == ["1.npz, episode 17", "broken.npz"]
    assert CASES[case] in found.skipped[0].reason and "cannot be read" in found.skipped[1].reason
    assert np.allclose(found.segments[0].rows[-1, :3] + BLOCK.origin, path()[-1, :3], atol=1e-6)


def test_without_a_source_nothing_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "driven")
    with pytest.raises(DemoError, match="hold nothing to multiply for .*a policy drove"):
        read_sources([tmp_path])
    with pytest.raises(DemoError, match="does not exist"):
        read_sources([tmp_path / "nowhere"])
    assert main(["collect", "--from", str(tmp_path), "-o", str(tmp_path / "out"), "--skill", "pick"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "nothing to multiply" in said and "Traceback" not in said


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real demonstrations of a skill, in one scene."""
    folder = tmp_path_factory.mktemp("few")
    saved_moment(folder / "states", 5)
    run_collect(folder / "demos", skills=("close_drawer",), episodes=2, seed=3, states=[folder / "states"])
    return folder / "demos"


def test_motions_are_done_again_in_new_scenes(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_moment(tmp_path / "states", 9)
    words = ["collect", "--from", str(few), "--episodes", "1", "--seed", "8", "--workers", "1"]
    assert main([*words, "--from-states", str(tmp_path / "states"), "-o", str(tmp_path / "made")]) == 0
    assert "close_drawer: 1 of 1 succeeded, 1.00" in capsys.readouterr().out
    made, source = load_demos([tmp_path / "made"]), load_demos([few])
    recipe = made.headers[0]["recipe"]
    assert recipe["driver"] == "replay" and recipe["skills"] == ["close_drawer"]
    assert recipe["sources"] and set(made.skill) == set(source.skill)
    assert not set(made.episode) & set(source.episode) and made.done.any() and not made.done.all()
    assert made.features == source.features and (made.words != "").all()
    # What was made can be multiplied in its turn.
    assert read_sources([tmp_path / "made"]).counts() == {"close_drawer": 1}


def attempt_at(few: Path, seed: int, change: Any = None) -> tuple[Any, Arena]:
    found: Sources = read_sources([few])
    segments = found.segments if change is None else [change(s) for s in found.segments]
    rng = np.random.default_rng(seed)
    with Arena(trial_scene("close_drawer", 4 * seed + 1, rng)) as arena:
        task = tasks.drawer_task(arena.truth, "close_drawer", rng)
        assert approach(arena, task, rng)
        return replay(arena, task, rng, segments=segments), arena


def test_success_is_judged_and_not_supposed(few: Path) -> None:
    def high(one: Segment) -> Segment:
        return replace(one, rows=one.rows + (0, 0, 0.1, 0, 0))

    episode, _ = attempt_at(few, 2, high)
    assert not episode.success and "drawer_closed" in episode.reason and len(episode.samples) > 5
    other, _ = attempt_at(few, 2, lambda s: replace(s, skill="pick"))
    assert other.reason == UNMATCHED and not other.samples


def test_replays_go_through_the_envelope(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever the envelope stops for, the replay ends there and is not kept.
    check = SafeWorld.step

    def stopped(self: SafeWorld, command: JointCommand) -> None:
        if self.time_s > began + 1.0 and self.latched is None:
            self.stop()
        check(self, command)

    monkeypatch.setattr(SafeWorld, "step", stopped)
    began = 0.0
    episode, arena = attempt_at(few, 2)
    assert episode.reason.startswith("envelope") and not episode.success and episode.seconds < 3.0
    assert arena._safe is None


def test_what_never_succeeds_is_given_up_and_named(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hiervla.training import collect

    def high(paths: Any, skills: Any) -> Sources:
        found = read_sources(paths, skills)
        return Sources([replace(s, rows=s.rows + (0, 0, 0.1, 0, 0)) for s in found.segments[:1]])

    monkeypatch.setattr(collect, "read_sources", high)
    saved_moment(tmp_path / "states", 9)
    report = run_collect(tmp_path / "made", episodes=1, sources=[few], states=[tmp_path / "states"], attempts=2)
    assert report.failed == {"close_drawer": 2} and not report.shards and report.useless(2) == list(report.sources)
    assert report.reasons == {"close_drawer: not": 2} and not report.useless()
