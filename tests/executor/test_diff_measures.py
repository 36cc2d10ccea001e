"""Measures and findings of `diff`, on values whose distances are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hiervla.executor.replay.diff import measures
from hiervla.executor.replay.diff.artifacts import artifact_findings
from hiervla.executor.replay.diff.edits import plan_edits
from hiervla.representations import (
    AffordanceMap,
    Boxes,
    ImageRef,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Plan,
    Program,
    Step,
    SubtaskList,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Box, Waypoint2D, Waypoint3D

IMAGE = ImageRef(camera="front", sha256="0" * 64, width=64, height=48, time_s=0.0)


def only(a: Any, b: Any) -> Any:
    assert artifact_findings((a,), (a,)) == []
    (found,) = artifact_findings((a,), (b,))
    return found


def test_frechet_is_the_shortest_leash() -> None:
    line = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert measures.frechet(line, line) == 0.0
    assert measures.frechet(line, line + (0.0, 3.0)) == 3.0
    # Backwards the ends are as far apart as can be, which a distance of point sets (Hausdorff) would not see.
    assert measures.frechet(line, line[::-1]) == 2.0
    assert measures.frechet(line, line[:1]) == 2.0
    with pytest.raises(ValueError, match="no two paths"):
        measures.frechet(line, np.zeros((2, 3)))


def test_overlap_of_boxes() -> None:
    a = Box(label="x", u_min=0.0, v_min=0.0, u_max=2.0, v_max=2.0)
    assert measures.iou(a, a) == 1.0
    assert measures.iou(a, a.replace(u_min=1.0, u_max=3.0)) == pytest.approx(1 / 3)
    assert measures.iou(a, a.replace(u_min=2.0, u_max=3.0)) == 0.0


def test_distance_of_distributions() -> None:
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert measures.divergence(a, a) == 0.0
    assert measures.divergence(a, b) == 1.0
    # A coarse grid spread over a finer one is the same distribution.
    assert measures.divergence(np.full((1, 1), 1.0), np.full((3, 2), 1 / 6)) == pytest.approx(0.0, abs=1e-7)
    assert measures.angle(np.pi - 0.1, -np.pi + 0.1) == pytest.approx(0.2)


def test_keypoints_in_pixels_and_millimetres() -> None:
    a = Keypoints(image=IMAGE, points=(Keypoint(label="mug", u=10.0, v=10.0, position_w=(0.5, 0.0, 0.0)),))
    moved = a.points[0].replace(u=13.0, v=14.0, position_w=(0.5, 0.02, 0.0))
    found = only(a, a.replace(points=(moved,)))
    assert found.distances == {"image_px": 5.0, "world_mm": pytest.approx(20.0)}
    assert str(found) == "keypoint 'mug': 5.0 px apart, 20.0 mm apart in the world"
    other = only(a, a.replace(image=IMAGE.replace(camera="wrist"), points=(a.points[0],)))
    assert other.field == "image", "pixels of two cameras are not compared"
    renamed = only(a, a.replace(points=(moved.replace(label="cup"),)))
    assert renamed.field == "keypoint 'mug' | 'cup'"


def test_every_kind_by_its_measure() -> None:
    box = Boxes(image=IMAGE, boxes=(Box(label="x", u_min=0.0, v_min=0.0, u_max=2.0, v_max=2.0),))
    assert only(box, box.replace(boxes=(box.boxes[0].replace(u_min=1.0),))).distances == {"iou": 0.5}
    values = np.zeros((12, 16), np.float32)
    values[2, 2] = 1.0
    here = AffordanceMap(image=IMAGE, label="x", values=values)
    there = only(here, here.replace(values=np.roll(values, 2, axis=1)))
    assert there.distances == {"jensen_shannon": 1.0, "peak_px": 8.0}
    path = Waypoints2D(image=IMAGE, points=(Waypoint2D(u=0.0, v=0.0), Waypoint2D(u=9.0, v=0.0)))
    shifted = path.replace(points=tuple(p.replace(v=7.0) for p in path.points))
    assert only(path, shifted).distances == {"frechet_px": 7.0}
    world = Waypoints3D(points=(Waypoint3D(position_w=(0.0, 0.0, 0.0), quaternion_wxyz=(1.0, 0.0, 0.0, 0.0)),))
    turned = Waypoint3D(position_w=(0.0, 0.0, 0.03), quaternion_wxyz=(0.0, 0.0, 0.0, 1.0), gripper="close")
    found = only(world, world.replace(points=(turned,)))
    assert found.distances == {"frechet_mm": pytest.approx(30.0), "turn_deg": pytest.approx(180.0)}
    assert "gripper keep | close" in found.text
    motion = LanguageMotion(text="go left", translation_m=(0.0, 0.1, 0.0))
    assert only(motion, motion.replace(translation_m=(0.0, 0.05, 0.0))).distances == {"mm": pytest.approx(50.0)}
    program = only(Program(source="pick(a)\nhome()"), Program(source="pick(b)\nhome()"))
    assert program.text.splitlines() == ["--- A", "+++ B", "@@ -1,2 +1,2 @@", "-pick(a)", "+pick(b)", " home()"]
    tasks = artifact_findings((SubtaskList(subtasks=("a", "b")),), (SubtaskList(subtasks=("b", "c")),))
    assert [str(f) for f in tasks] == ["subtask 1: removed: a", "subtask 2: added: c"]


def step(step_id: str, skill: str, **args: str) -> Step:
    return Step(id=step_id, skill=skill, args=args)


def plan(*steps: Step) -> Plan:
    return Plan(goal="g", steps=steps, remaining=tuple(s.id for s in steps))


@pytest.mark.parametrize(
    ("after", "texts"),
    [
        ((step("x", "pick", o="a"), step("y", "place", t="bin"), step("z", "wipe")), []),
        ((step("s1", "pick", o="b"), step("s2", "place", t="bin"), step("s3", "wipe")), ["step 'pick(a)', o: a | b"]),
        ((step("s1", "pick", o="a"), step("s2", "place", t="bin")), ["step 'wipe()': removed (was at place 3)"]),
        (
            (step("s1", "pick", o="a"), step("s2", "place", t="bin"), step("s3", "wipe"), step("s4", "push")),
            ["step 'push()': added at place 4"],
        ),
        (
            (step("s3", "wipe"), step("s1", "pick", o="a"), step("s2", "place", t="bin")),
            ["step 'wipe()': moved from place 3 to 1"],
        ),
    ],
)
def test_edits_of_plans(after: tuple[Step, ...], texts: list[str]) -> None:
    before = plan(step("s1", "pick", o="a"), step("s2", "place", t="bin"), step("s3", "wipe"))
    assert [str(f) for f in plan_edits(before, plan(*after)).findings] == texts
