"""The families of policies side by side: success, smoothness, latency, training, and whether they know the end.

Every trial is a scene of its own that training never drew (odd seeds), from a clean reset, in the executor's rhythm:
eight rows of a chunk are followed, and the next chunk is computed during the last two of them. All families see the
same scenes. Beside success by ground truth:

- jerk: root mean square of the third derivative of the commanded tool position;
- jump: distance between what the old and the new chunk want for the moment at which the new one takes over;
- done: at each chunk boundary, does the done-head (threshold 0.5, the skills' own) agree with ground truth? Precision
  is the share of its "done" that is true, recall the share of true ones that it reports;
- progress: mean absolute error of the progress head against the expert's estimate.

Variants run on the same scenes as their family: real-time chunking for flow, temporal ensembling for ACT, and a step
whose artifacts give no point.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, finish, positive, rate, wilson
from benchmarks.skills import Timed
from hiervla.controllers.kinematics import Kinematics
from hiervla.controllers.timing import TICK_S
from hiervla.executor.policies.base import SKILLS
from hiervla.executor.policies.families import FAMILIES, load_policy, shipped
from hiervla.representations import ActionChunk, Observation, Step
from hiervla.training.episodes import Boundary, Episode
from hiervla.training.pool import DIED, WorkerError, Workers
from hiervla.training.trials import run_trial

QUICK, FULL, OTHERS = 3, 200, 50
FIRST_SEED = 1
DELAY_S, THRESHOLD = 0.2, 0.5
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "flow+rtc": ("flow", {"inpaint": True}),
    "flow+no_point": ("flow", {"without_point": "hover"}),
    "act+ensembling": ("act", {"ensemble": 0.01}),
}


@dataclass
class Tally:
    """What the trials of one policy gave.

    Attributes:
        won: successes by skill.
        trials: trials by skill.
        jerks: mean square jerk of each trial [m^2/s^6].
        jumps: at each boundary but the first [m].
        said: (done_prob, truly done) at each boundary.
        progress: absolute errors of the progress head.
        wrong: what went wrong, with the seed.
    """

    won: dict[str, int] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)
    jerks: list[float] = field(default_factory=list)
    jumps: list[float] = field(default_factory=list)
    said: list[tuple[float, bool]] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, episode: Episode, arm: Kinematics) -> None:
        """Count one trial."""
        skill = episode.task.skill
        self.won[skill] = self.won.get(skill, 0) + episode.success
        self.trials[skill] = self.trials.get(skill, 0) + 1
        if len(episode.joints) > 4:
            self.jerks.append(mean_square_jerk(episode.joints, arm))
        for a, b in zip(episode.boundaries, episode.boundaries[1:], strict=False):
            gap = jump(a.chunk, b.chunk)
            if gap is not None:
                self.jumps.append(gap)
        for boundary in episode.boundaries:
            self._hear(boundary)

    def _hear(self, boundary: Boundary) -> None:
        chunk = boundary.chunk
        if chunk.done_prob is not None:
            self.said.append((chunk.done_prob, boundary.done))
        if chunk.progress is not None:
            self.progress.append(abs(chunk.progress - boundary.progress))

    def figures(self) -> dict[str, Any]:
        """The numbers, as they go into the line of JSON."""
        share = {s: self.won[s] / self.trials[s] for s in self.won}
        hits = sum(p > THRESHOLD and done for p, done in self.said)
        stops, ends = sum(p > THRESHOLD for p, _ in self.said), sum(done for _, done in self.said)
        out: dict[str, Any] = {
            "trials": max(self.trials.values()),
            "min_success": round(min(share.values()), 4),
            "mean_success": round(statistics.fmean(share.values()), 4),
            "success": {s: [round(v, 4), *_interval(self.won[s], self.trials[s])] for s, v in share.items()},
            "jerk_rms_m_s3": round(float(np.sqrt(np.mean(self.jerks))), 3) if self.jerks else None,
            "jump_mean_mm": round(1e3 * statistics.fmean(self.jumps), 2) if self.jumps else None,
            "jump_p95_mm": round(1e3 * float(np.quantile(self.jumps, 0.95)), 2) if self.jumps else None,
            "done_precision": [round(hits / stops, 4), *_interval(hits, stops)] if stops else None,
            "done_recall": [round(hits / ends, 4), *_interval(hits, ends)] if ends else None,
            "progress_error": round(statistics.fmean(self.progress), 4) if self.progress else None,
        }
        return out


def mean_square_jerk(joints: np.ndarray[Any, Any], arm: Kinematics) -> float:
    """Mean square of the third derivative of the tool's position, from joint references (T, 7) at every tick."""
    path = np.array([arm.forward(q)[:3, 3] for q in joints])
    jerk = np.diff(path, n=3, axis=0) / TICK_S**3
    return float((jerk**2).sum(axis=1).mean())


