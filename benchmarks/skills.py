"""How often each skill of the learned policy succeeds from clean resets, and whether it heeds where the planner points.

Every trial is a scene of its own (seeds that training never draws), with the object of a pick on the table or a
shelf, or already in the hand for the skills that need one. The tool travels to the hover that the executor's transit
ends in, and the policy runs from observations until its done-head says so or time is up. Success is judged by ground
truth that the policy cannot see. The ablation hides the artifact: the same policy, but every keypoint is the middle
of the table.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.common import arguments, finish, rate
from hiervla.executor.policies.base import SKILLS, Policy
from hiervla.executor.policies.families import load_policy
from hiervla.representations import ActionChunk, Observation, Step
from hiervla.training.trials import run_trial

QUICK, FULL = 12, 100
BLANK_SHARE = 0.3
FIRST_SEED = 1


@dataclass
class Timed:
    """A policy with a stopwatch around each chunk."""

    inner: Policy
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def id(self) -> str:
        """See `Policy`."""
        return self.inner.id

    def reset(self, step: Step, seed: int) -> None:
        """See `Policy`."""
        self.inner.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See `Policy`; observation to chunk, features included."""
        began, cpu = time.perf_counter(), time.thread_time()
        chunk = self.inner.act(observation, step)
        self.cpu_seconds.append(time.thread_time() - cpu)
        self.seconds.append(time.perf_counter() - began)
        return chunk


def measure(
    policy: Timed, skill: str, trials: int, tell: Callable[[str], None], first: int = FIRST_SEED
) -> tuple[int, list[str]]:
    """Successes of one skill in `trials` scenes, and what went wrong in the others."""
    won, wrong = 0, []
    for i in range(trials):
        episode = run_trial(policy, skill, first + 2 * i)
        won += episode.success
        if not episode.success:
            wrong.append(f"{first + 2 * i}: {episode.reason}")
        tell(f"\r{skill}: {won}/{i + 1} ")
    tell("\n")
    return won, wrong


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table, then one line of JSON."""
    import torch

    parser = arguments(__doc__)
    parser.add_argument("--policy", default=None, help="folder of weights; default: the shipped ones")
    parser.add_argument("--trials", type=int, default=None, help=f"per skill; default {QUICK} or {FULL}")
    parser.add_argument("--skills", nargs="*", default=list(SKILLS), choices=SKILLS)
    parser.add_argument("--no-blank", action="store_true", help="leave the ablation out")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trials = args.trials or (FULL if args.full else QUICK)
    tell = (lambda text: print(text, end="", file=sys.stderr, flush=True)) if sys.stderr.isatty() else (lambda _: None)
    policy = Timed(load_policy(args.policy))
    blank = Timed(load_policy(args.policy, blank_artifact=True))
    print(f"policy {policy.id}, {trials} held-out scenes a skill\n")
    print(f"{'skill':14}{'success [95 % interval]':34}{'artifact blanked'}")
    won, won_blank, failures = {}, {}, {}
    n_blank = 0 if args.no_blank else max(3, round(BLANK_SHARE * trials))
    for skill in args.skills:
        won[skill], failures[skill] = measure(policy, skill, trials, tell)
        won_blank[skill] = measure(blank, skill, n_blank, tell)[0] if n_blank else 0
        print(f"{skill:14}{rate(won[skill], trials):34}{rate(won_blank[skill], n_blank)}", flush=True)
    for skill, wrong in failures.items():
        for line in wrong:
            print(f"  {skill} {line}")
    total, total_blank = sum(won.values()), sum(won_blank.values())
    share = {s: n / trials for s, n in won.items()}
    p50 = statistics.median(policy.seconds) * 1e3
    cpu = statistics.median(policy.cpu_seconds) * 1e3
    print(f"{'all':14}{rate(total, trials * len(won)):34}{rate(total_blank, n_blank * len(won))}")
    print(f"one chunk, observation to action, one thread: p50 {p50:.1f} ms ({cpu:.1f} ms of CPU)")
    figures: dict[str, Any] = {
        "benchmark": "skills",
        "policy": policy.id,
        "trials": trials,
        "min_success": round(min(share.values()), 4),
        "mean_success": round(float(np.mean(list(share.values()))), 4),
        "chunk_p50_ms": round(p50, 2),
        "chunk_cpu_p50_ms": round(cpu, 2),
        **{f"success_{s}": round(v, 4) for s, v in share.items()},
    }
    if n_blank:
        figures["blank_artifact_success"] = round(total_blank / (n_blank * len(won)), 4)
    finish(figures)


if __name__ == "__main__":
    main()
