"""What planner, policy and checks were told, in a form that a record keeps beside what they answered.

A decision replay takes the answers from the record, so that it cannot tell from them whether the questions are still
the same. Here each question is reduced to a few short words, which the event with the answer carries; a replay compares
them. Not told are: images and proprioception, of which the time of the observation speaks; the skill library, since a
skill more is no other question; and the maps of an artifact, which are the planner's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from hiervla.executor.activities import Parts, RobotBody, Verifier
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.recorder import Recorder
from hiervla.planner.base import Planner, PlannerContext
from hiervla.planner.wrapping import PlannerWrapper
from hiervla.representations import ActionChunk, Keypoints, Observation, Plan, Refusal, Step, Verdict
from hiervla.skills import Skill, SkillContext

Words: TypeAlias = dict[str, str]


class Heard:
    """Keeps what a part was told last, until the event with its answer takes it."""

    def __init__(self) -> None:
        self._words: Words | None = None

    def keep(self, words: Words) -> None:
        """A question was asked."""
        self._words = words

    def take(self) -> Words | None:
        """The last question, once; None where nobody was asked."""
        words, self._words = self._words, None
        return words


class HeardPlanner(PlannerWrapper):
    """Passes every question on to a planner and keeps it."""

    def __init__(self, planner: Planner, heard: Heard) -> None:
        super().__init__(planner)
        self.rejected = planner.rejected
        self._heard = heard

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """See :class:`hiervla.planner.base.Planner`."""
        self._heard.keep({**_asked(observation, context), "instruction": instruction})
        return super().plan(observation, instruction, context)

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """See :class:`hiervla.planner.base.Planner`."""
        self._heard.keep({**_asked(observation, context), "plan": _listed([*plan.done, "then", *plan.remaining])})
        return super().refresh(observation, plan, context)

    def ground(self, observation: Observation, step: Step) -> Step:
        """See :class:`hiervla.planner.base.Planner`."""
        self._heard.keep({"observation": _time(observation), "step": _step(step)})
        return super().ground(observation, step)


class Asking:
    """Reaches the parts of a run; what planner and checks are asked is kept for the record.

    Args:
        parts: planner, policies, body, checks, recorder and control; they may be exchanged in the middle of a run.
        heard: keeps the questions.
    """

    def __init__(self, parts: Parts, heard: Heard) -> None:
        self.parts = parts
        self.heard = heard

    @property
    def planner(self) -> Planner:
        """Who plans, and lifts points to the world."""
        return HeardPlanner(self.parts.planner, self.heard)

    @property
    def verifier(self) -> Verifier:
        """Who checks."""
        return HeardVerifier(self.parts.verifier, self.heard)

    @property
    def body(self) -> RobotBody:
        """What looks and moves."""
        return self.parts.body

    @property
    def recorder(self) -> Recorder:
        """What keeps the record."""
        return self.parts.recorder


class HeardPolicy:
    """Passes every question on to a policy and keeps it."""

    def __init__(self, policy: Policy, heard: Heard) -> None:
        self._policy = policy
        self._heard = heard
        self._seed = 0

    @property
    def id(self) -> str:
        """The policy's."""
        return self._policy.id

    def reset(self, step: Step, seed: int) -> None:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        self._seed = seed
        self._policy.reset(step, seed)

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """See :class:`hiervla.executor.policies.base.Policy`."""
        self._heard.keep({"observation": _time(observation), "step": _step(step), "seed": str(self._seed)})
        return self._policy.act(observation, step)


class HeardVerifier:
    """Passes every question on to the checks and keeps it."""

    def __init__(self, verifier: Verifier, heard: Heard) -> None:
        self._verifier = verifier
        self._heard = heard

    def ready(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        self._heard.keep(_checked(context))
        return self._verifier.ready(skill, context)

    def holds(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        self._heard.keep(_checked(context))
        return self._verifier.holds(skill, context)

    def stop(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        self._heard.keep(_checked(context))
        return self._verifier.stop(skill, context)

    def done(self, skill: Skill, context: SkillContext) -> Verdict:
        """See :class:`hiervla.executor.activities.Verifier`."""
        self._heard.keep(_checked(context))
        return self._verifier.done(skill, context)

    def lasts(self, skill: Skill, context: SkillContext) -> Verdict | None:
        """See :class:`hiervla.executor.activities.Verifier`."""
        self._heard.keep(_checked(context))
        return self._verifier.lasts(skill, context)


def _asked(observation: Observation, context: PlannerContext) -> Words:
    history = [f"{r.step.id}: {r.step}, from {r.source or '-'}: {r.outcome}" for r in context.history]
    words = {"observation": _time(observation), "history": _listed(history), "seed": str(context.seed)}
    if context.said:
        words["said"] = _listed(context.said)
    if context.unseen:
        words["unseen"] = _listed([f"{r.name}, {r.place}, {r.seen_s:.3f}" for r in context.unseen])
    if context.emit is not None:
        words["emit"] = context.emit
    if context.may_ask:
        words["may_ask"] = "yes"
    if context.objections:
        words["objections"] = _listed([o.problem for o in context.objections])
    return words


def _checked(context: SkillContext) -> Words:
    belief = context.belief
    words = {
        "before": _time(context.before),
        "step": _step(context.step),
        "held": f"{belief.held}, from {belief.source}" if belief.held is not None else "nothing",
    }
    if context.after is not None:
        words["after"] = _time(context.after)
    if context.elapsed_s:
        words["elapsed"] = f"{context.elapsed_s:.3f}"
    for name in ("done_prob", "progress"):
        if (value := getattr(context, name)) is not None:
            words[name] = repr(float(value))
    return words


def _time(observation: Observation) -> str:
    return f"{observation.time_s:.3f}"


def _step(step: Step) -> str:
    """What a step says and where it points, in a few digits of a hash."""
    points = [(p.label, p.u, p.v, p.position_w) for a in step.artifacts if isinstance(a, Keypoints) for p in a.points]
    images = [a.image.sha256 for a in step.artifacts if isinstance(a, Keypoints)]
    return f"{step.id} {_hash([step.skill, step.args, step.text, points, images])}"


def _listed(lines: Sequence[str]) -> str:
    return f"{len(lines)} {_hash(list(lines))}" if lines else "0"


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]
