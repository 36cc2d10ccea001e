"""Train the planner's eyes on rendered scenes: `python -m hiervla.training.planner_vision`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES
from hiervla.planner.embedded.vision import (
    SPOTS,
    STRIDE,
    Slot,
    VisionConfig,
    VisionOutput,
    VisionTower,
    decode_slots,
    to_tensor,
)
from hiervla.training.render_scenes import FIXTURES, RenderedScene, Thing, load_shard
from hiervla.training.spots import spot_maps


@dataclass(frozen=True)
class Example:
    """One picture with dense targets.

    Attributes:
        scene: the labelled picture.
        labels: (n, 9) float32: indices of category, colour and state; u and v [cells]; logarithms of the distances
            from the centre to the box's left, top, right and bottom edge [cells].
        shown: (h, w) uint8 category + 1 shown at each cell's centre, 0 for none.
        spots: (4, h, w) float16 distributions of free room.
    """

    scene: RenderedScene
    labels: NDArray[np.float32]
    shown: NDArray[np.uint8]
    spots: NDArray[np.float16]


def make_example(scene: RenderedScene) -> Example:
    """Turn labels into the targets of the heads."""
    rows = []
    table = np.zeros(256, dtype=np.uint8)
    for t in scene.things:
        kind = CATEGORIES.index(t.category)
        table[t.pixel] = kind + 1
        reach = np.array([t.u - t.box[0], t.v - t.box[1], t.box[2] - t.u, t.box[3] - t.v]) / STRIDE
        logs = np.log(np.maximum(reach, 0.1)).tolist()
        rows.append([kind, COLOURS.index(t.colour), STATES.index(t.state), t.u / STRIDE, t.v / STRIDE, *logs])
    labels = np.array(rows, dtype=np.float32).reshape(-1, 9)
    shown = table[scene.segments[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]]
    pixels = {t.id: t.pixel for t in scene.things}
    spots = spot_maps(scene.spec, scene.K, scene.T_world_camera, scene.segments, pixels)
    return Example(scene, labels, shown, spots.astype(np.float16))


class SceneStore:
    """All shards of a folder in memory; `refresh` takes in what the renderer has added since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.examples: list[Example] = []
        self._seen: set[str] = set()

    def refresh(self, limit: int | None = None) -> int:
        """Load new shards, at most `limit` of them; returns the number of examples."""
        whole = [p for p in sorted(self.folder.glob("shard_*.npz")) if ".tmp" not in p.name]
        fresh = [p for p in whole if p.name not in self._seen]
        for path in fresh[:limit]:
            self._seen.add(path.name)
            self.examples += [make_example(s) for s in load_shard(path)]
        return len(self.examples)


def difficulty(scene: RenderedScene) -> int:
    """How often a picture is shown in a round: more often when a thing lies on another of its own colour."""
    spec = scene.spec
    ids = {o.id: o for o in spec.objects}
    alike = any(o.support in ids and ids[o.support].colour == o.colour for o in spec.objects)
    return 4 if alike else 1


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Other light and another sensor; colours keep their names, and left stays left."""
    n = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand((n, channels, 1, 1), generator=rng)

    mean = images.mean(dim=(2, 3), keepdim=True)
    images = (images - mean) * draw(0.85, 1.15) + mean
    images = images * draw(0.85, 1.15) * draw(0.94, 1.06, 3)
    noise = torch.randn(images.shape, generator=rng) * draw(0.0, 0.015)
    return (images + noise).clamp_(0.0, 1.0)


def heat_targets(labels: Sequence[NDArray[np.float32]], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Centre heatmaps (B, 11, h, w): 1 in the cell of each centre, a Gaussian around it."""
    h, w = grid
    heat = np.zeros((len(labels), len(CATEGORIES), h, w), dtype=np.float32)
    for b, rows in enumerate(labels):
        for row in rows:
            kind, u, v = int(row[0]), float(row[3]), float(row[4])
            extent = math.exp(float(min(row[5] + row[7], row[6] + row[8])) / 2)
            sigma = min(max(0.30 * extent, 0.6), 1.4)
            j, i = min(int(u), w - 1), min(int(v), h - 1)
            i0, i1, j0, j1 = max(i - 4, 0), min(i + 5, h), max(j - 4, 0), min(j + 5, w)
            dv = np.arange(i0, i1) + 0.5 - v
            du = np.arange(j0, j1) + 0.5 - u
            bump = np.exp(-(dv[:, None] ** 2 + du[None] ** 2) / (2 * sigma**2))
            window = heat[b, kind, i0:i1, j0:j1]
            np.maximum(window, bump, out=window)
            heat[b, kind, i, j] = 1.0
    return heat


