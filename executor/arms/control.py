"""Shows each step to the claims before it starts: the arm waits, does something else first, or leaves the step out.

To the loop this is one more hand on the run (:class:`hiervla.executor.control.Control`), so that waiting and changed
plans are on record as pauses and corrections, and a decision replay repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from hiervla.controllers.fence import HAND_HALF_M, Fence
from hiervla.controllers.shape import ArmShape
from hiervla.executor.arms.claims import CELL, Claims, Key, words_of
from hiervla.executor.body import Body
from hiervla.executor.control import Answer, Control, Decision
from hiervla.executor.loop import Orchestrator
from hiervla.executor.record.recorder import Recorder
from hiervla.planner.base import GroundingError
from hiervla.representations import CameraError, Plan, Step
from hiervla.representations.events import EventBase, ResourcesClaimed, StepFinished
from hiervla.skills import MissingTargetError, target_point

SCHEDULER: Final = "scheduler"
State = Literal["waiting", "granted", "released", "dropped"]


class ArmControl:
    """One arm's side of the claims.

    Attributes:
        author: who corrected last: the scheduler, or the one behind it.
    """

    def __init__(
        self, arm: str, claims: Claims, fence: Fence, joint: Recorder, behind: Control, *, one_by_one: bool
    ) -> None:
        """Set up; :meth:`attach` has to follow.

        Args:
            arm: whose control this is.
            claims: of all arms.
            fence: of this arm; opened while it has the shared space.
            joint: the record of the whole run, which gets the claims of all arms.
            behind: who else controls the run; asked about everything.
            one_by_one: whether only one arm at a time carries out a step.
        """
        self.author = behind.author
        self._arm = arm
        self._claims = claims
        self._fence = fence
        self._joint = joint
        self._behind = behind
        self._one_by_one = one_by_one
        self._shape = ArmShape()
        self._step: Step | None = None
        self._told: tuple[Recorder, ...] = (joint,)

    def attach(self, loop: Orchestrator, body: Body, recorder: Recorder) -> None:
        """Take the loop that is controlled, its body and its record."""
        self._loop, self._body = loop, body
        self._told = (recorder, self._joint)
        recorder.subscribe(self._saw)

    def review(self, decision: Decision, hold: Callable[[], None]) -> Answer:
        """See :class:`hiervla.executor.control.Control`."""
        self.author = self._behind.author
        answer = self._behind.review(decision, hold)
        if decision.kind != "step" or not isinstance(answer, Step):
            return answer
        instead = self._admit(answer, hold)
        if instead is None:
            return answer
        self.author = SCHEDULER
        return instead

    def end(self) -> None:
        """The loop has ended: what the arm has is free, unless the arm still stands in the shared space."""
        self._claims.leave(self._arm)
        # After its last event nothing more belongs on the arm's own record.
        self._told = (self._joint,)
        self._release()

    def _admit(self, step: Step, hold: Callable[[], None]) -> Plan | None:
        """Wait until a step may start and take what it needs; or a plan that goes without it, or comes to it later."""
        self._release()
        resources = self._resources(step)
        told = False
        while True:
            unmet = self._claims.unmet(self._arm, step)
            blockers = self._claims.blockers(self._arm, resources)
            if not unmet and not blockers:
                self._claims.take(self._arm, step, resources)
                self._fence.entered = self._space in resources
                self._step = step
                self._tell("granted", step, resources)
                return None
            gone = self._claims.hopeless(unmet)
            gone += tuple((h.arm, ("stopped", ())) for h in blockers if h.arm not in self._claims.live)
            if gone or self._claims.stuck:
                return self._without(step, resources, gone or tuple(sorted(unmet)))
            if unmet and (other := self._other_first(step)) is not None:
                self._claims.go(self._arm)
                return other
            if not told:
                why = [f"{h.arm} has it for step {h.step_id}" if h.step_id else f"{h.arm} is first" for h in blockers]
                why += [f"{arm} has to '{words_of(key)}' first" for arm, key in sorted(unmet)]
                self._tell("waiting", step, resources, why)
                told = True
            self._claims.wait(self._arm, () if unmet else resources)
            hold()

    @property
    def _space(self) -> str:
        return f"space:{self._fence.name}"

    def _resources(self, step: Step) -> tuple[str, ...]:
        """What a step needs: by where it points, as the image that its plan was made from shows it."""
        own = [f"arm:{self._arm}"]
        if self._one_by_one:
            own.append(CELL)
        seen = self._loop.state.observation
        try:
            assert seen is not None, "a step is shown only after the planner has looked"
            target = target_point(self._loop.parts.planner.ground(seen, step))
        except (GroundingError, CameraError, MissingTargetError):
            # It will not get far: such an attempt ends before anything moves, and the fence stays closed.
            return tuple(own)
        if self._fence.behind(target, HAND_HALF_M + _WANDER_M):
            own.append(self._space)
        return tuple(own)

    def _other_first(self, step: Step) -> Plan | None:
        """The plan with steps ahead that wait for nobody; None where there are none, or the hand is full."""
        plan = self._loop.state.plan
        assert plan is not None, "a step is of a plan"
        if self._loop.state.belief.held is not None:
            return None
        late = _with_dependents(plan, [s for s in plan.steps if self._claims.unmet(self._arm, s)])
        first = tuple(i for i in plan.remaining if i not in late)
        if not first:
            return None
        return plan.replace(remaining=(*first, *(i for i in plan.remaining if i in late)))

    def _without(self, step: Step, resources: tuple[str, ...], gone: tuple[tuple[str, Key], ...]) -> Plan:
        """The plan without a step that cannot be done any more, and without what needs it."""
        plan = self._loop.state.plan
        assert plan is not None, "a step is of a plan"
        lost = _with_dependents(plan, [step])
        why = [f"{arm} does not '{words_of(key)}' any more" for arm, key in gone]
        for lost_id in (i for i in plan.remaining if i in lost):
            self._claims.drop(self._arm, plan.step(lost_id))
            self._tell("dropped", plan.step(lost_id), resources, why)
        self._claims.go(self._arm)
        kept = [s for s in plan.steps if s.id not in lost]
        steps = tuple(s.replace(depends_on=tuple(n for n in s.depends_on if n not in lost)) for s in kept)
        return plan.replace(steps=steps, remaining=tuple(i for i in plan.remaining if i not in lost))

    def _saw(self, event: EventBase) -> None:
        """A step is over: what it had is free again."""
        if isinstance(event, StepFinished) and self._step is not None:
            if event.outcome == "succeeded":
                self._claims.did(self._arm, self._step)
            self._release()

    def _release(self) -> None:
        had = self._claims.has(self._arm)
        if not had:
            return
        if self._space in had and not self._fence.clear(self._shape, self._body.proprio().q):
            return
        self._fence.entered = False
        self._claims.let_go(self._arm)
        if self._step is not None:
            self._tell("released", self._step, had)
        self._step = None

    def _tell(self, state: State, step: Step, resources: tuple[str, ...], why: list[str] | None = None) -> None:
        for recorder in self._told:
            recorder.emit(
                ResourcesClaimed,
                time_s=self._body.now_s,
                arm=self._arm,
                step_id=step.id,
                state=state,
                resources=resources,
                blocked_by=tuple(why or ()),
            )


_WANDER_M = 0.02
"""How far a policy may stray from the point that it was given [m]."""


def _with_dependents(plan: Plan, steps: list[Step]) -> set[str]:
    """Ids of steps that remain, and of all that need them, directly or not."""
    found = {s.id for s in steps if s.id in plan.remaining}
    for step_id in plan.remaining:
        if found & set(plan.step(step_id).depends_on):
            found.add(step_id)
    return found
