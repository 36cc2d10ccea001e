"""What the steps of demonstrations say: varied, true, naming the colour wherever it is needed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from hiervla.executor.policies.base import SKILLS
from hiervla.planner.embedded.wording import step_text
from hiervla.training.arena import Arena, as_step
from hiervla.training.episodes import Episode, attempt
from hiervla.training.experts import tasks
from hiervla.training.experts.state import Task
from hiervla.training.step_wordings import BARE, WORDINGS, worded, wording
from hiervla.training.stories import approach, coarse
from hiervla.training.tasks.phrases import NOUNS
from hiervla.training.trials import trial_scene
from hiervla.training.workers import Job, played
from hiervla.worlds.tabletop.sampling import sample_scene
from hiervla.worlds.tabletop.specs import SceneSpec
from tests.training.test_experts import Still

SCENE: SceneSpec = sample_scene(
    7, n_objects=4, require=[("block", "red"), ("block", "blue"), ("mug", "green"), ("bowl", "white")]
)
RED, BLUE, MUG, BOWL = (o.id for o in SCENE.objects[:4])


def said(skill: str, count: int = 200, **about: str) -> list[str]:
    rng = np.random.default_rng(1)
    return [wording(Task(skill, rng.normal(size=3), **about), SCENE) for _ in range(count)]


@pytest.mark.parametrize("skill", SKILLS)
def test_every_skill_has_several_verbs_and_the_planners_own_words(skill: str) -> None:
    named = {"object": "red block", "source": "table", "target": "top shelf", "relation": "on"}
    texts = said(skill, object=RED, place="top_shelf")
    # Synonyms are drawn as well, so the planner's own sentence is one of many.
    assert step_text(skill, named) in texts
    assert len(set(texts)) >= 4 and len({t.split()[0] for t in texts}) >= 3
    assert not any(re.search(r"[{}_]|\d", t) for t in texts), "names of the simulator are not words"
    assert all(t == t.lower() and not t.endswith(".") for t in texts)
    assert len(WORDINGS[skill]) == len(set(WORDINGS[skill]))


def test_the_colour_is_left_out_only_where_there_is_one_such_thing() -> None:
    assert all("red" in t and "blue" not in t for t in said("pick", object=RED))
    assert all("blue" in t and "red" not in t for t in said("pick", object=BLUE))
    bare = np.mean(["green" not in t for t in said("pick", 400, object=MUG)])
    assert bare == pytest.approx(BARE, abs=0.07)
    assert all(any(word in t for word in NOUNS["mug"]) for t in said("throw_away", object=MUG))
    into = said("place", object=RED, onto=BOWL)
    assert all(" in the " in t and "bowl" in t for t in into) and all(
        " on the blue " in t for t in said("place", object=RED, onto=BLUE)
    )


def test_words_follow_from_the_task_alone() -> None:
    task = Task("pick", np.array([0.4, 0.1, 0.02]), object=RED)
    assert wording(task, SCENE) == wording(replace(task), SCENE)
    assert len({wording(replace(task, target_w=task.target_w + k * 1e-3), SCENE) for k in range(20)}) > 5


def test_a_policy_that_is_tried_is_told_in_words() -> None:
    told: list[str] = []

    class Listens(Still):
        def reset(self, step, seed):  # type: ignore[no-untyped-def]  # as the one it stands in for
            told.append(step.text)

    rng = np.random.default_rng(1)
    with Arena(trial_scene("open_drawer", 77, rng)) as arena:
        task = tasks.drawer_task(arena.truth, "open_drawer", rng)
        assert as_step(task).text == "" and approach(arena, task, rng)
        state = rng.bit_generator.state
        episode = attempt(arena, task, Listens(), 0, record=True, timeout_s=0.4)
        assert rng.bit_generator.state == state
        given = worded(replace(task, words="open it"), arena)
    assert told == [episode.task.words] and told[0] in WORDINGS["open_drawer"]
    assert given.words == "open it", "words that are there are kept"


def test_a_coarse_point_is_near_what_the_words_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "driver", lambda self: _seen)
    exact, near = (
        next(played(iter([("tidy", 10_000_002)]), Job(frozenset({"pick"}), point_off_m=off), 1)) for off in (0.0, 0.05)
    )
    assert exact and near and all(e.task.skill == "pick" and e.task.words for e, _ in (*exact, *near))
    gap = near[0][0].task.target_w - exact[0][0].task.target_w
    assert near[0][0].task.object == exact[0][0].task.object and 0.0 < np.hypot(*gap[:2]) < 0.05 and gap[2] == 0.0
    rng = np.random.default_rng(0)
    task = Task("pick", np.zeros(3), object=RED)
    spots = np.array([coarse(task, 0.05, rng).target_w for _ in range(500)])
    far = np.hypot(*spots.T[:2])
    assert far.max() < 0.05 and np.median(far) == pytest.approx(0.05 * np.sqrt(0.5), rel=0.1)


def _seen(arena: Arena, task: Task, rng: np.random.Generator) -> Episode:
    """A driver that does nothing, and fails."""
    return Episode(worded(task, arena), reason="nothing done")
