"""The expert's plans in rendered scenes: what is asked can be seen, and what is answered is on it."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.planner.vlm.answers import SCALE, Draft
from hiervla.skills import SkillLibrary
from hiervla.training.lora.answers import UnwritableError
from hiervla.training.lora.scenes import FIRST_SEED, expert_draft, scene_samples
from hiervla.training.point_targets import Question, find_thing, point_problem
from hiervla.training.render_scenes import render_scene
from hiervla.training.tasks.tabletop import sample_scene_for

SKILLS = SkillLibrary.load().signatures()


def test_every_point_of_the_first_step_is_where_it_should_be() -> None:
    judged = 0
    for k, family in enumerate(("shelf", "drawer", "stack", "wipe")):
        spec, task = sample_scene_for(family, FIRST_SEED + 900_000 + k, "train", 1)
        scene = render_scene(spec, np.random.default_rng(k))
        try:
            draft = expert_draft(scene, task, SKILLS)
        except UnwritableError:
            continue
        steps = task.plan()
        assert [c.skill for c in draft.calls] == [s.skill for s in steps]
        moved: set[str] = set()
        for call, step in zip(draft.calls, steps, strict=True):
            assert call.point is not None
            u, v = call.point.x / SCALE * 256, call.point.y / SCALE * 192
            if step.skill == "pick" and step.object not in moved:
                thing = find_thing(scene.things, step.object)
                assert thing is not None
                assert call.args["object"] == f"{thing.colour} {thing.category}"
                rows, columns = np.nonzero(scene.segments == thing.pixel)
                # Whole numbers on the scale are a quarter of a pixel apart.
                assert np.hypot(columns + 0.5 - u, rows + 0.5 - v).min() < 1.0
            elif step.skill == "open_drawer":
                assert point_problem(scene, Question("object", find_thing(scene.things, "drawer")), u, v) == ""
            elif step.skill == "wipe":
                assert step.object in task.scene.objects and call.args == {"surface": "spill"}
            moved.add(step.object)
        judged += 1
    assert judged >= 3


def test_samples_are_the_same_for_a_seed_and_hold_refusals() -> None:
    ten, left_out = scene_samples(10, SKILLS, seed=3)
    assert len({s.group for s in ten}) + sum(left_out.values()) == 10
    drafts = [s.read(s.answer) for s in ten if s.kind == "plan"]
    assert any(isinstance(d, Draft) and d.refuse is not None for d in drafts)
    assert any(isinstance(d, Draft) and len(d.calls) > 2 for d in drafts)
    assert all(s.image.shape == (192, 256, 3) and s.origin == "scene" for s in ten)
    again, _ = scene_samples(2, SKILLS, seed=3)
    assert [s.answer for s in again] == [s.answer for s in ten[: len(again)]]
    assert all((a.image == b.image).all() for a, b in zip(again, ten, strict=False))
    other, _ = scene_samples(1, SKILLS, seed=4)
    assert other[0].messages != ten[0].messages


def test_a_library_without_the_experts_skills_is_told() -> None:
    spec, task = sample_scene_for("shelf", FIRST_SEED, "train", 1)
    scene = render_scene(spec, np.random.default_rng(0))
    with pytest.raises(UnwritableError, match="not installed"):
        expert_draft(scene, task, [s for s in SKILLS if s.name != "pick"])
