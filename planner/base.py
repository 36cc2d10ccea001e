"""The one interface of all planners, and what they are told of the run so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from hiervla.representations import ArtifactKind, HiervlaError, Observation, Plan, Refusal, SkillSignature, Step
from hiervla.representations.plans import StepOutcome


class GroundingError(HiervlaError):
    """An artifact that does not stand on anything in the image, or cannot be lifted to the world.

    Attributes:
        step: id of the step.
        problem: what is wrong, in words.
    """

    def __init__(self, step: str, problem: str, remedy: str = "Look again and replan") -> None:
        super().__init__(f"step {step}: {problem}. {remedy}.")
        self.step = step
        self.problem = problem


class PlannerFailedError(HiervlaError):
    """A planner that gives no answer, whatever it is asked: it cannot be reached, breaks off, or writes nonsense.

    It says nothing of the task; a :class:`Refusal` does that.

    Attributes:
        planner: id of the planner.
        problem: what happened, in words.
        remedy: what to do, in words.
        passing: whether the same question may be answered when it is asked again a little later.
    """

    passing: bool = False

    def __init__(self, planner: str, problem: str, remedy: str, *, passing: bool | None = None) -> None:
        super().__init__(f"planner '{planner}' gives no answer: {problem}. {remedy}.")
        self.planner = planner
        self.problem = problem
        self.remedy = remedy
        if passing is not None:
            self.passing = passing


@dataclass(frozen=True)
class StepRecord:
    """One attempt at a step, as the planner is told of it.

    Attributes:
        step: the step as it was attempted.
        outcome: how it ended.
        source: for a pick, where the thing was taken from, in words; else empty.
    """

    step: Step
    outcome: StepOutcome
    source: str = ""


@dataclass(frozen=True)
class Objection:
    """What speaks against an answer that the planner gave to this very question; it is asked to do better.

    Attributes:
        raw_text: the answer, as the model wrote it.
        problem: what is wrong with it, in words.
        step: index among its remaining steps of the one that is wrong.
    """

    raw_text: str
    problem: str
    step: int = 0


@dataclass(frozen=True)
class Remembered:
    """Something that was seen before and is not in view now.

    Attributes:
        name: the planner's name of it, such as "blue block".
        place: where it was put or last seen, in the planner's words ("drawer"); "" when that is not known.
        seen_s: when it was last seen, on the world's clock [s].
    """

    name: str
    place: str
    seen_s: float


@dataclass(frozen=True)
class PlannerContext:
    """What the planner is told besides observation and instruction.

    Attributes:
        history: every attempt so far, in order.
        skills: signatures of the live skill library; nothing else can be planned.
        seed: seed of any sampling.
        said: what a person has said since the instruction, in order, such as "no, the blue one".
        unseen: what was seen before and is out of sight now, the thing seen last first.
        objections: what was wrong with its earlier answers to this question, oldest first.
        may_ask: whether somebody can be asked what is meant: then a refusal as ambiguous is better than a guess.
        emit: the kind of intermediate that steps shall carry where their skill takes it; None leaves it to the planner.
    """

    history: tuple[StepRecord, ...] = ()
    skills: tuple[SkillSignature, ...] = ()
    seed: int = 0
    said: tuple[str, ...] = ()
    unseen: tuple[Remembered, ...] = ()
    objections: tuple[Objection, ...] = ()
    emit: ArtifactKind | None = None
    may_ask: bool = False


@dataclass(frozen=True)
class RejectedAttempt:
    """An answer of the model that did not pass the checks; it belongs on the record."""

    raw_text: str
    problem: str


@runtime_checkable
class Planner(Protocol):
    """Looks at an observation and an instruction, and answers with a plan or a refusal.

    Attributes:
        rejected: attempts of the last :meth:`plan` or :meth:`refresh` that did not pass the checks.

    A planner may have a further attribute ``looks_over``; where that is True, it is asked for a plan once more when all
    steps are done, and what it still finds to do is done.
    """

    rejected: tuple[RejectedAttempt, ...]

    @property
    def id(self) -> str:
        """Name and version; every plan carries it."""
        ...

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """A plan whose remaining steps lead from here to the goal, or a polite no.

        Raises:
            CameraError: the camera that the planner needs is not in the observation.
            PlannerFailedError: there is no answer; the loop asks again, or asks another planner.
        """
        ...

    def refresh(self, observation: Observation, plan: Plan, context: PlannerContext) -> Plan | None:
        """The same plan, done and remaining steps as given, with artifacts found anew in this observation.

        This is how a plan that goes well is followed: its steps stand, and what they point at is looked for again.

        Returns:
            None when what the next step speaks of is not in view; then ask for a new plan.

        Raises:
            PlannerFailedError: there is no answer.
        """
        ...

    def ground(self, observation: Observation, step: Step) -> Step:
        """The step with its keypoints lifted to the world frame.

        Args:
            observation: the observation that the step's artifacts were computed from.
            step: a step of this planner's last plan.

        Raises:
            GroundingError: the artifact stands on nothing, or its image is another one.
            CameraError: the camera gives no depth.
        """
        ...


def make_planner(name: str, **options: Any) -> Planner:
    """A planner by name; `docs/planners.md` has the names.

    Args:
        name: ``"embedded"``, the folder of a checkpoint, ``"transformers:FOLDER_OR_HUB_ID"``, or
            ``"openai:MODEL@http://host:port/v1"``, where without ``@...`` the URL is taken from ``HIERVLA_BASE_URL``.
        options: go to the planner, such as ``camera``; for a vision-language model also to its backend.

    Raises:
        UnknownNameError: neither a known planner nor a folder.
        PlannerNameError: the name is of a known kind, but incomplete.
        CheckpointError: weights cannot be read.
    """
    from hiervla.planner.names import planner_of_name

    return planner_of_name(name, **options)
