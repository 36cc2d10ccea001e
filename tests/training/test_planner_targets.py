"""Rendered scenes, their labels, and where the pointing head should point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiervla.planner.embedded.pointing import peak_of
from hiervla.planner.embedded.slots import CATEGORIES
from hiervla.training.planner_vision import heat_targets, make_example, match
from hiervla.training.point_targets import Question, find_thing, point_problem, questions, target_map
from hiervla.training.render_scenes import (
    MIN_PIXELS,
    RenderedScene,
    load_shard,
    render_scene,
    sample_training_scene,
    save_shard,
)
from hiervla.training.spots import free_spots, gaps, splat
from hiervla.worlds.tabletop.scene import sample_scene


@pytest.fixture(scope="module")
def scenes() -> list[RenderedScene]:
    made = []
    for seed in range(3_000_000, 3_000_006):
        spec, wiped = sample_training_scene(seed)
        made.append(render_scene(spec, np.random.default_rng(seed), wiped))
    return made


def test_same_seed_same_picture(scenes: list[RenderedScene]) -> None:
    spec, wiped = sample_training_scene(3_000_000)
    again = render_scene(spec, np.random.default_rng(3_000_000), wiped)
    assert np.array_equal(again.rgb, scenes[0].rgb)
    assert again.things == scenes[0].things


def test_labels_lie_on_what_they_name(scenes: list[RenderedScene]) -> None:
    for scene in scenes:
        ids = [t.id for t in scene.things]
        assert len(set(ids)) == len(ids)
        assert {"bin", "top_shelf", "bottom_shelf", "drawer"} <= set(ids)
        for t in scene.things:
            assert t.pixels == int((scene.segments == t.pixel).sum()) >= MIN_PIXELS
            assert t.box[0] - 12 <= t.u <= t.box[2] + 12 and t.box[1] - 12 <= t.v <= t.box[3] + 12
        hidden = {o.id for o in scene.spec.objects if o.support == "bin"}
        assert not hidden & set(ids)


def test_shards_keep_everything(scenes: list[RenderedScene], tmp_path: Path) -> None:
    save_shard(tmp_path / "shard_0.npz", scenes)
    for mine, theirs in zip(scenes, load_shard(tmp_path / "shard_0.npz"), strict=True):
        assert np.array_equal(mine.rgb, theirs.rgb) and np.array_equal(mine.segments, theirs.segments)
        assert mine.spec == theirs.spec
        assert [(t.id, t.category, t.colour, t.state) for t in mine.things] == [
            (t.id, t.category, t.colour, t.state) for t in theirs.things
        ]
        assert theirs.things[0].u == pytest.approx(mine.things[0].u, abs=1e-3)


def test_heatmaps_have_their_peaks_at_the_centres(scenes: list[RenderedScene]) -> None:
    examples = [make_example(s) for s in scenes]
    heat = heat_targets([e.labels for e in examples], (48, 64))
    for b, scene in enumerate(scenes):
        for t in scene.things:
            assert heat[b, CATEGORIES.index(t.category), int(t.v // 4), int(t.u // 4)] == 1.0
        assert (heat[b] == 1.0).sum() <= len(scene.things)


def test_targets_answer_their_own_questions(scenes: list[RenderedScene]) -> None:
    right, total = 0, 0
    for scene in scenes:
        for q in questions(scene):
            wanted = target_map(scene, q)
            if wanted is not None:
                assert wanted.sum() == pytest.approx(1.0, abs=1e-4)
                uv, _ = peak_of(torch.from_numpy(wanted)[None])
                right += not point_problem(scene, q, *uv[0].tolist())
                total += 1
    assert total > 60
    assert right / total > 0.97


def test_wrong_points_are_found_out(scenes: list[RenderedScene]) -> None:
    for scene in scenes:
        for q in questions(scene):
            assert point_problem(scene, q, 250.0, 188.0)
            assert point_problem(scene, q, 128.0, 4.0)


def test_a_thing_is_no_answer_for_another(scenes: list[RenderedScene]) -> None:
    scene = next(s for s in scenes if sum(t.state == "table" for t in s.things) >= 2)
    a, b = [t for t in scene.things if t.state == "table"][:2]
    inside = np.argwhere(scene.segments == b.pixel)
    v, u = inside[len(inside) // 2] + 0.5
    assert not point_problem(scene, Question("object", b), float(u), float(v))
    if a.category != "spill":
        assert point_problem(scene, Question("object", a), float(u), float(v))
    assert find_thing(scene.things, a.id) == a
    assert find_thing(scene.things, "mug_99") is None


def test_free_spots_keep_away_from_things() -> None:
    spec = sample_scene(5, n_objects=4, spill=True, drawer_open=True)
    for surface in ("table", "top_shelf", "bottom_shelf", "drawer"):
        points, weights = free_spots(spec, surface)
        assert weights.sum() == pytest.approx(1.0)
        best = points[np.argmax(weights)]
        assert gaps(spec, surface, best[None, :2])[0] > 0.03
    assert len(free_spots(spec.replace(drawer_open=0.0), "drawer")[0]) == 0
    crowded = next(o for o in spec.objects if o.support == "table")
    assert gaps(spec, "table", np.array([crowded.position[:2]]))[0] < 0


def test_splat_keeps_mass_and_place() -> None:
    out = splat(np.array([[41.0, 23.0]]), np.array([1.0]), (48, 64))
    uv, mass = peak_of(torch.from_numpy(out)[None])
    assert float(mass) == pytest.approx(1.0)
    assert uv[0].tolist() == pytest.approx([41.0, 23.0], abs=1e-4)


def test_match_pairs_each_thing_once(scenes: list[RenderedScene]) -> None:
    from tests.planner.test_vision_slots import make_slot

    t = next(t for t in scenes[0].things if t.category not in ("bin", "drawer", "top_shelf", "bottom_shelf"))
    near, nearer = (make_slot(t.category, t.colour, t.state, t.u + d, t.v) for d in (3.0, 1.0))
    assert match([near, nearer], [t]) == [(1, 0)]
    assert match([replace(near, u=t.u + 20.0)], [t]) == []
