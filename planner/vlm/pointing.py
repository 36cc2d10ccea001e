"""Asks a model to point in the format that its family was trained to write, and has its adapter read the answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np

from hiervla.planner.adapters import AdapterError, ImageSize, OutputAdapter
from hiervla.planner.adapters.base import Kind
from hiervla.planner.adapters.resizing import smart_resize
from hiervla.planner.base import RejectedAttempt
from hiervla.planner.grounding import image_ref
from hiervla.planner.vlm.backend import Backend, Image, Message, Sampling
from hiervla.planner.vlm.prompt import POINT_AT, prompt_bytes
from hiervla.representations import (
    Artifact,
    ArtifactKind,
    CameraFrame,
    Keypoint,
    Keypoints,
    Provenance,
    Step,
    UnknownNameError,
    Waypoints2D,
)

_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_ELSE: Final = "the middle of what the step is about"


@dataclass(frozen=True)
class SentImage:
    """The image that goes to the model, and its size after all resizing, there and here.

    Attributes:
        rgb: what is handed to the backend.
        size: what the model's own image processor makes of it.
    """

    rgb: Image
    size: ImageSize


class FamilyPoints:
    """Points of a model family, for :class:`~hiervla.planner.vlm.planner.VLMPlanner`.

    The model is asked without a schema, since its family's format is not ours; the answer goes through the family's
    adapter, which knows its axis order and range. What it cannot read is told to the model and asked for again; the
    attempts are kept in `rejected`, with the text as it came.

    Args:
        backend: what runs the model.
        adapter: its family's.
        repairs: how often an answer that cannot be read is asked for again.
        sampling: how tokens are drawn.

    Attributes:
        rejected: answers to the last question that could not be read.
    """

    def __init__(
        self, backend: Backend, adapter: OutputAdapter, *, repairs: int = 2, sampling: Sampling | None = None
    ) -> None:
        self.backend = backend
        self.adapter = adapter
        self.repairs = repairs
        self.sampling = sampling or Sampling(max_tokens=768)
        self.rejected: tuple[RejectedAttempt, ...] = ()

    @property
    def kinds(self) -> tuple[ArtifactKind, ...]:
        """What it can be asked for: the family's kinds, and a keypoint, which is where a path ends if need be."""
        kinds: tuple[ArtifactKind, ...] = self.adapter.kinds
        return kinds if "keypoints" in kinds else ("keypoints", *kinds)

    def find(self, frame: CameraFrame, step: Step) -> tuple[Artifact, ...]:
        """The keypoint of a step; see :class:`~hiervla.planner.vlm.planner.PointStrategy`."""
        return self.find_kind(frame, step, "keypoints")

    def find_kind(self, frame: CameraFrame, step: Step, kind: ArtifactKind) -> tuple[Artifact, ...]:
        """What a step is about in a frame, as an artifact of a kind; nothing when the model sees no such thing.

        Nothing, too, when all attempts failed; `rejected` has them.

        Raises:
            UnknownNameError: the family does not write this kind.
            BackendError: the model gives no answer, or does not see the whole image.
        """
        self.rejected = ()
        if kind not in self.kinds:
            raise UnknownNameError("kind of answer", kind, self.kinds, place=f"adapter '{self.adapter.family}'")
        asked: Kind = next((k for k in _KINDS if k == kind and k in self.adapter.kinds), "waypoints_2d")
        image = image_ref(frame)
        sent = sent_image(self.backend, frame.rgb, self.adapter)
        messages = [Message("user", f"{_question(step, asked)} {self.adapter.instructions(asked)}")]
        began = time.perf_counter()
        while True:
            prompt = prompt_bytes(messages, [frame.sha256], {"family": self.adapter.family, "kind": asked})
            answer = self.backend.generate(messages, [sent.rgb], None, self.sampling)
            try:
                if not answer.complete:
                    raise AdapterError(
                        self.adapter.family, answer.text, "the answer was cut off", "Answer in fewer words"
                    )
                # The sent size is told for families that count in its pixels; the others would not look at it.
                found = self.adapter.parse(answer.text, image, sent=sent.size, frame=_with_depth(frame), kind=asked)
                break
            except AdapterError as error:
                self.rejected += (RejectedAttempt(raw_text=answer.text, problem=f"{error.place}: {error.problem}"),)
                if len(self.rejected) > self.repairs:
                    return ()
                again = f"That answer cannot be read: {error.problem}. {self.adapter.instructions(asked)}"
                messages = [*messages, Message("assistant", answer.text), Message("user", again)]
        note = Provenance(
            model=answer.model,
            prompt_sha256=hashlib.sha256(prompt).hexdigest(),
            sampling={
                **self.sampling.model_dump(),
                "family": self.adapter.family,
                "sent": f"{sent.size.width} x {sent.size.height}",
                "constrained": answer.constrained,
            },
            raw_text=answer.text,
            attempts=len(self.rejected) + 1,
            latency_s=time.perf_counter() - began,
        )
        return tuple(_about(a, step, kind).replace(provenance=note) for a in found[:1])


def sent_image(backend: Backend, rgb: Image, adapter: OutputAdapter) -> SentImage:
    """The image to send, and the size that the model sees it in.

    A backend that has the model's image processor says what that makes of the image. Behind a server it is out of
    sight: for a family that counts in pixels of the resized image, the image is resized here, by the family's own rule,
    so that the processor leaves it as it is.

    Raises:
        BackendError: the processor crops the image, so that no coordinate could be trusted.
    """
    look: Any = getattr(backend, "sent_size", None)
    if look is not None:
        width, height = look(rgb)
        return SentImage(rgb, ImageSize(width, height))
    height, width = rgb.shape[:2]
    if adapter.convention.relative_to != "sent":
        return SentImage(rgb, ImageSize(width, height))
    size = smart_resize(width, height)
    return SentImage(_resized(rgb, size), size)


def _resized(rgb: Image, size: ImageSize) -> Image:
    from PIL import Image as Pictures

    picture = Pictures.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize((size.width, size.height), Pictures.Resampling.BICUBIC))


def _with_depth(frame: CameraFrame) -> CameraFrame | None:
    return frame if frame.depth_m is not None else None


def _question(step: Step, kind: Kind) -> str:
    what = POINT_AT.get(step.skill, _ELSE)
    if kind in ("waypoints_2d", "waypoints_3d"):
        return (
            f"A robot arm that you see in the image has to do this: {step}. Draw the path of its gripper, from where "
            f"it is now to {what}."
        )
    if kind == "boxes":
        return f"A robot arm has to do this: {step}. Draw a box around what it has to reach: {what}."
    return f"A robot arm has to do this: {step}. Point at {what}."


def _about(artifact: Artifact, step: Step, kind: ArtifactKind) -> Artifact:
    """An artifact as the one of a step: one point, called as the step calls it."""
    label = step.args.get("target") or step.args.get("object") or step.skill
    if isinstance(artifact, Waypoints2D) and kind == "keypoints":
        acting = [p for p in artifact.points if p.gripper != "keep"] or list(artifact.points)
        point = Keypoint(label=label, u=acting[-1].u, v=acting[-1].v)
        return Keypoints(image=artifact.image, points=(point,))
    if isinstance(artifact, Keypoints):
        return artifact.replace(points=(_most_central(artifact.points).replace(label=label),))
    return artifact


def _most_central(points: Sequence[Keypoint]) -> Keypoint:
    """The point with the least sum of distances to the others: families that mark a region write several."""
    return min(points, key=lambda p: sum(float(np.hypot(p.u - q.u, p.v - q.v)) for q in points))
