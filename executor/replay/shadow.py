"""Shadow evaluation: one part runs live on a record, is scored against what was recorded, and changes nothing.

A new planner can so be judged on last month's runs without a robot: it is asked what the old one was asked, sees what
that saw, and the replay goes on with the recorded answer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from hiervla.executor.activities import Parts, SkillVerifier, Verifier
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.reader import RunRecord
from hiervla.executor.replay.cursor import CheckingRecorder, Cursor
from hiervla.executor.replay.decisions import DecisionReplay, replay_decisions
from hiervla.executor.replay.recorded import RecordedBody
from hiervla.planner.base import GroundingError, Planner, PlannerContext, PlannerFailedError
from hiervla.planner.seeing import Seeing
from hiervla.representations import (
    ActionChunk,
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Refusal,
    SeenThing,
    Step,
    Verdict,
)
from hiervla.skills import Skill, SkillContext, SkillLibrary

T = TypeVar("T")
LivePart = Literal["planner", "policy", "verifier", "controller"]
LIVE_PARTS: Final[tuple[LivePart, ...]] = get_args(LivePart)
"""What can be exchanged for a live one."""
_CHUNK_M: Final = 0.01
"""Chunks whose rows are this near to each other count as the same [m]."""


@dataclass(frozen=True)
class Disagreement:
    """Where a live part answers otherwise than the recorded one did.

    Attributes:
        event: id of the recorded event that holds the recorded answer.
        time_s: its time on the world's clock [s].
        what: what was asked.
        recorded: the recorded answer, in words.
        live: the live one.
    """

    event: str
    time_s: float
    what: str
    recorded: str
    live: str


@dataclass
class Score:
    """How a live part compares with the recorded one.

    Attributes:
        part: which part.
        asked: questions that both were asked.
        disagreements: questions that they answered otherwise.
        distances: how far apart their answers lie, by quantity with its unit, such as ``point_px``.
    """

    part: LivePart
    asked: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    distances: dict[str, list[float]] = field(default_factory=dict)

    @property
    def agreement(self) -> float:
        """Share of questions with the same answer; 1 where none was asked."""
        return 1.0 - len(self.disagreements) / self.asked if self.asked else 1.0

    def summary(self) -> dict[str, tuple[float, float]]:
        """Median and greatest distance of each quantity."""
        return {name: (statistics.median(v), max(v)) for name, v in self.distances.items() if v}

    def distance(self, name: str, value: float) -> None:
        """Note how far apart two answers lie."""
        self.distances.setdefault(name, []).append(float(value))

    def compare(self, cursor: Cursor, what: str, recorded: str, live: str, same: bool | None = None) -> None:
        """Note two answers to a question."""
        self.asked += 1
        if not (recorded == live if same is None else same):
            event = cursor.peek()
            self.disagreements.append(
                Disagreement(event.id if event else "", event.time_s if event else cursor.now_s, what, recorded, live)
            )


@dataclass(frozen=True)
class ShadowReport:
    """A decision replay with live parts beside the recorded ones."""

    replay: DecisionReplay
    scores: tuple[Score, ...]


def shadow(
    record: RunRecord,
    *,
    planner: Planner | None = None,
    policy_for: Callable[[str], Policy] | None = None,
    verifier: bool = False,
    controller: bool = False,
    skills: SkillLibrary | None = None,
) -> ShadowReport:
    """Replay a record with live parts beside the recorded ones.

    Args:
        record: what to replay.
        planner: asked all that the recorded planner was asked.
        policy_for: gives the policies that are asked for a chunk wherever one was recorded.
        verifier: run the skills' own checks on the recorded observations.
        controller: run transit planner, tracker and envelope on the recorded chunks and hovers.
        skills: the library; by default everything installed.

    Raises:
        ReplayError: the record holds no run.
        RecordError: the record is damaged.
        CameraError: a live part needs a camera that was not recorded.
    """
    scores: list[Score] = []

    def score(part: LivePart) -> Score:
        scores.append(Score(part))
        return scores[-1]

    def exchange(parts: Parts, cursor: Cursor, recorder: CheckingRecorder) -> None:
        if planner is not None:
            parts.planner = ShadowPlanner(parts.planner, planner, cursor, score("planner"))
        if policy_for is not None:
            recorded, fresh, found = parts.policy_for, policy_for, score("policy")
            parts.policy_for = lambda name: ShadowPolicy(recorded(name), fresh(name), cursor, found)
        if verifier:
            parts.verifier = ShadowVerifier(parts.verifier, SkillVerifier(), cursor, score("verifier"))
        if controller:
            from hiervla.executor.replay.shadow_body import ShadowBody

            assert isinstance(parts.body, RecordedBody), "a replay begins with recorded parts"
            parts.body = ShadowBody(parts.body, cursor, score("controller"))

    replay = replay_decisions(record, skills=skills, exchange=exchange, exact=verifier)
    return ShadowReport(replay, tuple(scores))


class ShadowPlanner:
    """Asks both planners and goes by the recorded one."""

    def __init__(self, recorded: Planner, live: Planner, cursor: Cursor, score: Score) -> None:
        self._recorded, self._live, self._cursor, self._score = recorded, live, cursor, score
        self.rejected = recorded.rejected

    @property
    def id(self) -> str:
        """The recorded planner's."""
        return self._recorded.id

    @property
    def looks_over(self) -> bool:
        """Whether the recorded planner was asked here."""
        return bool(getattr(self._recorded, "looks_over", False))

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See :class:`hiervla.planner.base.Planner`."""
        then = self._as_recorded(lambda: self._recorded.plan(observation, instruction, context))
        with self._failing("plan", lambda: _calls(then)):
            now = self._live.plan(observation, instruction, context)
            self._score.compare(self._cursor, "plan", _calls(then), _calls(now))
            self._points(then, now)
        return then

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See :class:`hiervla.planner.base.Planner`."""
        then = self._as_recorded(lambda: self._recorded.refresh(observation, plan, context))
        with self._failing("next step in view", lambda: _in_view(then)):
            now = self._live.refresh(observation, plan, context)
            self._score.compare(self._cursor, "next step in view", _in_view(then), _in_view(now))
            self._points(then, now)
        return then

    def things(self, observation: Observation, context: PlannerContext) -> tuple[SeenThing, ...]:
        """See :class:`hiervla.planner.seeing.Seeing`; a live planner that does not say what it sees is not asked."""
        seeing = self._recorded
        then = self._as_recorded(lambda: seeing.things(observation, context)) if isinstance(seeing, Seeing) else ()
        with self._failing("things in view", lambda: _seen(then)):
            if isinstance(self._live, Seeing):
                now = self._live.things(observation, context)
                self._score.compare(self._cursor, "things in view", _seen(then), _seen(now))
        return then

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        now: Step | GroundingError | PlannerFailedError
        try:
            now = self._live.ground(observation, step)
        except (GroundingError, PlannerFailedError) as error:
            now = error
        try:
            then = self._recorded.ground(observation, step)
        except GroundingError as error:
            live = "found" if isinstance(now, Step) else "not found"
            self._score.compare(self._cursor, f"ground '{step}' ({error.problem})", "not found", live)
            raise
        said = "found" if isinstance(now, Step) else f"not found: {now.problem}"
        self._score.compare(self._cursor, f"ground '{step}'", "found", said)
        if isinstance(now, Step):
            for a, b in _pairs(then, now):
                if a.position_w is not None and b.position_w is not None:
                    apart_m = float(np.linalg.norm(np.subtract(a.position_w, b.position_w)))
                    self._score.distance("position_mm", 1e3 * apart_m)
        return then

    def _as_recorded(self, ask: Callable[[], T]) -> T:
        """The recorded answer; what was rejected before it is known also where there was none."""
        try:
            return ask()
        finally:
            self.rejected = self._recorded.rejected

    @contextmanager
    def _failing(self, what: str, recorded: Callable[[], str]) -> Iterator[None]:
        """Count a live planner that gives no answer as one that disagrees; the replay goes on by the recorded one."""
        try:
            yield
        except PlannerFailedError as error:
            self._score.compare(self._cursor, what, recorded(), f"no answer: {error.problem}")

    def _points(self, then: Plan | Refusal | None, now: Plan | Refusal | None) -> None:
        """Distances of the points of steps that both plans have."""
        if not (isinstance(then, Plan) and isinstance(now, Plan)):
            return
        for first, second in zip(then.remaining, now.remaining, strict=False):
            x, y = then.step(first), now.step(second)
            if (x.skill, x.args) != (y.skill, y.args):
                return
            for a, b in _pairs(x, y):
                self._score.distance("point_px", float(np.hypot(a.u - b.u, a.v - b.v)))


