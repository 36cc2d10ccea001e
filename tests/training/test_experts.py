"""The scripted experts and what is made of them: motions, episodes, collections, trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hiervla.executor.policies.base import SKILLS
from hiervla.representations import ActionChunk, Observation, Step, UnknownNameError
from hiervla.training.arena import Arena, as_chunk
from hiervla.training.collect import run_collect
from hiervla.training.demos import load_demos
from hiervla.training.episodes import Noise, attempt, demonstrate, verdict
from hiervla.training.experts import tasks
from hiervla.training.experts.motion import Waypoint, as_actions, follow, turn
from hiervla.training.experts.state import Task
from hiervla.training.experts.surfaces import along
from hiervla.training.stories import HOME, approach
from hiervla.training.trials import run_trial, trial_scene, trial_task

CALM = Noise(wander_m=0.0, near_m=0.0, turn_rad=0.0, kick=0.0)


def test_following_keeps_speed_and_acceleration_and_arrives() -> None:
    start, goal = np.array([0.4, 0.0, 0.2]), np.array([0.5, 0.1, 0.05])
    way = [Waypoint(goal, 0.5, 0.0, speed=0.2)]
    rows = follow(start, np.zeros(3), 0.0, way, 40, 10.0)
    path = np.vstack([start, rows[:, :3]])
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) * 10.0
    assert speed.max() < 0.21
    assert np.abs(np.diff(speed)).max() < 0.9 * 0.1 + 1e-9
    assert np.allclose(rows[-1, :3], goal, atol=0.002) and rows[-1, 3] == pytest.approx(0.5, abs=0.02)
    straight = (goal - start) / np.linalg.norm(goal - start)
    assert np.abs(np.cross(rows[:, :3] - start, straight)).max() < 1e-9


def test_following_waits_before_it_goes_on() -> None:
    here = np.array([0.4, 0.0, 0.2])
    way = [Waypoint(here, 0.0, 0.0, dwell_s=0.5), Waypoint(here + (0, 0, 0.1), 0.0, 1.0)]
    rows = follow(here, np.zeros(3), 0.0, way, 16, 10.0)
    assert (rows[:4, 4] == 0.0).all() and (rows[6:, 4] == 1.0).all()
    assert np.abs(rows[:4, 2] - 0.2).max() < 0.002 < rows[-1, 2] - 0.2


def test_a_motion_goes_on_with_the_speed_that_it_has() -> None:
    way = [Waypoint(np.array([0.6, 0.0, 0.2]), 0.0, 1.0, speed=0.2)]
    rest = follow(np.array([0.4, 0.0, 0.2]), np.zeros(3), 0.0, way, 1, 10.0)
    moving = follow(np.array([0.4, 0.0, 0.2]), np.array([0.2, 0.0, 0.0]), 0.0, way, 1, 10.0)
    assert moving[0, 0] - 0.4 == pytest.approx(0.02, abs=0.002) and rest[0, 0] - 0.4 < 0.008


def test_turn_takes_the_shorter_way() -> None:
    assert turn(np.pi - 0.1, 0.0) == pytest.approx(-0.1)
    assert turn(0.3, 2 * np.pi) == pytest.approx(2 * np.pi + 0.3)


def test_actions_are_relative_to_the_keypoint() -> None:
    rows = np.array([[0.5, 0.1, 0.2, 0.25, 1.0]])
    actions = as_actions(rows, np.array([0.5, 0.0, 0.05]))
    assert np.allclose(actions, [[0.0, 0.1, 0.15, np.sin(0.5), np.cos(0.5), 1.0]], atol=1e-6)


def test_the_place_on_the_table_tells_how_far_the_wiping_is() -> None:
    shares = [along(np.array(p)) for p in ((-0.04, -0.03), (0.03, -0.03), (0.04, 0.01), (0.0, 0.03), (-0.05, 0.04))]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0


@pytest.mark.parametrize("skill", SKILLS)
def test_every_expert_does_its_task(skill: str) -> None:
    rng = np.random.default_rng(5)
    with Arena(trial_scene(skill, 4242, rng)) as arena:
        task = trial_task(skill, arena, rng)
        assert task is not None
        before = arena.state()
        if before.held is not None:
            arena.go(HOME, 0.0, 0.0)
        assert approach(arena, task, rng, spread=0.3)
        assert verdict(arena, before, task), "the outcome must not hold before anything was done"
        episode = demonstrate(arena, task, rng, noise=CALM, record=skill == "pick")
    assert episode.success, episode.reason
    assert episode.seconds < 10.0
    if skill == "pick":
        assert episode.samples[-1].done and not episode.samples[0].done
        progress = [s.progress for s in episode.samples]
        assert progress[0] < 0.3 and progress[-1] > 0.9


class Still:
    """A policy that stays where it is and never thinks that it is done."""

    id = "still"

    def reset(self, step: Step, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """Hold the present pose with an open hand."""
        here = observation.proprio
        return as_chunk(np.tile([*here.ee_position, here.ee_yaw, 1.0], (16, 1)), observation.time_s)


def test_doing_nothing_is_no_success() -> None:
    episode = run_trial(Still(), "pick", 3, timeout_s=1.6)
    assert not episode.success and "gripper" in episode.reason


def test_an_attempt_can_be_labelled_by_the_expert() -> None:
    rng = np.random.default_rng(1)
    with Arena(trial_scene("open_drawer", 77, rng)) as arena:
        task = tasks.drawer_task(arena.truth, "open_drawer", rng)
        assert approach(arena, task, rng)
        episode = attempt(arena, task, Still(), 0, record=True, timeout_s=0.8)
    assert len(episode.samples) == 2 and not episode.success
    assert episode.samples[0].actions[-1, 2] < episode.samples[0].inputs.proprio[2], "the expert would go down"


def test_a_trial_of_an_unknown_skill() -> None:
    with pytest.raises(UnknownNameError, match="juggle"):
        run_trial(Still(), "juggle", 1)
    with pytest.raises(UnknownNameError, match="Did you mean 'wipe'"):
        run_collect("nowhere", skills=("wip",))


def test_a_small_collection_is_the_same_twice(tmp_path: Path) -> None:
    sets = []
    for name in ("a", "b"):
        report = run_collect(tmp_path / name, skills=("close_drawer",), episodes=1, seed=3)
        assert report.kept["close_drawer"] >= 1 and report.shards
        sets.append(load_demos([tmp_path / name]))
    assert len(sets[0]) > 15
    for column in ("points", "proprio", "actions", "episode"):
        assert np.array_equal(getattr(sets[0], column), getattr(sets[1], column)), column
    assert sets[0].headers[0]["recipe"]["driver"] == "expert"


def test_success_is_about_the_right_object() -> None:
    rng = np.random.default_rng(5)
    with Arena(trial_scene("pick", 4242, rng)) as arena:
        task = trial_task("pick", arena, rng)
        assert task is not None
        before = arena.state()
        approach(arena, task, rng, spread=0.3)
        demonstrate(arena, task, rng, noise=CALM, record=False)
        other = next(o.id for o in arena.scene.objects if o.id != task.object)
        assert verdict(arena, before, task) == ""
        assert verdict(arena, before, Task("pick", task.target_w, object=other)) != ""
