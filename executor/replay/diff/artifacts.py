"""Differences of artifacts, each kind by its own measure."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from hiervla.executor.replay.diff import measures
from hiervla.executor.replay.diff.edits import edits
from hiervla.executor.replay.diff.finding import Finding, against
from hiervla.representations import (
    AffordanceMap,
    Artifact,
    Boxes,
    Constraints,
    ImageRef,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Program,
    SubtaskList,
    ValueMap,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.artifacts import Box

T = TypeVar("T")
_MM = 1e3


def artifact_findings(a: Sequence[Artifact], b: Sequence[Artifact]) -> list[Finding]:
    """What differs between the artifacts of two decisions, paired by kind, label and order."""
    found: list[Finding] = []
    for x, y in [pair for kind in _kinds(a, b) for pair in _pairs(*kind, lambda x: getattr(x, "label", ""))]:
        if x is None or y is None:
            there = x if x is not None else y
            assert there is not None
            name = f"{there.kind.replace('_', ' ')} {getattr(there, 'label', '')}".strip()
            found.append(Finding(name, "only in A" if y is None else "only in B", x, y))
        else:
            found += _compare(x, y)
    return found


def _kinds(a: Sequence[Artifact], b: Sequence[Artifact]) -> list[tuple[list[Artifact], list[Artifact]]]:
    kinds = dict.fromkeys([x.kind for x in (*a, *b)])
    return [([x for x in a if x.kind == kind], [y for y in b if y.kind == kind]) for kind in kinds]


def _compare(a: Artifact, b: Artifact) -> list[Finding]:
    match a, b:
        case Keypoints(), Keypoints():
            return _about(a.image, b.image) + _points(a.points, b.points, pixels=_comparable(a.image, b.image))
        case Boxes(), Boxes():
            return _about(a.image, b.image) + (_boxes(a, b) if _comparable(a.image, b.image) else [])
        case AffordanceMap(), AffordanceMap():
            return _about(a.image, b.image) + (_maps(a, b) if _comparable(a.image, b.image) else [])
        case Waypoints2D(), Waypoints2D():
            return _about(a.image, b.image) + (_image_paths(a, b) if _comparable(a.image, b.image) else [])
        case Waypoints3D(), Waypoints3D():
            return _world_paths(a, b)
        case SubtaskList(), SubtaskList():
            found = edits("subtask", a.subtasks, b.subtasks)
            return found or _unlike("subtask dependencies", a.depends_on, b.depends_on)
        case LanguageMotion(), LanguageMotion():
            return _motions(a, b)
        case ValueMap(), ValueMap():
            return _value_maps(a, b)
        case Constraints(), Constraints():
            said = [
                [f"stage {c.stage} {c.during}: {c}, within {c.tolerance_m:g} m" for c in x.constraints] for x in (a, b)
            ]
            return _points(a.keypoints, b.keypoints, pixels=True) + edits("constraint", *said)
        case Program(), Program():
            return _programs(a, b)
        case _:
            raise AssertionError(f"{a.kind} was paired with {b.kind}")


def _pairs(a: Sequence[T], b: Sequence[T], key: Callable[[T], Any]) -> list[tuple[T | None, T | None]]:
    """Things of one key in their order; what one side has more of stands alone.

    One that is left on each side is the same thing under another name.
    """
    waiting: dict[Any, list[T]] = defaultdict(list)
    for y in b:
        waiting[key(y)].append(y)
    pairs: list[tuple[T | None, T | None]] = [(x, waiting[key(x)].pop(0) if waiting[key(x)] else None) for x in a]
    left = [y for group in waiting.values() for y in group]
    alone = [index for index, (_, y) in enumerate(pairs) if y is None]
    if len(alone) == len(left) == 1:
        pairs[alone[0]] = (pairs[alone[0]][0], left.pop())
    return pairs + [(None, y) for y in left]


def _comparable(a: ImageRef, b: ImageRef) -> bool:
    return (a.camera, a.width, a.height) == (b.camera, b.width, b.height)


def _about(a: ImageRef, b: ImageRef) -> list[Finding]:
    """Pixels of two cameras, or of two sizes, are not compared; that is said instead."""
    return _unlike("image", f"{a.camera}, {a.width} x {a.height} px", f"{b.camera}, {b.width} x {b.height} px")


def _unlike(field: str, a: Any, b: Any) -> list[Finding]:
    return [] if a == b else [against(field, a, b)]


def _points(a: Sequence[Keypoint], b: Sequence[Keypoint], *, pixels: bool) -> list[Finding]:
    found = []
    for p, q in _pairs(a, b, lambda point: point.label):
        there = p if p is not None else q
        assert there is not None
        field = f"keypoint '{there.label}'"
        if p is not None and q is not None and p.label != q.label:
            field += f" | '{q.label}'"
        if p is None or q is None:
            found.append(Finding(field, "only in A" if q is None else "only in B", p, q))
            continue
        distances: dict[str, float] = {}
        words = [] if p.label == q.label else ["another thing"]
        if pixels and (p.u, p.v) != (q.u, q.v):
            distances["image_px"] = float(np.hypot(p.u - q.u, p.v - q.v))
            words.append(f"{distances['image_px']:.1f} px apart")
        if p.position_w is not None and q.position_w is not None:
            apart = float(np.linalg.norm(np.subtract(p.position_w, q.position_w)))
            if apart > 0:
                distances["world_mm"] = apart * _MM
                words.append(f"{distances['world_mm']:.1f} mm apart in the world")
        elif p.position_w != q.position_w:
            words.append(f"grounded only in {'A' if q.position_w is None else 'B'}")
        if p.confidence != q.confidence:
            distances["confidence"] = abs(p.confidence - q.confidence)
            words.append(f"confidence {p.confidence:.2f} | {q.confidence:.2f}")
        if p.normal_w != q.normal_w:
            words.append("another surface normal")
        if words:
            found.append(Finding(field, ", ".join(words), p, q, distances))
    return found


def _boxes(a: Boxes, b: Boxes) -> list[Finding]:
    found = []
    for x, y, overlap in _by_overlap(a.boxes, b.boxes):
        there = x if x is not None else y
        assert there is not None
        field = f"box '{there.label}'"
        if x is None or y is None:
            found.append(Finding(field, "only in A" if y is None else "only in B", x, y))
        elif x != y:
            words = f"IoU {overlap:.2f}"
            if x.confidence != y.confidence:
                words += f", confidence {x.confidence:.2f} | {y.confidence:.2f}"
            found.append(Finding(field, words, x, y, {"iou": overlap}))
    return found


def _by_overlap(a: Sequence[Box], b: Sequence[Box]) -> list[tuple[Box | None, Box | None, float]]:
    """Boxes of one label paired so that they overlap as much as can be; what finds no partner stands alone."""
    from scipy.optimize import linear_sum_assignment

    pairs: list[tuple[Box | None, Box | None, float]] = []
    for label in dict.fromkeys([x.label for x in (*a, *b)]):
        left = [x for x in a if x.label == label]
        right = [y for y in b if y.label == label]
        overlaps = np.array([[measures.iou(x, y) for y in right] for x in left]).reshape(len(left), len(right))
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        pairs += [(left[i], right[j], float(overlaps[i, j])) for i, j in zip(rows, columns, strict=True)]
        pairs += [(x, None, 0.0) for i, x in enumerate(left) if i not in rows]
        pairs += [(None, y, 0.0) for j, y in enumerate(right) if j not in columns]
    return pairs


def _maps(a: AffordanceMap, b: AffordanceMap) -> list[Finding]:
    if a.label == b.label and np.array_equal(a.values, b.values):
        return []
    peaks = [measures.peak(m.values, m.image.width, m.image.height) for m in (a, b)]
    distances = {
        "jensen_shannon": measures.divergence(a.values, b.values),
        "peak_px": float(np.linalg.norm(peaks[0] - peaks[1])),
    }
    words = f"Jensen-Shannon distance {distances['jensen_shannon']:.3f}, peak moved by {distances['peak_px']:.1f} px"
    if a.values.shape != b.values.shape:
        sizes = [f"{m.values.shape[1]} x {m.values.shape[0]}" for m in (a, b)]
        words += f", {sizes[0]} | {sizes[1]} cells"
    # The maps themselves would drown what is said about them.
    at = [tuple(p.tolist()) for p in peaks]
    name = f"'{a.label}'" if a.label == b.label else f"'{a.label}' | '{b.label}'"
    return [Finding(f"affordance map {name}", words, {"peak": at[0]}, {"peak": at[1]}, distances)]


def _image_paths(a: Waypoints2D, b: Waypoints2D) -> list[Finding]:
    if a.points == b.points:
        return []
    px = measures.frechet(np.array([(p.u, p.v) for p in a.points]), np.array([(p.u, p.v) for p in b.points]))
    words = f"discrete Fréchet distance {px:.1f} px{_grips(a.points, b.points)}"
    return [Finding("image path", words, a.points, b.points, {"frechet_px": px})]


def _world_paths(a: Waypoints3D, b: Waypoints3D) -> list[Finding]:
    if a.points == b.points:
        return []
    paths = [np.array([p.position_w for p in x.points], dtype=np.float64) for x in (a, b)]
    mm = measures.frechet(*paths) * _MM
    distances = {"frechet_mm": mm}
    words = f"discrete Fréchet distance {mm:.1f} mm{_grips(a.points, b.points)}"
    turned = [
        _turn(p.quaternion_wxyz, q.quaternion_wxyz)
        for p, q in zip(a.points, b.points, strict=False)
        if p.quaternion_wxyz is not None and q.quaternion_wxyz is not None
    ]
    if turned and max(turned) > 0:
        distances["turn_deg"] = max(turned)
        words += f", turned by up to {max(turned):.1f} degrees"
    return [Finding("path", words, a.points, b.points, distances)]


def _grips(a: Sequence[Any], b: Sequence[Any]) -> str:
    grips = [" ".join(p.gripper for p in x if p.gripper != "keep") or "keep" for x in (a, b)]
    words = f", {len(a)} | {len(b)} points" if len(a) != len(b) else ""
    return words + (f", gripper {grips[0]} | {grips[1]}" if grips[0] != grips[1] else "")


def _turn(a: Sequence[float], b: Sequence[float]) -> float:
    """Angle between two orientations [degrees]."""
    return float(np.degrees(2 * np.arccos(min(1.0, abs(float(np.dot(a, b)))))))


def _motions(a: LanguageMotion, b: LanguageMotion) -> list[Finding]:
    found = _unlike("motion", a.text, b.text) + _unlike("motion's frame", a.frame, b.frame)
    if a.translation_m != b.translation_m:
        if a.translation_m is None or b.translation_m is None:
            found.append(against("motion's displacement", a.translation_m, b.translation_m))
        else:
            mm = float(np.linalg.norm(np.subtract(a.translation_m, b.translation_m))) * _MM
            words = f"{mm:.1f} mm apart"
            found.append(Finding("motion's displacement", words, a.translation_m, b.translation_m, {"mm": mm}))
    found += _unlike("motion's turn [rad]", a.rotation_rad, b.rotation_rad)
    return found + _unlike("motion's gripper", a.gripper, b.gripper)


def _value_maps(a: ValueMap, b: ValueMap) -> list[Finding]:
    field = f"value map '{a.label}'"
    grids = [(m.origin_w, m.resolution_m, m.values.shape) for m in (a, b)]
    if grids[0] != grids[1]:
        return [against(f"{field}, its grid", *grids)]
    if np.array_equal(a.values, b.values):
        return []
    peaks = [np.array(np.unravel_index(int(m.values.argmax()), m.values.shape), dtype=np.float64) for m in (a, b)]
    distances = {
        "largest": float(np.abs(a.values - b.values).max()),
        "peak_mm": float(np.linalg.norm(peaks[0] - peaks[1])) * a.resolution_m * _MM,
    }
    words = f"values differ by up to {distances['largest']:.3g}, peak moved by {distances['peak_mm']:.1f} mm"
    return [Finding(field, words, distances=distances)]


def _programs(a: Program, b: Program) -> list[Finding]:
    if a.source == b.source:
        return []
    lines = difflib.unified_diff(a.source.splitlines(), b.source.splitlines(), "A", "B", lineterm="")
    return [Finding("program", "\n".join(lines), a.source, b.source)]
