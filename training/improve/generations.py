"""Generation after generation: collect, label, value, advantages, learn, measure. What is made is not made again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from hiervla.executor.policies.chunks import ChunkPolicy, read_config
from hiervla.executor.policies.families import load_policy
from hiervla.executor.policies.flow import FlowPolicy
from hiervla.training.augment import into_frames
from hiervla.training.demos import DemoSet, load_demos
from hiervla.training.improve.advantages import AdvantageSpec, advantages
from hiervla.training.improve.card import write_card
from hiervla.training.improve.experience import SUFFIX, Experience, ExperienceError, Trail, gather, merged, read, write
from hiervla.training.improve.learning import learn, lessons
from hiervla.training.improve.measuring import Comparison, Scores, compare, measure
from hiervla.training.improve.records import Told, read_runs
from hiervla.training.improve.rollouts import Exploration
from hiervla.training.improve.situations import Situation, require_folder
from hiervla.training.improve.value import ValueSpec, load_value, save_value, train_value
from hiervla.training.pool import DIED, WorkerError, Workers
from hiervla.training.trainer import TrainSpec, torch_device

Tell = Callable[[str], None]

TRAIN = TrainSpec(steps=2000, lr=4e-4, ema=0.995, freeze_encoder=True, copies=6)
"""The encoder stays as it is: minutes instead of a quarter of an hour, and little is forgotten."""
_SHARD = 20
"""Rollouts in a file: what an interruption costs at most."""
_MOST_SKIPPED = 4


@dataclass(frozen=True)
class ImproveSpec:
    """What is improved, from what, and how.

    Attributes:
        situation: where rollouts are made and generations are measured.
        rollouts: of each generation.
        trials: held-out scenes that each generation is measured in.
        first_seed: of these.
        exploration: of the rollouts.
        noise: spread of the flow's initial noise in rollouts; what is measured has the weights' own.
        value: how the value function is trained.
        advantage: what counts as a good example.
        train: how a generation is trained.
        share: of the examples drawn that are experience, where there are demonstrations as well.
        untold: share of the examples in which the policy is not told how good they are.
        seed: of everything random.
    """

    situation: Situation
    rollouts: int = 120
    trials: int = 60
    first_seed: int = 1000
    exploration: Exploration = field(default_factory=Exploration)
    noise: float = 1.0
    value: ValueSpec = field(default_factory=ValueSpec)
    advantage: AdvantageSpec = field(default_factory=AdvantageSpec)
    train: TrainSpec = TRAIN
    share: float = 0.5
    untold: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """One generation.

    Attributes:
        number: 0 for the weights that it began with.
        folder: of its weights.
        digest: of these: SHA-256 of `model.safetensors`.
        scores: its trials.
        against_last: compared with the generation before; None for the first.
        against_first: compared with generation 0; None for that.
    """

    number: int
    folder: Path
    digest: str
    scores: Scores
    against_last: Comparison | None = None
    against_first: Comparison | None = None


def improve(
    spec: ImproveSpec,
    out: Path,
    weights: Path,
    *,
    generations: int = 1,
    runs: tuple[Path, ...] = (),
    demos: tuple[Path, ...] = (),
    command: str = "",
    tell: Tell = print,
    workers: int = 1,
    device: str = "cpu",
) -> Iterator[Generation]:
    """Make generations, each from the last one's weights, and measure them; goes on where it was interrupted.

    Args:
        spec: what and how.
        out: folder of everything: `gen-0` holds the scores of what it began with, `gen-K/weights` each generation.
        weights: what it begins with: a flow policy.
        generations: how many.
        runs: run records, or folders of them, that are experience as well.
        demos: demonstrations of all skills, so that none is forgotten.
        command: what was typed, for the card.
        tell: hears of progress.
        workers: processes that make rollouts and measure; what comes out is the same, however many there are.
        device: torch device of the trainings; whatever acts does so on the CPU.

    Raises:
        WeightsFolderError: there are no weights.
        CheckpointError: they cannot be read, or are no flow policy.
        ExperienceError: `out` belongs to another improvement, or there is nothing to learn from.
        DemoError: demonstrations cannot be read.
        DatasetError: a folder holds no run record.
        TrainingError: there is no such device.
        WorkerError: a process died.
    """
    torch.set_num_threads(1)
    torch_device(device)
    FlowPolicy.load(require_folder(weights))
    _claim(out, spec, weights, runs, demos)
    told, recorded = _recorded(runs, out, weights, tell)
    experts = _experts(demos, tell)
    first = last = Generation(0, weights, digest(weights), _measure(spec, weights, out / "gen-0", None, tell, workers))
    yield first
    for number in range(1, generations + 1):
        folder = out / f"gen-{number}"
        made = folder / "weights"
        if not (made / "config.json").exists():
            experience = _experience(spec, number, last.folder, out, recorded, tell, workers)
            _learn(spec, last, folder, experience, experts, command, told, tell, device)
        scores = _measure(spec, made, folder, list(first.scores.results), tell, workers)
        last = Generation(
            number, made, digest(made), scores, compare(last.scores, scores), compare(first.scores, scores)
        )
        assert last.against_last is not None and last.against_first is not None, "a later generation is compared"
        write_card(made, str(spec.situation), scores, last.against_last, last.against_first)
        yield last


def digest(weights: Path) -> str:
    """SHA-256 of a folder's `model.safetensors`."""
    return hashlib.sha256((weights / "model.safetensors").read_bytes()).hexdigest()