def jump(old: ActionChunk, new: ActionChunk, delay_s: float = DELAY_S) -> float | None:
    """Distance between what two chunks want for the moment at which the new one takes over [m]; None without one."""
    moment = new.observed_at_s + delay_s
    places = []
    for chunk in (old, new):
        due = chunk.observed_at_s + np.arange(1, chunk.horizon + 1) / chunk.rate_hz
        if not due[0] - 1e-6 <= moment <= due[-1] + 1e-6:
            return None
        places.append([float(np.interp(moment, due, column)) for column in chunk.positions.T])
    return float(np.linalg.norm(np.subtract(places[1], places[0])))


@dataclass
class Unpointed(Timed):
    """A policy that is never told where."""

    def reset(self, step: Step, seed: int) -> None:
        """See `Policy`."""
        super().reset(step.replace(artifacts=()), seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See `Policy`."""
        return super().act(observation, step.replace(artifacts=()))


Trial = tuple[str, int]
"""Skill and seed."""


@dataclass(frozen=True)
class Entrant:
    """A policy that is tried, as every process can load it.

    Attributes:
        folder: of its weights.
        options: of `load_policy`.
        pointed: whether it is told where.
    """

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    pointed: bool = True

    def load(self) -> Timed:
        """Its policy, with a stopwatch."""
        return (Timed if self.pointed else Unpointed)(load_policy(self.folder, **self.options))

    def trier(self) -> Callable[[Trial], Episode]:
        """What runs its trials, each alike in any process."""
        return partial(_try, self.load())


def _try(policy: Timed, trial: Trial) -> Episode:
    return run_trial(policy, *trial, judge=True, delay_s=DELAY_S)


def _lost(trial: Trial) -> WorkerError:
    return WorkerError(DIED, "Take fewer --workers if memory is short", *trial, doing="the trials", kept=False)


def measure(
    entrant: Entrant, skills: Sequence[str], trials: int, tell: Callable[[str], None], workers: int = 1
) -> tuple[Tally, Timed]:
    """Run `trials` held-out scenes of each skill in so many processes, which all come to the same.

    Returns:
        What the trials gave, and the policy, whose stopwatch knows those in this process: all or none.
    """
    tally, arm, policy = Tally(), Kinematics(), entrant.load()
    plan = [(skill, FIRST_SEED + 2 * i) for skill in skills for i in range(trials)]
    make = entrant.trier if workers > 1 else partial(partial, _try, policy)
    with Workers(make, workers, _lost) as pool:
        for (skill, seed), episode in pool.each(plan):
            tally.add(episode, arm)
            if not episode.success:
                tally.wrong.append(f"{skill} {seed}: {episode.reason}")
            end = "\n" if tally.trials[skill] == trials else ""
            tell(f"\r{policy.id} {skill}: {tally.won[skill]}/{tally.trials[skill]} {end}")
    return tally, policy


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print tables, then one line of JSON."""
    import torch

    parser = arguments(__doc__)
    parser.add_argument("--families", nargs="*", default=list(shipped()), choices=FAMILIES, help="default: what ships")
    parser.add_argument(
        "--weights", nargs="*", default=[], type=_folder, metavar="FAMILY=DIR", help="weights in place of the shipped"
    )
    parser.add_argument("--trials", type=int, default=None, help=f"per skill; default {QUICK}, or {FULL} and {OTHERS}")
    parser.add_argument("--skills", nargs="*", default=list(SKILLS), choices=SKILLS)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS, help="default: all")
    parser.add_argument("--workers", type=positive, default=1, help="processes for the trials; default 1")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tell = (lambda text: print(text, end="", file=sys.stderr, flush=True)) if sys.stderr.isatty() else (lambda _: None)
    folders = dict(args.weights)
    found: dict[str, Any] = {}
    chosen = list(dict.fromkeys([*args.families, *folders]))
    print(f"{'policy':18}{'success [95 % interval]':36}{'worst':>7}{'jerk':>7}{'jump':>7}{'p50':>8}{'train':>8}")
    for name in [*chosen, *(v for v in args.variants if VARIANTS[v][0] in chosen)]:
        family, options = VARIANTS.get(name, (name, {}))
        trials = args.trials or ((FULL if name == "flow" else OTHERS) if args.full else QUICK)
        entrant = Entrant(folders.get(family) or _shipped_folder(family), options, not name.endswith("no_point"))
        tally, policy = measure(entrant, args.skills, trials, tell, args.workers)
        if not policy.seconds:
            # Processes slow each other down: how long a chunk takes is found out when they have ended.
            for skill in args.skills:
                _try(policy, (skill, FIRST_SEED))
        found[name] = {
            "policy": policy.id,
            **tally.figures(),
            "chunk_p50_ms": round(statistics.median(policy.seconds) * 1e3, 2),
            "chunk_cpu_p50_ms": round(statistics.median(policy.cpu_seconds) * 1e3, 2),
            **_training(entrant.folder),
        }
        _row(name, found[name], tally)
    first = next(iter(found.values()))
    print("\n" + f"{'policy':18}{'done: precision':22}{'recall':22}{'progress error':>15}")
    for name, figures in found.items():
        cells = [_share(figures["done_precision"]), _share(figures["done_recall"])]
        print(f"{name:18}{cells[0]:22}{cells[1]:22}{figures['progress_error'] or float('nan'):15.3f}")
    finish({
        "benchmark": "policies",
        **{k: first[k] for k in ("policy", "trials", "min_success", "mean_success", "chunk_p50_ms")},
        "done_precision": first["done_precision"][0] if first["done_precision"] else None,
        "done_recall": first["done_recall"][0] if first["done_recall"] else None,
        **found,
    })  # fmt: skip


