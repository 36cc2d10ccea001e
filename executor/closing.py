"""What is checked before a run is said to have succeeded: do the effects still hold, and is nothing left undone?

A step's own check looks right after it. A thing can be knocked over by a later step, or fall on the way and be dropped
from the plan when the planner no longer sees it; each step of the last plan is then done, and the goal is not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hiervla.executor.activities import Parts
from hiervla.executor.config import LoopConfig
from hiervla.executor.state import Ending
from hiervla.planner.base import StepRecord
from hiervla.representations import Artifact, Keypoints, Observation, Plan, Refusal, Step
from hiervla.representations.events import VerdictGiven
from hiervla.skills import Skill, SkillContext, target_point

_SURE = 0.5
"""Confidence from which a "no" counts."""
_SAME_M = 0.06
"""A pick nearer than this to where something was put takes it away again [m]."""
_MOVES = ("place", "throw_away")


@dataclass(frozen=True)
class Effect:
    """A step that worked, with what its effect is seen by.

    Attributes:
        number: of the attempt in the run's history.
        skill: of the step.
        context: as it was when the step was done.
    """

    number: int
    skill: Skill
    context: SkillContext


@dataclass(frozen=True)
class Broken:
    """An effect that no longer holds.

    Attributes:
        number: of the attempt in the run's history.
        step: the step.
        why: the verdict in words.
    """

    number: int
    step: Step
    why: str

    def __str__(self) -> str:
        """One clause of a sentence."""
        return f"'{self.step}' was done and no longer holds ({self.why})"


class Ledger:
    """The effects of a run's steps, as far as later steps have not undone them."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def attempted(self, step: Step) -> None:
        """A step was tried: whatever it meant to undo counts as undone, also where it failed."""
        self.effects = [e for e in self.effects if not _undoes(step, e)]

    def succeeded(self, number: int, skill: Skill, context: SkillContext) -> None:
        """A step worked."""
        self.effects.append(Effect(number, skill, context))

    def broken(self, parts: Parts, now: Observation) -> list[Broken]:
        """Effects that the cameras show to be gone; every verdict goes on record.

        Args:
            parts: who answers, and what keeps the record.
            now: the present observation, arm at home.
        """
        found = []
        for effect in self.effects:
            then = effect.context
            context = SkillContext(
                step=then.step, before=then.before, proprio=now.proprio, belief=then.belief, after=now
            )
            verdict = parts.verifier.lasts(effect.skill, context)
            if verdict is None:
                continue
            parts.recorder.emit(
                VerdictGiven, time_s=parts.body.now_s, step_id=then.step.id, phase="lasting", verdict=verdict
            )
            if verdict.value == "no" and verdict.confidence >= _SURE:
                found.append(Broken(effect.number, then.step, f"{verdict.name}: no, {verdict.confidence:.2f}"))
        return found


@dataclass(frozen=True)
class Wrong:
    """What keeps a run from having succeeded.

    Attributes:
        broken: effects that no longer hold.
        unfinished: steps that failed, and whose thing has not been brought anywhere since or is out of sight.
    """

    broken: tuple[Broken, ...]
    unfinished: tuple[Step, ...]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.broken or self.unfinished)

    def __str__(self) -> str:
        """A clause of a sentence for each."""
        clauses = [str(b) for b in self.broken]
        clauses += [f"'{step}' failed and was never made good" for step in self.unfinished]
        return " and ".join(clauses)


def look_over(
    parts: Parts, ledger: Ledger, history: list[StepRecord], now: Observation, seen: Sequence[Artifact] = ()
) -> Wrong:
    """What is wrong at the end of a run; a step whose effect is gone counts as failed in its history from now on.

    Args:
        parts: who answers, and what keeps the record.
        ledger: effects of the steps.
        history: attempts at steps; changed where an effect is gone.
        now: the present observation, arm at home.
        seen: what the planner saw, as it labels it: "red mug (top shelf)".
    """
    broken = ledger.broken(parts, now)
    for found in broken:
        history[found.number] = replace(history[found.number], outcome="failed")
    gone = {id(found.step) for found in broken}
    ledger.effects = [e for e in ledger.effects if id(e.context.step) not in gone]
    # A step that is broken would be told twice, as failed in the history, too.
    told = {str(b.step) for b in broken}
    lost = [s for s in unfinished(history) if str(s) not in told and not _arrived(s, seen)]
    lost += [s for s in out_of_sight(history, seen) if str(s) not in told]
    return Wrong(tuple(broken), tuple(lost))