def _claim(out: Path, spec: ImproveSpec, weights: Path, runs: tuple[Path, ...], demos: tuple[Path, ...]) -> None:
    """See that what is in `out` came of the same settings."""
    identity = {
        "spec": asdict(spec), "parent": digest(weights), "runs": sorted(map(str, runs)),
        "demos": sorted(map(str, demos)),
    }  # fmt: skip
    file, plain = out / "settings.json", json.loads(json.dumps(identity))
    if file.exists():
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ExperienceError(file, f"cannot be read ({error})", "Delete the folder, or name another") from error
        if found != plain:
            names = ", ".join(sorted(k for k in plain if found.get(k) != plain[k]))
            problem = f"belongs to an improvement with another {names}"
            raise ExperienceError(out, problem, "Name another folder with --out, or repeat the settings of before")
        return
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plain, indent=1) + "\n")


def _recorded(runs: tuple[Path, ...], out: Path, weights: Path, tell: Tell) -> tuple[Told, Experience | None]:
    if not runs:
        return Told(), None
    file = out / f"runs{SUFFIX}"
    if file.exists():
        experience, header = read(file)
        return Told.from_json(header["told"]), experience
    policy = load_policy(weights)
    told, trails = read_runs(runs, policy.features, policy.network.spec)
    for line in told.lines():
        tell(line)
    if not any(trail.moments for trail in trails):
        return told, None
    experience = gather(trails, policy.features)
    write(experience, file, {"origin": "runs", "told": told.to_json()})
    return told, experience


def _experts(demos: tuple[Path, ...], tell: Tell) -> DemoSet | None:
    if not demos:
        tell("no demonstrations: skills that the experience does not show may be forgotten; give --demos for these")
        return None
    experts = load_demos(demos)
    into_frames(experts)
    return experts


def _measure(
    spec: ImproveSpec, weights: Path, folder: Path, like: list[int] | None, tell: Tell, workers: int
) -> Scores:
    return measure(
        spec.situation, weights, digest(weights), spec.trials, spec.first_seed, folder / "scores.json", tell, like,
        workers,
    )  # fmt: skip


def _experience(
    spec: ImproveSpec, number: int, last: Path, out: Path, recorded: Experience | None, tell: Tell, workers: int
) -> Experience:
    """All that is known by this generation: the runs, and the rollouts of all generations before it."""
    parts = [recorded] if recorded is not None else []
    for earlier in range(1, number + 1):
        folder = out / f"gen-{earlier}" / "experience"
        if earlier == number:
            collect(spec, number, last, folder, tell, workers)
        parts += [read(file)[0] for file in sorted(folder.glob(f"*{SUFFIX}"))]
    if not parts:
        raise ExperienceError(out, "has none", "Give --rollouts, or runs with --from")
    return merged(parts)