def _row(name: str, figures: dict[str, Any], tally: Tally) -> None:
    won, trials = sum(tally.won.values()), sum(tally.trials.values())
    train = f"{figures['train_minutes']:.0f} min" if figures.get("train_minutes") else "-"
    print(
        f"{name:18}{rate(won, trials):36}{figures['min_success']:7.2f}{figures['jerk_rms_m_s3'] or 0:7.1f}"
        f"{figures['jump_mean_mm'] or 0:7.1f}{figures['chunk_p50_ms']:8.1f}{train:>8}"
    )
    for skill, wins in tally.won.items():
        print(f"  {skill:16}{rate(wins, tally.trials[skill])}")
    for line in tally.wrong:
        print(f"    {line}")
    sys.stdout.flush()


def _training(folder: Path) -> dict[str, Any]:
    from hiervla.executor.policies.chunks import read_config

    facts = read_config(folder).get("training", {})
    return {"train_minutes": facts.get("minutes"), "train_steps": facts.get("done_steps")}


def _shipped_folder(family: str) -> Path:
    from hiervla.executor.policies.chunks import WEIGHTS

    return WEIGHTS / family


def _folder(text: str) -> tuple[str, Path]:
    family, _, folder = text.partition("=")
    if family not in FAMILIES or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not FAMILY=DIR with a family of {', '.join(FAMILIES)}")
    return family, Path(folder)


def _interval(won: int, of: int) -> tuple[float, float]:
    low, high = wilson(won, of)
    return round(low, 4), round(high, 4)


def _share(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{values[0]:.3f} [{values[1]:.2f}, {values[2]:.2f}]"


if __name__ == "__main__":
    main()