def vision_loss(
    tower: VisionTower, output: VisionOutput, examples: Sequence[Example], rng: torch.Generator
) -> dict[str, Tensor]:
    """All loss terms, already weighted; their sum is the loss."""
    grid = tower.config.grid
    labels = [e.labels for e in examples]
    heat = torch.from_numpy(heat_targets(labels, grid))
    flat = torch.from_numpy(np.concatenate(labels))
    batch = torch.from_numpy(np.repeat(np.arange(len(labels)), [len(x) for x in labels]))
    n = max(len(flat), 1)
    log_p, log_q = F.logsigmoid(output.centres), F.logsigmoid(-output.centres)
    p = log_p.exp()
    hit = heat == 1.0
    focal = -torch.where(hit, (1 - p) ** 2 * log_p, (1 - heat) ** 4 * p**2 * log_q).sum() / n
    kind, colour, state = flat[:, :3].long().unbind(1)
    centre = flat[:, 3:5]
    column = centre[:, 0].long().clamp(max=grid[1] - 1)
    row = centre[:, 1].long().clamp(max=grid[0] - 1)
    offset = output.offsets[batch, :, row, column]
    offset_loss = (offset - (centre - torch.stack([column, row], 1))).abs().mean()
    # Peaks are a little off, so attributes are read a little off as well.
    shaken = centre + 0.25 * torch.randn(centre.shape, generator=rng)
    colours, states, size = tower.attributes(output.features, batch, shaken, kind)
    shown = torch.from_numpy(np.stack([e.shown for e in examples])).long()
    weight = torch.ones(len(CATEGORIES) + 1)
    weight[0] = 0.3
    spots = torch.from_numpy(np.stack([e.spots for e in examples])).float().flatten(2)
    defined = spots.sum(2) > 0.5
    spot_loss = -(spots * output.spots.flatten(2).log_softmax(2)).sum(2)[defined].mean()
    return {
        "heat": focal,
        "offset": 1.0 * offset_loss,
        "colour": 0.7 * F.cross_entropy(colours, colour),
        "state": 0.7 * F.cross_entropy(states, state),
        "size": 0.3 * (size - flat[:, 5:]).abs().mean(),
        "segments": 0.4 * F.cross_entropy(output.segments, shown, weight=weight),
        "spots": 0.08 * spot_loss,
    }


def match(slots: Sequence[Slot], things: Sequence[Thing]) -> list[tuple[int, int]]:
    """Pairs (slot, thing) of the same category whose centres are near, the nearest first."""
    pairs = []
    for i, s in enumerate(slots):
        for k, t in enumerate(things):
            distance = float(np.hypot(s.u - t.u, s.v - t.v))
            reach = 12.0 if t.category in FIXTURES else 7.0
            if s.category_name == t.category and distance < reach:
                pairs.append((distance, i, k))
    used: list[tuple[int, int]] = []
    for _, i, k in sorted(pairs):
        if all(i != a and k != b for a, b in used):
            used.append((i, k))
    return used


@torch.no_grad()
def evaluate(tower: VisionTower, examples: Sequence[Example], threshold: float = 0.3) -> dict[str, Any]:
    """Precision and recall of slots, their attributes, and whole scenes, on pictures that were not trained on."""
    was_training = tower.training
    tower.eval()
    found = wanted = seen = colour = state = right = perfect = 0
    spot_hits: dict[str, list[bool]] = {name: [] for name in SPOTS}
    errors: list[float] = []
    mistakes: dict[str, int] = {}
    for start in range(0, len(examples), 10):
        part = examples[start : start + 10]
        output = tower(to_tensor([e.scene.rgb for e in part]))
        for b, (e, slots) in enumerate(zip(part, decode_slots(tower, output, threshold), strict=True)):
            things = e.scene.things
            pairs = match(slots, things)
            good = 0
            for i, k in pairs:
                s, t = slots[i], things[k]
                errors.append(float(np.hypot(s.u - t.u, s.v - t.v)))
                colour += s.colour_name == t.colour
                state += s.state_name == t.state
                good += s.colour_name == t.colour and s.state_name == t.state
                if s.colour_name != t.colour:
                    key = f"{t.colour}->{s.colour_name} {t.category}"
                    mistakes[key] = mistakes.get(key, 0) + 1
                if s.state_name != t.state:
                    key = f"{t.state}->{s.state_name} {t.category}"
                    mistakes[key] = mistakes.get(key, 0) + 1
            for k in set(range(len(things))) - {k for _, k in pairs}:
                key = f"missed {things[k].category} {things[k].state}"
                mistakes[key] = mistakes.get(key, 0) + 1
            for i in set(range(len(slots))) - {i for i, _ in pairs}:
                key = f"invented {slots[i].category_name} {slots[i].state_name}"
                mistakes[key] = mistakes.get(key, 0) + 1
            found, wanted, seen, right = found + len(pairs), wanted + len(things), seen + len(slots), right + good
            perfect += good == len(things) == len(slots)
            for k, name in enumerate(SPOTS):
                target = e.spots[k].astype(np.float32)
                if target.sum() > 0.5:
                    best = int(output.spots[b, k].argmax())
                    near = F.max_pool2d(torch.from_numpy(target)[None], 3, 1, 1).flatten()
                    spot_hits[name].append(float(near[best]) > 0.2 * float(target.max()))
    tower.train(was_training)
    return {
        "recall": found / max(wanted, 1),
        "precision": found / max(seen, 1),
        "colour": colour / max(found, 1),
        "state": state / max(found, 1),
        "fully_right": right / max(wanted, 1),
        "perfect_scenes": perfect / max(len(examples), 1),
        "median_error_px": float(np.median(errors)) if errors else float("nan"),
        "spots": {k: round(float(np.mean(v)), 3) if v else None for k, v in spot_hits.items()},
        "mistakes": dict(sorted(mistakes.items(), key=lambda m: -m[1])[:14]),
    }


