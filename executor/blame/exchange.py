"""Counterfactuals: the step again from its recorded physical state, with one level exchanged for a better one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hiervla.controllers.errors import NoPath, UnreachablePose
from hiervla.executor.activities import Parts, SkillVerifier
from hiervla.executor.blame.commands import number
from hiervla.executor.blame.findings import Judge
from hiervla.executor.blame.testimony import Attempt, Testimony
from hiervla.executor.body import Body, CancelToken, EnvelopeStop
from hiervla.executor.policies.base import Policy
from hiervla.executor.record.recorder import NullRecorder
from hiervla.executor.segment import PolicyRunner
from hiervla.planner.base import GroundingError, Planner, RejectedAttempt
from hiervla.representations import Keypoints, Observation, Plan, Step
from hiervla.representations import events as ev
from hiervla.representations._base import Vec3
from hiervla.skills import Belief, SkillContext
from hiervla.worlds.base import SnapshotWorld


@dataclass(frozen=True)
class Rollout:
    """A step that was done again.

    Attributes:
        exchanged: what was exchanged.
        seed: seed of the policy.
        success: did it work, by the skill's own check and, if there is one, the judge?
        why: the verdict, or what went wrong.
        seconds: robot time that it took [s].
    """

    exchanged: str
    seed: int
    success: bool
    why: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.exchanged}, seed {self.seed}: {'works' if self.success else 'fails'} ({self.why})"


class Bench:
    """Sets the world to where an attempt began, as often as asked."""

    def __init__(
        self,
        said: Testimony,
        world: SnapshotWorld,
        policy_for: Callable[[str], Policy],
        planner: Planner | None,
        judge: Judge | None,
    ) -> None:
        self._said = said
        self._world = world
        self._policy_for = policy_for
        self._planner = planner
        self._judge = judge

    def snapshot(self, attempt: Attempt) -> bytes | None:
        """The state in which an attempt began; None if it is not on record."""
        before = [s for s in self._said.record.of(ev.SnapshotTaken) if number(s) < number(attempt.started)]
        return self._said.record.snapshot(before[-1]) if before else None

    def same_point(self, attempt: Attempt) -> Step | None:
        """The step with the very point that was used."""
        return attempt.acts[0].step if attempt.acts else next((x.answer for x in attempt.lifts if x.answer), None)

    def fresh_point(self, attempt: Attempt, observation: Observation) -> Step | None:
        """The step, pointed at anew by the planner in what the camera shows now."""
        asked = attempt.planned
        if self._planner is None or asked is None or not isinstance(asked.answer, Plan):
            return None
        try:
            plan = self._planner.refresh(observation, asked.answer, asked.context)
            return None if plan is None else self._planner.ground(observation, plan.step(attempt.step.id))
        except (GroundingError, KeyError):
            return None

    def true_point(self, attempt: Attempt) -> Step | None:
        """The step with its point where the judge says that it should be."""
        at = self._judge.target(self._world, attempt.step) if self._judge is not None else None
        step = self.same_point(attempt)
        return None if at is None or step is None else moved(step, at)

    def roll(self, attempt: Attempt, point: str, seed: int) -> Rollout | None:
        """Do the step again with live body, policy and checks.

        Args:
            attempt: which one; the world is set to where it began.
            point: "same", "fresh" or "true".
            seed: of the policy.

        Returns:
            What came of it; None where there is no state to begin from, or no such point.
        """
        snapshot = self.snapshot(attempt)
        if snapshot is None:
            return None
        said = self._said
        recorder = NullRecorder()
        body = Body(self._world, recorder, said.config, CancelToken(), seed=said.record.manifest.seed)
        body.restore(snapshot)
        before = body.observe("plan")
        step = {
            "same": lambda: self.same_point(attempt),
            "fresh": lambda: self.fresh_point(attempt, before),
            "true": lambda: self.true_point(attempt),
        }[point]()
        if step is None:
            return None
        names = {"same": "policy's draw", "fresh": "point found anew", "true": "true point"}
        began = body.now_s
        success, why = self._do(attempt, step, before, body, seed)
        return Rollout(names[point], seed, success, why, body.now_s - began)

    def _do(self, attempt: Attempt, step: Step, before: Observation, body: Body, seed: int) -> tuple[bool, str]:
        said = self._said
        skill = said.skills.get(attempt.step.skill)
        ready = attempt.check("ready")
        belief = ready.context.belief if ready is not None else Belief()
        context = SkillContext(step=step, before=before, proprio=body.proprio(), belief=belief)
        verdict = skill.ready(context)
        if not verdict.yes:
            return False, f"not ready: {verdict.name}"
        parts = Parts(
            planner=_Nobody(), policy_for=self._policy_for, body=body, recorder=NullRecorder(), verifier=SkillVerifier()
        )
        runner = PolicyRunner(parts, said.config)
        try:
            body.approach(step, skill.approach(context), context.target_w, before)
            ended, reason = runner.run(skill, context, seed=seed)
            body.home(step.id)
            after = body.look("verify")
        except (NoPath, UnreachablePose, EnvelopeStop) as error:
            return False, str(error)
        finally:
            runner.close()
        done = skill.done(SkillContext(step=step, before=before, proprio=after.proprio, belief=belief, after=after))
        if done.value == "no" or (done.value == "unsure" and ended != "succeeded"):
            return False, f"{done.name}: {done.value}, {reason}"
        problem = self._judge.step_problem(self._world, step) if self._judge is not None else None
        return problem is None, problem or f"{done.name}: {done.value}"


def moved(step: Step, to_w: Vec3) -> Step:
    """The step with its first keypoint at another place in the world."""
    artifacts = list(step.artifacts)
    for i, artifact in enumerate(artifacts):
        if isinstance(artifact, Keypoints):
            first = artifact.points[0].replace(position_w=to_w)
            artifacts[i] = artifact.replace(points=(first, *artifact.points[1:]))
            break
    return step.replace(artifacts=tuple(artifacts))


class _Nobody:
    """No planner: a single step asks none."""

    id = "nobody"
    rejected: tuple[RejectedAttempt, ...] = ()

    def plan(self, *_: object) -> Plan:
        raise AssertionError("a single step needs no plan")

    def refresh(self, *_: object) -> None:
        raise AssertionError("a single step needs no plan")

    def ground(self, *_: object) -> Step:
        raise AssertionError("the step is grounded already")
