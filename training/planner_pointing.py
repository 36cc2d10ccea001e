"""Train the pointing head on rendered scenes: `python -m hiervla.training.planner_pointing`.

Tower and language model stay as they are. Half of the questions come without the language model's state, the
others from plans of tasks that fit the scene, so that the head works with both.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from hiervla.planner.embedded.pointing import PointingHead, PointRequest, make_batch, peak_of
from hiervla.planner.embedded.vision import Slot, VisionConfig, VisionOutput, VisionTower, decode_slots, to_tensor
from hiervla.training.planner_vision import augment, match
from hiervla.training.point_targets import Question, point_problem, questions, target_map
from hiervla.training.render_scenes import RenderedScene, load_shard

QUESTIONS = 10
_WEIGHT = {"object": 0.8, "on": 1.2, "in": 1.2, "at": 2.0, "left_of": 2.0, "right_of": 2.0}


def load_tower(path: Path) -> VisionTower:
    """A frozen tower."""
    tower = VisionTower(VisionConfig())
    tower.load_state_dict(load_file(path))
    tower.requires_grad_(False)
    return tower.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def asked_of(
    scene: RenderedScene, slots: Sequence[Slot], rng: np.random.Generator | None, most: int = QUESTIONS
) -> list[tuple[Question, PointRequest]]:
    """Questions about things that the tower found, as requests; all of them without `rng`."""
    found = {k: i for i, k in match(slots, scene.things)}
    index = {t.id: k for k, t in enumerate(scene.things)}
    pairs = []
    for q in questions(scene):
        if q.thing is None:
            pairs.append((q, PointRequest(q.role, None, "target")))
        elif index[q.thing.id] in found:
            pairs.append((q, PointRequest(q.role, found[index[q.thing.id]], "object")))
    if rng is None:
        return pairs
    weights = np.array([_WEIGHT[q.role] for q, _ in pairs])
    chosen = rng.choice(len(pairs), min(most, len(pairs)), replace=False, p=weights / weights.sum())
    return [pairs[int(k)] for k in chosen]


def point_loss(logits: Tensor, maps: NDArray[np.float32]) -> Tensor:
    """Cross entropy (N,) between target maps (N, h, w) and attention logits (N, h*w), less the targets' entropy."""
    target = torch.from_numpy(maps).flatten(1)
    entropy = -(target * target.clamp(min=1e-9).log()).sum(1)
    return -(target * logits.log_softmax(1)).sum(1) - entropy


@torch.no_grad()
def evaluate(tower: VisionTower, head: PointingHead, scenes: Sequence[RenderedScene], hidden: int) -> dict[str, float]:
    """Share of right keypoints by role and category, on scenes that were not trained on."""
    hits: dict[str, list[bool]] = defaultdict(list)
    head.eval()
    width, height = tower.config.width, tower.config.height
    for start in range(0, len(scenes), 8):
        part = scenes[start : start + 8]
        seen = tower(to_tensor([s.rgb for s in part]))
        rows: list[tuple[int, PointRequest, Any, Tensor | None]] = []
        asked: list[tuple[RenderedScene, Question]] = []
        for b, (scene, slots) in enumerate(zip(part, decode_slots(tower, seen), strict=True)):
            for q, request in asked_of(scene, slots, None):
                if target_map(scene, q) is not None:
                    rows.append((b, request, slots, None))
                    asked.append((scene, q))
        maps = head(seen, make_batch(rows, width, height, hidden)).softmax(1).view(-1, *head.grid)
        points, _ = peak_of(maps)
        for (scene, q), (u, v) in zip(asked, points.tolist(), strict=True):
            right = not point_problem(scene, q, u, v)
            kind = q.thing.category if q.thing is not None else "table"
            hits["all"].append(right)
            hits[q.role if q.role in ("left_of", "right_of") else f"{q.role} {kind}"].append(right)
    head.train()
    return {k: round(float(np.mean(v)), 4) for k, v in sorted(hits.items())}