def collect(spec: ImproveSpec, number: int, weights: Path, folder: Path, tell: Tell, workers: int = 1) -> None:
    """Rollouts of a generation's parent into files of :data:`_SHARD`; those that are there are kept.

    Raises:
        ExperienceError: hardly any scene has anything to try.
        WorkerError: a process died.
    """
    # Every generation sees scenes of its own.
    seed, done, tried = 10_000 * number + 1_000_000 * spec.seed, 0, 0
    while done < spec.rollouts and (file := _shard(folder, done)).exists():
        header = read(file)[1]
        seed, done, tried = header["next_seed"], done + header["trails"], header["tried"]
    if done >= spec.rollouts:
        return
    policy, trails = load_policy(weights), list[Trail]()
    scenes = islice(count(seed), _MOST_SKIPPED * spec.rollouts - tried)
    with Workers(partial(_rolls_out, spec, weights), workers, partial(_lost, spec.situation)) as pool:
        for seed, trail in pool.until(scenes, spec.rollouts - done):
            tried += 1
            if trail is not None:
                trails.append(trail)
            if len(trails) < min(_SHARD, spec.rollouts - done):
                continue
            own = sum(t.success and not any(m.human for m in t.moments) for t in trails)
            helped = sum(any(m.human for m in t.moments) for t in trails)
            header = {
                "origin": "rollouts", "policy": policy.id, "weights": digest(weights),
                "situation": str(spec.situation), "trails": len(trails), "tried": tried, "next_seed": seed + 1,
                "own_successes": own, "expert_takeovers": helped,
            }  # fmt: skip
            write(gather(trails, policy.features), _shard(folder, done), header)
            done += len(trails)
            tell(
                f"rollouts: {done} of {spec.rollouts}; of these {len(trails)}, {own} succeeded alone, "
                f"{helped} with help"
            )
            trails = []
    if done < spec.rollouts:
        problem = f"{done + len(trails)} of {spec.rollouts} rollouts could be made in {tried} scenes"
        raise ExperienceError(str(spec.situation), problem, "Try another situation")


def _shard(folder: Path, done: int) -> Path:
    """The file that begins after so many rollouts."""
    return folder / f"rollouts-{done // _SHARD:03d}{SUFFIX}"


def _rolls_out(spec: ImproveSpec, weights: Path) -> Callable[[int], Trail | None]:
    """What makes the rollout of a seed; None where there is nothing to try, or nothing was seen of it."""
    policy = load_policy(weights)
    if isinstance(policy, FlowPolicy):
        policy.noise = spec.noise

    def roll(seed: int) -> Trail | None:
        trail = spec.situation.roll_out(seed, policy, spec.exploration, policy.features)
        return trail if trail is not None and trail.moments else None

    return roll


def _lost(situation: Situation, seed: int) -> WorkerError:
    remedy = "Give the same command again to go on, with fewer --workers if memory is short"
    return WorkerError(DIED, remedy, str(situation), seed, doing="making rollouts")


def _learn(
    spec: ImproveSpec,
    last: Generation,
    folder: Path,
    experience: Experience,
    experts: DemoSet | None,
    command: str,
    told: Told,
    tell: Tell,
    device: str,
) -> None:
    parent = load_policy(last.folder)
    framed = experience.framed()
    if not (folder / "value" / "value.json").exists():
        value, found = train_value(parent.network, framed, spec.value, spec.train.points, device)
        save_value(value, folder / "value", {"metrics": found, "parent": last.digest})
    value, facts = load_value(folder / "value")
    tell("value: " + ", ".join(f"{k} {v:g}" for k, v in facts["metrics"].items()))
    judged = advantages(parent.network, value, framed, spec.advantage)
    counts = judged.counts()
    tell("advantages: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    data = lessons(experts, framed, judged.told, spec.share)
    version = next_version(last.folder)
    policy, metrics = learn(
        data, spec.train, last.folder, folder / "work", version, tell, untold=spec.untold, device=device
    )
    lineage: dict[str, Any] = {
        "method": "RECAP, arXiv 2511.14759",
        "generation": folder.name,
        "parent": {"version": parent.id, "sha256": last.digest},
        "command": command,
        "situation": str(spec.situation),
        "experience": experience.counts(),
        "expert_demonstrations": 0 if experts is None else len(experts),
        "runs": told.to_json(),
        "value": facts["metrics"],
        "advantages": {**counts, "thresholds": judged.thresholds},
        "settings": {k: v for k, v in asdict(spec).items() if k != "situation"},
        "validation": metrics,
    }
    _save(policy, folder / "weights", lineage, read_config(last.folder))


def _save(policy: ChunkPolicy[Any], folder: Path, lineage: dict[str, Any], parent: dict[str, Any]) -> None:
    """The weights beside, then under their name: what is there is whole. Ancestors stay in the lineage."""
    partial = folder.with_name("weights.partial")
    past = parent.get("improved", [])
    policy.save(partial, training=parent.get("training", {}), improved=[*past, lineage])
    partial.replace(folder)


def next_version(weights: Path) -> str:
    """``flow-1-g1`` after ``flow-1``, ``flow-1-g2`` after that."""
    version = str(read_config(weights)["version"])
    found = re.fullmatch(r"(.*)-g(\d+)", version)
    return f"{found[1]}-g{int(found[2]) + 1}" if found else f"{version}-g1"


__all__ = ["Generation", "ImproveSpec", "Tell", "collect", "digest", "improve", "next_version"]