class Closing:
    """Looks a run over before it is said to have succeeded.

    Attributes:
        ledger: effects of the steps that worked.
        asked: the planner's latest answer when it was asked for a plan.
        looked_over: times that this was done.
    """

    def __init__(self, parts: Parts, config: LoopConfig) -> None:
        self.ledger = Ledger()
        self.asked: Plan | Refusal | None = None
        self.looked_over = 0
        self._parts = parts
        self._config = config

    def end(
        self, answer: Plan | Refusal, history: list[StepRecord], ask: Callable[[str], Plan | Refusal]
    ) -> Plan | Refusal | Ending:
        """How a run ends with an answer that leaves nothing to do; or a plan to go on with.

        Args:
            answer: a plan without remaining steps, or a refusal.
            history: attempts at steps; changed where an effect is gone.
            ask: asks the planner for a plan from here, for a reason.
        """
        if isinstance(answer, Plan):
            message = f"all {len(answer.done)} steps are done"
        else:
            worked = sum(r.outcome == "succeeded" for r in history)
            if answer.reason != "nothing_to_do":
                message = f"the planner sees no way on: {answer.message}"
                return Ending("failed", message) if history else Ending("refused", answer.message)
            if not worked:
                return Ending("nothing_to_do", answer.message)
            message = f"nothing is left to do after {worked} steps"
        found = self._against(answer, history, ask)
        if isinstance(found, str):
            return Ending("failed", f"{message}, but {found}")
        return Ending("succeeded", message) if found is None else found

    def _against(
        self, answer: Plan | Refusal, history: list[StepRecord], ask: Callable[[str], Plan | Refusal]
    ) -> Plan | Refusal | str | None:
        """What speaks against success: a plan to go on with, words, or None for nothing."""
        parts, most = self._parts, self._config.end_checks
        if not (self._config.verify and most):
            return None
        if answer is not self.asked and getattr(parts.planner, "looks_over", False):
            if self.looked_over >= most:
                return f"there was more to do each of {self.looked_over} times that it was looked over"
            self.looked_over += 1
            left = ask("is anything left to do?")
            if isinstance(left, Plan) and left.remaining:
                return left
            answer = left
        seen = answer.scene if isinstance(answer, Plan) else ()
        if not self.ledger.effects and not unfinished(history) and not out_of_sight(history, seen):
            return None
        wrong = look_over(parts, self.ledger, history, parts.body.look("verify"), seen)
        if not wrong:
            return None
        if not wrong.broken or self.looked_over > most:
            return str(wrong)
        self.looked_over += 1
        return ask(f"looked over: {wrong}")


def unfinished(history: Sequence[StepRecord]) -> list[Step]:
    """Steps that were to bring a thing somewhere and failed, where nothing has moved that thing since.

    Things are told apart by name.
    """
    last: dict[str, StepRecord] = {}
    for record in history:
        thing = record.step.args.get("object", "")
        if record.step.skill in _MOVES and thing:
            last[thing] = record
    return [r.step for r in last.values() if r.outcome not in ("succeeded", "cancelled")]


def out_of_sight(history: Sequence[StepRecord], seen: Sequence[Artifact]) -> list[Step]:
    """Picks that failed, of things that nothing was done to since and that the planner does not see any more.

    It has dropped them from its plan, then, because they are out of its sight, fallen over perhaps, and not because
    there is nothing to do about them. Things are told apart by name.

    Args:
        history: attempts at steps.
        seen: what the planner saw, as it labels it; with nothing in it, nothing is known.
    """
    labels = [p.label for a in seen if isinstance(a, Keypoints) for p in a.points]
    last: dict[str, StepRecord] = {}
    for record in history:
        thing = record.step.args.get("object", "")
        if thing:
            last[thing] = record
    failed = [r.step for r in last.values() if r.step.skill == "pick" and r.outcome not in ("succeeded", "cancelled")]
    return [s for s in failed if labels and not any(x.partition(" (")[0] == s.args["object"] for x in labels)]


def _arrived(step: Step, seen: Sequence[Artifact]) -> bool:
    """Whether the planner sees the thing where a step that counts as failed was to bring it."""
    target = step.args.get("target", "")
    places = {target, "on object"} if target.split()[-1:] in (["block"], ["bowl"], ["plate"]) else {target}
    labels = {p.label for a in seen if isinstance(a, Keypoints) for p in a.points}
    return any(f"{step.args.get('object', '')} ({place})" in labels for place in places)


def _undoes(step: Step, effect: Effect) -> bool:
    """Whether a step takes back what an effect is, or hides it."""
    done, args = effect.context.step, step.args
    if step.skill == "pick":
        same = args.get("object") == done.args.get("object") and done.skill in _MOVES
        return same or _near(step, done)
    if step.skill in ("open_drawer", "close_drawer"):
        return done.skill in ("open_drawer", "close_drawer") or done.args.get("target") == "drawer"
    return step.skill == done.skill == "wipe"


def _near(step: Step, done: Step) -> bool:
    points = [[p for a in s.artifacts if a.kind == "keypoints" for p in a.points[:1]] for s in (step, done)]
    if not all(p and p[0].position_w is not None for p in points):
        return False
    a, b = target_point(step), target_point(done)
    return bool(np.hypot(*(a - b)[:2]) < _SAME_M)


__all__ = ["Broken", "Closing", "Effect", "Ledger", "Wrong", "look_over", "out_of_sight", "unfinished"]
