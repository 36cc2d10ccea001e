"""A skill in twenty lines: ``@skill`` turns a function into one.

The function's name, docstring and annotations are the signature that the planner reads; what it returns is the motion.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import overload

from pydantic import ValidationError

from hiervla.representations import (
    ActionChunk,
    Condition,
    ConventionError,
    HiervlaError,
    Observation,
    Resources,
    SkillSignature,
    Step,
    Verdict,
    Waypoint3D,
)
from hiervla.skills.base import Approach, Skill
from hiervla.skills.checks import reachable
from hiervla.skills.context import Belief, SkillContext
from hiervla.skills.errors import SkillArgumentError, SkillDefinitionError, SkillFailedError
from hiervla.skills.motion import MotionPolicy, Waypoint
from hiervla.skills.parameters import Arguments, arguments_of
from hiervla.skills.policy import FunctionPolicy, OwnPolicy, PolicySource, policy_name
from hiervla.skills.recovery import Recovery
from hiervla.skills.termination import Termination, verdict_of

Motion = Iterable[Waypoint | Waypoint3D] | ActionChunk | None
Check = Callable[[SkillContext], Verdict | bool]
ApproachSource = Approach | Callable[[SkillContext], Approach]
EffectSource = Belief | Callable[[SkillContext], Belief]


class FunctionSkill(Skill):
    """What ``@skill`` makes of a function. Like every skill it is constructed once and keeps no state of a run."""

    def __init__(
        self,
        function: Callable[..., Motion],
        signature: SkillSignature,
        arguments: Arguments,
        *,
        policy: str | None,
        termination: Termination | None,
        checks: dict[str, Check | None],
        approach: ApproachSource,
        effect: EffectSource | None,
        recovery: Recovery,
        timeout_s: float,
        naive_s: float,
    ) -> None:
        self.signature = signature
        self.recovery = recovery
        self.timeout_s = timeout_s
        self.naive_s = naive_s
        self.policy = OwnPolicy(signature.name, self._own) if policy is None else policy
        self.function = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self._arguments = arguments
        self._termination = termination
        self._checks = checks
        self._approach = approach
        self._effect = effect

    def approach(self, context: SkillContext) -> Approach:
        """The hover that was given."""
        return self._approach(context) if callable(self._approach) else self._approach

    def ready(self, context: SkillContext) -> Verdict:
        """Its arguments make sense, and then what was given; by default that the keypoint is within reach."""
        try:
            self._arguments.read(context.step.args)
        except ConventionError as error:
            evidence: dict[str, float | str | bool] = {error.field: error.problem}
            return Verdict(name="arguments", value="no", evidence=evidence)
        return self._ask("ready", context) or reachable(context.target_w)

    def holds(self, context: SkillContext) -> Verdict | None:
        """The invariant that was given, if any."""
        return self._ask("holds", context)

    def done(self, context: SkillContext) -> Verdict:
        """What was given; by default unsure, so that the policy's own end decides."""
        return self._ask("done", context) or Verdict(name="not_checked", value="unsure", confidence=0.0)

    def lasts(self, context: SkillContext) -> Verdict | None:
        """What was given, if anything."""
        return self._ask("lasts", context)

    def effect(self, context: SkillContext) -> Belief:
        """The belief that was given; by default it stays as it is."""
        if self._effect is None:
            return context.belief
        return self._effect(context) if callable(self._effect) else self._effect

    @property
    def termination(self) -> Termination:
        """What was given; by default the policy's done-head or the timer."""
        return super().termination if self._termination is None else self._termination

    def describe(self, verb: str) -> str:
        """What decides a verb of the contract, in words."""
        check = self._checks[verb]
        if check is not None:
            return f"as {check.__module__}:{getattr(check, '__qualname__', type(check).__name__)} says"
        defaults = {"ready": "the keypoint is within reach", "holds": "nothing", "done": "the policy's own end decides"}
        defaults["lasts"] = "not looked for again"
        return defaults[verb]

    def _ask(self, name: str, context: SkillContext) -> Verdict | None:
        check = self._checks[name]
        if check is None:
            return None
        try:
            answer = check(context)
        except HiervlaError:
            raise
        except Exception as error:  # a stranger's function may raise anything; a run has to end with its name
            raise SkillFailedError(self.name, name, error) from error
        if isinstance(answer, Verdict):
            return answer
        label = getattr(check, "__name__", name).strip("_")
        return verdict_of(name if label == "<lambda>" else label, bool(answer))

    def _call(self, observation: Observation, step: Step) -> Motion:
        try:
            arguments = self._arguments.read(step.args)
        except ConventionError as error:
            raise SkillArgumentError(step.id, self.name, str(error)) from None
        context = SkillContext(step=step, before=observation, proprio=observation.proprio)
        try:
            motion = self.function(context, **arguments)
            # A generator runs only when it is asked for its waypoints.
            return motion if motion is None or isinstance(motion, ActionChunk) else tuple(motion)
        except HiervlaError:
            raise
        except Exception as error:  # a stranger's function may raise anything; a run has to end with its name
            raise SkillFailedError(self.name, "motion", error) from error

    def _waypoints(self, observation: Observation, step: Step) -> Iterable[Waypoint | Waypoint3D]:
        motion = self._call(observation, step)
        if motion is None or isinstance(motion, ActionChunk):
            raise SkillDefinitionError(
                self.name, "function", f"returned {motion!r} and not waypoints", "Return, or yield, Waypoint objects"
            )
        return motion

    def _chunk(self, observation: Observation, step: Step) -> ActionChunk:
        motion = self._call(observation, step)
        if not isinstance(motion, ActionChunk):
            raise SkillDefinitionError(
                self.name, "function", f"returned {motion!r} and not an ActionChunk", "Return what it is annotated with"
            )
        return motion

    def _own(self) -> MotionPolicy | FunctionPolicy:
        # A function that says that it answers with chunks is asked for each; any other for its waypoints, once.
        returns = inspect.signature(self.function, eval_str=True).return_annotation
        if returns is ActionChunk:
            return FunctionPolicy(self.name, self._chunk)
        return MotionPolicy(self.name, self._waypoints)


