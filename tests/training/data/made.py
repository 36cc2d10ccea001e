"""Small made-up episodes for the tests of dataset formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hiervla.training.data.images import ArrayImages, ImageColumn
from hiervla.training.data.types import ActionMeaning, DatasetSpec, Episode, Feature, Utterance

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
FPS = 10.0
SPEC = DatasetSpec(
    "made",
    (
        Feature("observation.state", "float32", (8,), tuple(f"s{i}" for i in range(8)), "joints [rad]"),
        Feature("action", "float32", (7,), meaning="targets"),
        Feature("next.done", "bool", (1,)),
        Feature("cloud", "float32", (5, 3)),
        Feature("count", "int64", (1,)),
        Feature(FRONT, "uint8", (32, 48, 3), image=True),
        Feature(WRIST, "uint8", (24, 32, 3), image=True),
    ),
    ActionMeaning("joint_position", gripper="width_m", text="made up"),
    FPS,
    "panda",
    extra={"note": [1, "two"]},
)


def smooth(rng: np.random.Generator, frames: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images that a video codec can keep nearly as they are: gradients that move, (N, H, W, 3)."""
    h, w, _ = shape
    phase = rng.uniform(0, 6, 3)
    v, u = np.mgrid[0:h, 0:w] / 40.0
    t = np.arange(frames)[:, None, None, None] * 0.1
    image: np.ndarray[Any, Any] = 128 + 80 * np.sin(u[None, :, :, None] + v[None, :, :, None] + phase + t)
    return np.asarray(image, dtype=np.uint8)


def episode(number: int, frames: int = 12, *, noisy: bool = True, **changes: Any) -> Episode:
    """An episode of :data:`SPEC`; its images are noise, or smooth for a codec."""
    rng = np.random.default_rng(number)

    def pictures(shape: tuple[int, ...]) -> ImageColumn:
        noise = rng.integers(0, 256, (frames, *shape)).astype(np.uint8)
        return ArrayImages(noise if noisy else smooth(rng, frames, shape))

    values: dict[str, Any] = {
        "source": f"made {number}",
        "instruction": ("put the mug on the shelf", "wipe the table")[number % 2],
        "columns": {
            "observation.state": rng.normal(size=(frames, 8)).astype(np.float32),
            "action": rng.normal(size=(frames, 7)).astype(np.float32),
            "next.done": (np.arange(frames) == frames - 1)[:, None],
            "cloud": rng.normal(size=(frames, 5, 3)).astype(np.float32),
            "count": rng.integers(-5, 2**40, (frames, 1)),
        },
        "images": {FRONT: pictures((32, 48, 3)), WRIST: pictures((24, 32, 3))},
        "subtasks": ("pick it up",) * (frames // 2) + ("",) + ("put it down",) * (frames - frames // 2 - 1),
        "language": (
            Utterance(0.0, "1. pick it up\n2. put it down", "plan"),
            Utterance(0.0, "pick it up", "subtask"),
            Utterance(0.2, "Where is it?", "vqa", "user", FRONT),
            Utterance(0.2, '{"point": [1, 2]}', "vqa", "assistant", FRONT),
        ),
        "fps": FPS,
        "success": bool(number % 2),
        "facts": {"seed": number},
        **changes,
    }
    return Episode(**values)


def same(a: Episode, b: Episode, *, images: bool = True) -> None:
    """Assert that two episodes are the same, bit for bit."""
    assert set(a.columns) == set(b.columns)
    for name, column in a.columns.items():
        other = b.columns[name]
        assert column.dtype == other.dtype and column.shape == other.shape, name
        assert column.tobytes() == other.tobytes(), name
    assert set(a.images) == set(b.images)
    for name in a.images if images else ():
        for one, two in zip(a.images[name], b.images[name], strict=True):
            assert np.array_equal(one, two)
    for field in ("source", "instruction", "subtasks", "fps", "success"):
        assert getattr(a, field) == getattr(b, field), field
    assert dict(a.facts) == dict(b.facts)
    assert len(a.language) == len(b.language)
    for said, read in zip(a.language, b.language, strict=True):
        # Time stamps of the format are float32.
        assert abs(said.time_s - read.time_s) < 1e-6
        assert replace(said, time_s=0.0) == replace(read, time_s=0.0)
