"""What blame says: findings with what was recorded and what ought to have been, and the verdict that they add up to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol, get_args

from hiervla.representations import Plan, Step
from hiervla.representations._base import Vec3
from hiervla.worlds.base import World

Level = Literal["world", "planner", "grounding", "policy", "controller", "verifier", "hand-off"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""Every level, causes before what they bring about."""

Outcome = Literal["found", "nothing", "undecided"]

NEXT: Final[dict[Level, str]] = {
    "world": "look at the images of that moment and keep people, cables and loose things out of the workspace",
    "planner": "say it in other words, ask another planner with the recorded images, or add this run to its training",
    "grounding": "look at the point with `hiervla inspect RUN --step`, then check depth and camera calibration there",
    "policy": "try the policy's other weights, or collect demonstrations of this step and train it",
    "controller": "check gains, limits and the clock of the controller, and what stands between it and the robot",
    "verifier": "compare the images before and after by eye, then mend the skill's own check",
    "hand-off": "make the earlier step's success check ask for what the next step needs",
}
"""What to try next, by level."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it ought to be.

    Attributes:
        level: whose doing it is.
        test: what was tested, in words.
        event: id of the event at which it shows; empty where it lies between events.
        time_s: the world's clock there [s].
        step: id of the step; empty for what belongs to none.
        attempt: number of the attempt in the run, from 0; -1 for what belongs to none.
        recorded: what the record says.
        expected: what the same inputs give, or what a contract asks for.
        distance: how far the two are apart, in words with a unit.
        weight: how much it proves, 0 to 1: above 0.9 the recorded result was made anew from its recorded inputs and
            came out differently; below 0.8 it speaks for the level, and other levels could explain it.
    """

    level: Level
    test: str
    event: str
    time_s: float
    step: str
    attempt: int
    recorded: str
    expected: str
    distance: str
    weight: float

    def __str__(self) -> str:
        where = f"{self.event}, {self.time_s:.2f} s" if self.event else f"{self.time_s:.2f} s"
        step = f", step {self.step}" if self.step else ""
        apart = f" ({self.distance})" if self.distance else ""
        return f"{self.level} [{where}{step}] {self.test}: recorded {self.recorded}, expected {self.expected}{apart}"


@dataclass(frozen=True)
class Blame:
    """Who made a run fail.

    Attributes:
        outcome: "found", "nothing" to blame, or "undecided".
        level: the level to blame; None unless one was found.
        step: id of the step at which it went wrong first; empty where no step is concerned.
        attempt: number of the attempt in the run, from 0; -1 for none.
        event: id of the event at which it went wrong first.
        why: one sentence.
        confidence: 0 to 1.
        runner_up: the next likely level, if any finding speaks for one.
        evidence: findings for the level, the strongest first.
        others: findings for other levels.
        tested: tests that were made, with how many cases each.
        untested: what could not be tested, and why.
        wall_s: time that it took on the computer's clock [s].
    """

    outcome: Outcome
    level: Level | None
    step: str
    attempt: int
    event: str
    why: str
    confidence: float
    runner_up: Level | None
    evidence: tuple[Finding, ...]
    others: tuple[Finding, ...]
    tested: tuple[str, ...]
    untested: tuple[str, ...]
    wall_s: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return asdict(self)


class Judge(Protocol):
    """Somebody who knows what is true in a world that was set to a recorded state; only a simulator has one.

    Blame itself sees no ground truth: the judge is passed in from the layers that may.
    """

    def plan_problem(self, world: World, plan: Plan) -> str | None:
        """Why the plan, from the world's present state, would not reach the goal; None if it would, or unknown."""
        ...

    def goal_problem(self, world: World) -> str | None:
        """What of the goal does not hold in the world now; None if all does or there is no goal to judge by."""
        ...

    def step_problem(self, world: World, step: Step) -> str | None:
        """What of the step's effect does not hold in the world now; None if all does or it cannot be told."""
        ...

    def target(self, world: World, step: Step) -> Vec3 | None:
        """Where the step's keypoint should be in the world now [m]; None where that cannot be told."""
        ...