@overload
def skill(function: Callable[..., Motion], /) -> FunctionSkill: ...


@overload
def skill(
    *,
    name: str | None = None,
    ready: Check | None = None,
    holds: Check | None = None,
    done: Check | None = None,
    lasts: Check | None = None,
    effect: EffectSource | None = None,
    approach: ApproachSource = ...,
    policy: PolicySource | None = None,
    termination: Termination | None = None,
    recovery: Recovery = ...,
    accepts: Sequence[str] = ...,
    resources: Resources = ...,
    preconditions: Sequence[Condition] = (),
    postconditions: Sequence[Condition] = (),
    timeout_s: float = ...,
    naive_s: float = ...,
) -> Callable[[Callable[..., Motion]], FunctionSkill]: ...


def skill(
    function: Callable[..., Motion] | None = None,
    /,
    *,
    name: str | None = None,
    ready: Check | None = None,
    holds: Check | None = None,
    done: Check | None = None,
    lasts: Check | None = None,
    effect: EffectSource | None = None,
    approach: ApproachSource = Approach(),  # noqa: B008  # frozen
    policy: PolicySource | None = None,
    termination: Termination | None = None,
    recovery: Recovery = Recovery(),  # noqa: B008  # frozen
    accepts: Sequence[str] = ("keypoints",),
    resources: Resources = Resources(),  # noqa: B008  # frozen
    preconditions: Sequence[Condition] = (),
    postconditions: Sequence[Condition] = (),
    timeout_s: float = 10.0,
    naive_s: float = 6.0,
) -> FunctionSkill | Callable[[Callable[..., Motion]], FunctionSkill]:
    """Make a skill of a function ``(context, typed parameters ...) -> motion``.

    The function returns, or yields, waypoints of the tool, chosen once when the arm hovers above the keypoint; or,
    where its return annotation is :class:`ActionChunk`, it is asked for a chunk every 0.8 s. With ``policy`` it is not
    called: its annotations and docstring declare the skill, and the policy acts.

    Args:
        function: what is decorated.
        name: what plans call it; the function's name by default.
        ready: may it start? By default, the keypoint is within reach.
        holds: what must stay true while it runs.
        done: did it work? Asked when the arm is home again, with ``context.after``; by default unsure, which lets the
            policy's own end decide.
        lasts: does the effect still hold? Asked at the end of a run, likewise with ``context.after``.
        effect: the executor's belief after success; by default unchanged.
        approach: the hover from which it starts.
        policy: a policy instead of the function's own motion; see :data:`PolicySource`.
        termination: when the policy's part ends; by default its done-head or the timer.
        recovery: what to do after a failed attempt.
        accepts: kinds of artifact that it can use.
        resources: arms and cameras that it occupies.
        preconditions: what has to hold before, in words for the planner; ``{object}`` stands for an argument.
        postconditions: what holds after success, in the same words.
        timeout_s: limit for the policy's part [s].
        naive_s: its length when a loop without termination runs it on a fixed timer [s].

    Raises:
        SkillDefinitionError: the function's name, docstring or annotations make no signature.
    """

    def make(function: Callable[..., Motion]) -> FunctionSkill:
        called = name or str(getattr(function, "__name__", ""))
        doc = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split()).rstrip(".")
        if not doc:
            remedy = "Give it a docstring: its first sentence is what the planner reads"
            raise SkillDefinitionError(called, "docstring", "there is none", remedy)
        arguments = arguments_of(function, called)
        try:
            signature = SkillSignature(
                name=called,
                doc=doc[0].lower() + doc[1:],
                params=arguments.params,
                accepts=tuple(accepts),
                preconditions=tuple(preconditions),
                postconditions=tuple(postconditions),
                resources=resources,
            )
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            remedy = "Names are lower case letters, digits and underscores"
            raise SkillDefinitionError(called, place, str(problem["msg"]), remedy) from None
        return FunctionSkill(
            function,
            signature,
            arguments,
            policy=None if policy is None else policy_name(called, policy),
            termination=termination,
            checks={"ready": ready, "holds": holds, "done": done, "lasts": lasts},
            approach=approach,
            effect=effect,
            recovery=recovery,
            timeout_s=timeout_s,
            naive_s=naive_s,
        )

    return make if function is None else make(function)