def train_pointing(
    scenes: Path,
    held_out: Path,
    vision: Path,
    out: Path,
    minutes: float = 12.0,
    hidden: int = 160,
    batch: int = 12,
    peak_rate: float = 2e-3,
    seed: int = 0,
    resume: Path | None = None,
    max_shards: int | None = None,
    language: Path | None = None,
) -> dict[str, Any]:
    """Train the head for a time.

    Args:
        scenes: folder with shards.
        held_out: folder with shards of other seeds.
        vision: the tower's `vision.safetensors`.
        out: where `pointing.safetensors` and `scores.json` go.
        minutes: budget of wall-clock time.
        hidden: width of the language model.
        batch: images a step.
        peak_rate: highest learning rate.
        seed: of weights and order.
        resume: a `pointing.safetensors` to start from.
        max_shards: use only so many shards.
        language: folder of the language model; without it all questions come without its state.

    Returns:
        The scores on the held-out scenes.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tower = load_tower(vision)
    config = tower.config
    head = PointingHead(config.out, hidden, config.grid)
    if resume is not None:
        head.load_state_dict(load_file(resume))
    speaker = None
    if language is not None:
        from hiervla.training.point_language import Speaker

        speaker = Speaker(language, seed)
    pool = [s for p in sorted(scenes.glob("shard_*.npz"))[:max_shards] if ".tmp" not in p.name for s in load_shard(p)]
    test = [s for p in sorted(held_out.glob("shard_*.npz")) for s in load_shard(p)]
    optimiser = torch.optim.AdamW(head.parameters(), lr=peak_rate, weight_decay=0.01)
    out.mkdir(parents=True, exist_ok=True)
    began = last_report = last_check = time.monotonic()
    running, step = 4.0, 0
    queue: list[int] = []
    while (spent := (time.monotonic() - began) / 60.0) < minutes:
        if len(queue) < batch:
            queue = rng.permutation(len(pool)).tolist()
        part = [pool[queue.pop()] for _ in range(batch)]
        rate = peak_rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent / minutes)) + 1e-5
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            seen: VisionOutput = tower(augment(to_tensor([s.rgb for s in part]), generator))
            found = decode_slots(tower, seen)
        rows: list[tuple[int, PointRequest, Any, Tensor | None]] = []
        maps = []
        for b, (scene, slots) in enumerate(zip(part, found, strict=True)):
            asked: list[tuple[Question, PointRequest, Tensor | None]] = []
            if speaker is not None and rng.random() < 0.7:
                asked = speaker.ask(scene, slots)
            asked += [(q, r, None) for q, r in asked_of(scene, slots, rng, QUESTIONS - len(asked) // 2)]
            for q, request, state in asked:
                wanted = target_map(scene, q)
                if wanted is not None:
                    rows.append((b, request, slots, state))
                    maps.append(wanted)
        logits = head(seen, make_batch(rows, config.width, config.height, hidden))
        loss = point_loss(logits, np.stack(maps)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters(), 2.0)
        optimiser.step()
        step += 1
        running = 0.97 * running + 0.03 * float(loss.detach())
        now = time.monotonic()
        if now - last_report > 30.0:
            last_report = now
            print(f"{spent:5.1f} min step {step} {step * batch / (now - began):.1f}/s loss {running:.3f}", flush=True)
        if now - last_check > 180.0:
            last_check = now
            print(f"{spent:5.1f} min held out: {json.dumps(evaluate(tower, head, test[:100], hidden))}", flush=True)
            save_file({k: v.contiguous() for k, v in head.state_dict().items()}, out / "pointing.safetensors")
    save_file({k: v.contiguous() for k, v in head.state_dict().items()}, out / "pointing.safetensors")
    scores: dict[str, Any] = dict(evaluate(tower, head, test, hidden))
    scores |= {"steps": step, "images": step * batch, "minutes": minutes, "seed": seed}
    (out / "scores.json").write_text(json.dumps(scores, indent=1))
    print(f"final: {json.dumps(scores)}", flush=True)
    return scores


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, default=Path(".work/planner_scenes"))
    parser.add_argument("--held-out", type=Path, default=Path(".work/planner_scenes_val"))
    parser.add_argument("--vision", type=Path, default=Path(".work/planner_vision/vision.safetensors"))
    parser.add_argument("--language", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(".work/planner_pointing"))
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--hidden", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None)
    parser.add_argument("--max-shards", type=int, default=None)
    options = parser.parse_args()
    train_pointing(
        options.scenes, options.held_out, options.vision, options.out, options.minutes, options.hidden,
        seed=options.seed, resume=options.resume, max_shards=options.max_shards, language=options.language,
    )  # fmt: skip