class ShadowPolicy:
    """Asks both policies and goes by the recorded one."""

    def __init__(self, recorded: Policy, live: Policy, cursor: Cursor, score: Score) -> None:
        self._recorded, self._live, self._cursor, self._score = recorded, live, cursor, score

    @property
    def id(self) -> str:
        """The recorded policy's."""
        return self._recorded.id

    def reset(self, step: Step, seed: int) -> None:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        self._recorded.reset(step, seed)
        self._live.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        then, now = self._recorded.act(observation, step), self._live.act(observation, step)
        rows = min(then.horizon, now.horizon)
        apart = float(np.linalg.norm(then.positions[:rows] - now.positions[:rows], axis=1).max())
        self._score.distance("row_mm", 1e3 * apart)
        self._score.distance("opening", float(np.abs(then.gripper[:rows] - now.gripper[:rows]).max()))
        if then.done_prob is not None and now.done_prob is not None:
            self._score.distance("done_prob", abs(then.done_prob - now.done_prob))
        ends = [f"chunk ending at {_place(c.positions[rows - 1])}" for c in (then, now)]
        self._score.compare(self._cursor, f"act in '{step}'", ends[0], ends[1], apart <= _CHUNK_M)
        return then


class ShadowVerifier:
    """Asks the recorded verdicts and the live checks, and goes by the recorded ones."""

    def __init__(self, recorded: Verifier, live: Verifier, cursor: Cursor, score: Score) -> None:
        self._recorded, self._live, self._cursor, self._score = recorded, live, cursor, score

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._both("ready", self._recorded.ready(skill, context), self._live.ready(skill, context), context)

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        then, now = self._recorded.holds(skill, context), self._live.holds(skill, context)
        return then if then is None or now is None else self._both("invariant", then, now, context)

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._both("during", self._recorded.stop(skill, context), self._live.stop(skill, context), context)

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        return self._both("done", self._recorded.done(skill, context), self._live.done(skill, context), context)

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        then, now = self._recorded.lasts(skill, context), self._live.lasts(skill, context)
        return then if then is None or now is None else self._both("lasting", then, now, context)

    def _both(self, phase: str, then: Verdict, now: Verdict, context: SkillContext) -> Verdict:
        what = f"{phase} of '{context.step}'"
        self._score.compare(self._cursor, what, _said(then), _said(now), then.value == now.value)
        self._score.distance("confidence", abs(then.confidence - now.confidence))
        return then


def _pairs(x: Step, y: Step) -> list[tuple[Keypoint, Keypoint]]:
    first = [p for a in x.artifacts if isinstance(a, Keypoints) for p in a.points]
    second = [p for a in y.artifacts if isinstance(a, Keypoints) for p in a.points]
    return list(zip(first, second, strict=False))


def _calls(answer: Plan | Refusal) -> str:
    if isinstance(answer, Refusal):
        return f"refused: {answer.reason} {', '.join(answer.missing)}".strip()
    return "; ".join(str(answer.step(s)) for s in answer.remaining) or "nothing left to do"


def _seen(things: tuple[SeenThing, ...]) -> str:
    return ", ".join(f"{t.name} ({t.where})" if t.where else t.name for t in things) or "nothing"


def _in_view(plan: Plan | None) -> str:
    return "no" if plan is None else "yes"


def _said(verdict: Verdict) -> str:
    return f"{verdict.name}: {verdict.value} ({verdict.confidence:.2f})"


def _place(point: NDArray[np.float64]) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*point)
