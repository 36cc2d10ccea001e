"""What a run record says in words and points, as the language of an episode."""

from __future__ import annotations

import json

from hiervla.executor.record.reader import RunRecord
from hiervla.representations import ImageRef, Keypoints, Waypoints2D
from hiervla.representations.artifacts import Artifact
from hiervla.representations.events import Grounded, PlanProposed, StepStarted
from hiervla.representations.plans import Plan
from hiervla.training.data.types import IMAGE_PREFIX, Array, Utterance


def spoken(record: RunRecord, times: Array, cameras: frozenset[str]) -> tuple[Utterance, ...]:
    """Plans and subtasks as they came up; where artifacts point, as a question and its answer about an image.

    Args:
        record: the run.
        times: (N,) of the frames, on the world's clock [s].
        cameras: image columns that the episode has.
    """
    start = float(times[0])
    said = [Utterance(max(0.0, event.time_s - start), _steps(event.plan), "plan") for event in record.of(PlanProposed)]
    said += [Utterance(max(0.0, e.time_s - start), str(e.step), "subtask") for e in record.of(StepStarted)]
    # Readers want one question a frame and camera, so the last one counts.
    pointed: dict[tuple[int, str], tuple[Utterance, ...]] = {}
    for event in record.of(Grounded):
        for image, answer in _answers(event.artifacts).items():
            camera = IMAGE_PREFIX + image.camera
            if camera not in cameras:
                continue
            frame = int(abs(times - image.time_s).argmin())
            at = float(times[frame]) - start
            labels = ", ".join(dict.fromkeys(str(p["label"]) for p in answer["points"]))
            text = json.dumps(answer, sort_keys=True)
            pointed[frame, camera] = (
                Utterance(at, f"Point to: {labels}.", "vqa", "user", camera),
                Utterance(at, text, "vqa", "assistant", camera),
            )
        for image, path in _paths(event.artifacts):
            camera = IMAGE_PREFIX + image.camera
            if camera in cameras:
                frame = int(abs(times - image.time_s).argmin())
                said.append(Utterance(float(times[frame]) - start, path, "trace", "assistant", camera))
    said += [one for pair in pointed.values() for one in pair]
    return tuple(sorted(said, key=lambda u: u.time_s))


def _steps(plan: Plan) -> str:
    """The remaining steps of a plan, numbered."""
    lines = [f"{i}. {plan.step(name)}" for i, name in enumerate(plan.remaining, 1)]
    return "\n".join(lines) if lines else "nothing remains to be done"


def _answers(artifacts: tuple[Artifact, ...]) -> dict[ImageRef, dict[str, list[dict[str, object]]]]:
    """Keypoints by image: ``{"points": [{"label": ..., "point": [u, v]}]}``, in pixels of it."""
    answers: dict[ImageRef, dict[str, list[dict[str, object]]]] = {}
    for artifact in artifacts:
        if isinstance(artifact, Keypoints):
            image = artifact.image
            answer = answers.setdefault(image, {"points": []})
            answer["points"] += [{"label": p.label, "point": [p.u, p.v]} for p in artifact.points]
    return answers


def _paths(artifacts: tuple[Artifact, ...]) -> list[tuple[ImageRef, str]]:
    return [
        (a.image, json.dumps({"trace": [[p.u, p.v] for p in a.points]}))
        for a in artifacts
        if isinstance(a, Waypoints2D)
    ]
