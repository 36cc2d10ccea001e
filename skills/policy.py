"""What runs a skill: the interface of all policies, and how a skill brings one of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, Self, cast, runtime_checkable

from hiervla.representations import ActionChunk, Observation, Step
from hiervla.skills.errors import SkillDefinitionError


@runtime_checkable
class Policy(Protocol):
    """Turns an observation and the step at hand into a chunk of end-effector targets.

    A policy sees observations and the step's artifacts only; it has no access to a world.
    """

    @property
    def id(self) -> str:
        """Name and version, such as ``"flow-1"``; every chunk carries it."""
        ...

    def reset(self, step: Step, seed: int) -> None:
        """Start a new attempt at `step`; all randomness until the next reset follows from `seed`."""
        ...

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """The next chunk.

        Raises:
            MissingTargetError: the step carries no grounded keypoint.
            CameraError: a camera that the policy needs is missing or gives no depth.
        """
        ...


ActFunction = Callable[[Observation, Step], ActionChunk]
"""The smallest policy: what to do next, from an observation and the step alone."""

PolicySource = str | Policy | Callable[[], Policy] | ActFunction
"""What may stand as a skill's policy: a registered name, a policy, a factory of one, or a function that acts."""


class OwnPolicy(str):
    """A policy's name that knows how to make the policy: the skill's own, which nobody had to register.

    It goes wherever a name goes, into records and listings, and ``make_policy`` calls its factory instead of looking
    it up. Names begin with ``own:``, which no registered policy may.
    """

    make: Callable[[], Policy]

    def __new__(cls, skill: str, make: Callable[[], Policy]) -> Self:
        """Name the policy after its skill."""
        name = super().__new__(cls, f"own:{skill}")
        name.make = make
        return name


class FunctionPolicy:
    """A policy made of one function of observation and step, without memory between calls."""

    def __init__(self, name: str, act: ActFunction) -> None:
        self._name = name
        self._act = act

    @property
    def id(self) -> str:
        """Name of the skill that it belongs to."""
        return self._name

    def reset(self, step: Step, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation, step: Step) -> ActionChunk:
        """What the function answers, signed."""
        chunk = self._act(observation, step)
        return chunk if chunk.policy else chunk.replace(policy=self._name)


def policy_name(skill: str, source: PolicySource) -> str:
    """The name under which the executor can have a skill's policy made.

    Args:
        skill: name of the skill.
        source: see :data:`PolicySource`. Prefer a factory, such as a class, to a ready-made policy whose weights
            would be loaded when the skill is constructed.

    Raises:
        SkillDefinitionError: it is none of these.
    """
    if isinstance(source, str):
        return source
    # A class has the policy's methods too, so it must not be taken for a policy itself.
    if isinstance(source, Policy) and not inspect.isclass(source):
        return OwnPolicy(skill, lambda: source)
    if callable(source):
        # What distinguishes a factory from a function that acts is how many arguments it needs.
        needed = _required(source)
        if needed == 0:
            return OwnPolicy(skill, cast(Callable[[], Policy], source))
        if needed == 2:
            act = cast(ActFunction, source)
            return OwnPolicy(skill, lambda: FunctionPolicy(skill, act))
    raise SkillDefinitionError(
        skill,
        "policy",
        f"{source!r} is no policy",
        "Give a name, an object with id, reset and act, a factory of one, or a function (observation, step) -> chunk",
    )


def _required(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    fixed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in fixed and p.default is inspect.Parameter.empty for p in parameters)