def train_vision(
    scenes: Path,
    held_out: Path,
    out: Path,
    minutes: float = 40.0,
    batch: int = 16,
    peak_rate: float = 2.5e-3,
    seed: int = 0,
    resume: Path | None = None,
    min_scenes: int = 4000,
) -> dict[str, Any]:
    """Train a tower for a time; the learning rate follows that time, not a number of steps.

    Args:
        scenes: folder with shards; may grow while training runs.
        held_out: folder with shards of other seeds.
        out: where `vision.safetensors`, `vision.json` and `scores.json` go.
        minutes: budget of wall-clock time.
        batch: images a step.
        peak_rate: highest learning rate.
        seed: of weights, order and augmentation.
        resume: a `vision.safetensors` to start from.
        min_scenes: wait until so many scenes are rendered.

    Returns:
        The scores on the held-out scenes.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    order, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tower = VisionTower(VisionConfig())
    if resume is not None:
        tower.load_state_dict(load_file(resume))
    tower = tower.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    store, test = SceneStore(scenes), SceneStore(held_out)
    test.refresh()
    while store.refresh() < min_scenes:
        time.sleep(5.0)
    average = torch.optim.swa_utils.AveragedModel(
        tower, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    decay = [p for p in tower.parameters() if p.ndim > 1]
    plain = [p for p in tower.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}], lr=peak_rate
    )
    out.mkdir(parents=True, exist_ok=True)
    began = last_report = last_save = time.monotonic()
    running: dict[str, float] = {}
    step = 0
    queue: list[int] = []
    while (spent := (time.monotonic() - began) / 60.0) < minutes:
        if len(queue) < batch:
            store.refresh(limit=2)
            repeats = [k for k, e in enumerate(store.examples) for _ in range(difficulty(e.scene))]
            queue = order.permutation(repeats).tolist()
        part = [store.examples[queue.pop()] for _ in range(batch)]
        share = spent / minutes
        rate = peak_rate * min(1.0, (step + 1) / 150) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-5
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = augment(to_tensor([e.scene.rgb for e in part]), generator)
        losses = vision_loss(tower, tower(images), part, generator)
        loss = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(tower)
        step += 1
        for name, value in losses.items():
            running[name] = 0.98 * running.get(name, float(value.detach())) + 0.02 * float(value.detach())
        now = time.monotonic()
        if now - last_report > 30.0:
            last_report = now
            terms = " ".join(f"{k} {v:.3f}" for k, v in running.items())
            speed = step * batch / (now - began)
            print(f"{spent:5.1f} min step {step} ({speed:.1f} images/s) rate {rate:.1e} {terms}", flush=True)
        if now - last_save > 240.0:
            last_save = now
            model = cast(VisionTower, average.module)
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "vision.safetensors")
            print(f"{spent:5.1f} min held out: {json.dumps(evaluate(model, test.examples[:150]))}", flush=True)
    model = cast(VisionTower, average.module)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "vision.safetensors")
    (out / "vision.json").write_text(json.dumps(tower.config.to_dict()))
    scores = evaluate(model, test.examples)
    scores |= {"steps": step, "images": step * batch, "minutes": minutes, "seed": seed, "scenes": len(store.examples)}
    (out / "scores.json").write_text(json.dumps(scores, indent=1))
    print(f"final: {json.dumps(scores)}", flush=True)
    return scores


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, default=Path(".work/planner_scenes"))
    parser.add_argument("--held-out", type=Path, default=Path(".work/planner_scenes_val"))
    parser.add_argument("--out", type=Path, default=Path(".work/planner_vision"))
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None)
    parser.add_argument("--min-scenes", type=int, default=4000)
    options = parser.parse_args()
    train_vision(
        options.scenes, options.held_out, options.out, options.minutes, peak_rate=options.rate, seed=options.seed,
        resume=options.resume, min_scenes=options.min_scenes,
    )  # fmt: skip
