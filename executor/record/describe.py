"""Artifacts in words, for the terminal and the report."""

from __future__ import annotations

import numpy as np

from hiervla.representations import (
    AffordanceMap,
    Artifact,
    Boxes,
    Constraints,
    Keypoints,
    LanguageMotion,
    Program,
    SubtaskList,
    ValueMap,
    Waypoints2D,
    Waypoints3D,
)


def describe(artifact: Artifact) -> list[str]:
    """An artifact in one line or a few, units included."""
    match artifact:
        case Keypoints():
            lines = []
            for p in artifact.points:
                at = "" if p.position_w is None else f" = {_metres(p.position_w)} m in the world"
                lines.append(f"keypoint '{p.label}' at ({p.u:.1f}, {p.v:.1f}) px{at}, confidence {p.confidence:.2f}")
        case Boxes():
            lines = [
                f"box '{b.label}' from ({b.u_min:.0f}, {b.v_min:.0f}) to ({b.u_max:.0f}, {b.v_max:.0f}) px, "
                f"confidence {b.confidence:.2f}"
                for b in artifact.boxes
            ]
        case AffordanceMap():
            i, j = np.unravel_index(int(artifact.values.argmax()), artifact.values.shape)
            h, w = artifact.values.shape
            u, v = (int(j) + 0.5) * artifact.image.width / w, (int(i) + 0.5) * artifact.image.height / h
            peak = float(artifact.values.max())
            lines = [f"affordance map '{artifact.label}', {w} x {h} cells, peak {peak:.2f} at ({u:.0f}, {v:.0f}) px"]
        case Waypoints2D():
            path = " ".join(f"({p.u:.0f}, {p.v:.0f}){_grip(p.gripper)}" for p in artifact.points)
            lines = [f"image path {path} px"]
        case Waypoints3D():
            path = " ".join(f"{_metres(p.position_w)}{_grip(p.gripper)}" for p in artifact.points)
            lines = [f"path {path} m in the world"]
        case SubtaskList():
            lines = ["subtasks: " + "; ".join(f"{i}. {text}" for i, text in enumerate(artifact.subtasks, 1))]
        case LanguageMotion():
            far = "" if artifact.translation_m is None else f" = {_metres(artifact.translation_m)} m, {artifact.frame}"
            lines = [f"motion '{artifact.text}'{far}{_grip(artifact.gripper)}"]
        case ValueMap():
            size = " x ".join(map(str, artifact.values.shape))
            lines = [f"value map '{artifact.label}', {size} voxels of {artifact.resolution_m * 1e3:.0f} mm"]
        case Constraints():
            lines = [
                f"constraint of stage {c.stage} ({c.during}): {c}, within {c.tolerance_m:g} m"
                for c in artifact.constraints
            ]
        case Program():
            lines = ["program:", *("  " + line for line in artifact.source.splitlines())]
    return lines


def evidence(values: dict[str, float | str | bool]) -> str:
    """A verdict's evidence in one line."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())


def _metres(point: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{c:.3f}" for c in point) + ")"


def _grip(gripper: str) -> str:
    return "" if gripper == "keep" else f" {gripper}"
