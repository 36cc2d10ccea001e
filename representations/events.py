"""Events: the flat, typed facts that a run record holds, in the order in which they happened.

Field names that start with ``wall_`` (and ``latency_s`` in a provenance) are measured on the computer's clock; all
else is a function of the inputs and the seed, so two runs with the same seed agree on it.
"""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, TypeAdapter, model_validator

from hiervla.representations._base import SCHEMA_VERSION, Sha256, Typed, Vec3
from hiervla.representations.actions import ActionChunk
from hiervla.representations.artifacts import Artifact, ImageRef
from hiervla.representations.plans import Plan, Refusal, RunOutcome, Step, StepOutcome, Verdict
from hiervla.representations.scene import SeenThing


class EventBase(Typed):
    """What every event has."""

    id: str = Field(description="'e' and the sequence number, unique in its run")
    parent: str | None = Field(default=None, description="id of the event that this one belongs to")
    time_s: FiniteFloat = Field(description="the world's clock [s]")
    wall_time_s: FiniteFloat = Field(default=0.0, description="seconds since the epoch on the computer's clock")
    version: Literal[1] = SCHEMA_VERSION


class FrameRecord(Typed):
    """A camera frame by reference: its image and depth are blobs of the record."""

    image: ImageRef
    rgb_blob: Sha256
    depth_blob: Sha256 | None = None
    K: tuple[tuple[float, ...], ...]
    T_world_camera: tuple[tuple[float, ...], ...]


Told = Annotated[
    dict[str, str] | None,
    Field(description="what the part that answers was told, in short; None in records that did not keep it"),
]

DecisionKind = Literal["plan", "step", "keypoints", "ready", "chunk", "done", "outcome"]
"""What can be looked at, held and corrected: the planner's answer, the step about to start, its grounded artifacts,
whether it may start, a policy's chunk, whether it is done, and how the attempt is taken to have ended."""


class RunStarted(EventBase):
    """The first event: what was asked of whom."""

    type: Literal["run_started"] = "run_started"
    instruction: str
    world: str
    planner: str
    policy: str
    seed: int
    config: dict[str, Any] = Field(default_factory=dict)


class ObservationTaken(EventBase):
    """An observation that a decision is about to use."""

    type: Literal["observation"] = "observation"
    purpose: Literal["plan", "ground", "ready", "move", "act", "verify"]
    frames: tuple[FrameRecord, ...]
    q: tuple[float, ...]
    dq: tuple[float, ...]
    gripper_width_m: float
    gripper_effort_n: float = 0.0
    T_world_ee: tuple[tuple[float, ...], ...] = Field(description="(4, 4) pose of the tool centre point")
    sensed_at_s: FiniteFloat = Field(description="time of the proprioception [s]")
    observed_at_s: FiniteFloat


class SnapshotTaken(EventBase):
    """The physical state at a decision, as the world's own opaque bytes."""

    type: Literal["snapshot"] = "snapshot"
    blob: Sha256
    label: str
    ticks: NonNegativeInt = Field(default=0, description="control ticks on record before it was taken")


class PlanProposed(EventBase):
    """The planner's plan; a replan re-emits done and remaining steps."""

    type: Literal["plan_proposed"] = "plan_proposed"
    plan: Plan
    reason: str = Field(default="initial", description="why the planner was asked")
    wall_latency_s: float = 0.0
    told: Told = None


class PlanRejected(EventBase):
    """A planner's attempt that did not pass the checks."""

    type: Literal["plan_rejected"] = "plan_rejected"
    raw_text: str
    problem: str
    plan: Plan | None = Field(
        default=None, description="the plan, where it could be read but did not pass the checks before the first motion"
    )
    step: NonNegativeInt = Field(default=0, description="index among its remaining steps of the one that is wrong")


class ArtifactsAged(EventBase):
    """The image that a step's artifacts were found in is too old to act upon; they are found anew."""

    type: Literal["artifacts_aged"] = "artifacts_aged"
    step_id: str
    age_s: float = Field(description="age of the observation on the world's clock [s]")


class PlanRefused(EventBase):
    """The planner's polite no."""

    type: Literal["plan_refused"] = "plan_refused"
    refusal: Refusal
    told: Told = None


class PlannerFailed(EventBase):
    """The planner gave no answer; the arm stands still at rest, inside the envelope, until it is asked again."""

    type: Literal["planner_failed"] = "planner_failed"
    planner: str
    problem: str
    message: str = Field(description="the error in full, with the remedy")
    passing: bool = Field(description="whether it may answer when it is asked again later")
    then: Literal["again", "other", "end"] = Field(
        description="the same planner is asked again, another one takes over, or the run ends here and can be resumed"
    )
    wait_s: float = Field(default=0.0, description="how long the arm is held before that [s]")
    other: str = Field(default="", description="who takes over")
    told: Told = None

    def __str__(self) -> str:
        """What happened and what is done about it, in one sentence."""
        next_ = {
            "again": f"the arm is held still for {self.wait_s:g} s, then it is asked again",
            "other": f"{self.other} takes over",
            "end": "the run ends here",
        }
        return f"planner '{self.planner}' gives no answer ({self.problem}): {next_[self.then]}"


class PlanStale(EventBase):
    """The planner does not find in a new image what comes next in its plan; a new plan is asked for."""

    type: Literal["plan_stale"] = "plan_stale"
    step_id: str = Field(description="the step that would come next")
    wall_latency_s: float = 0.0
    told: Told = None


class StepStarted(EventBase):
    """An attempt at a step begins."""

    type: Literal["step_started"] = "step_started"
    step: Step
    attempt: NonNegativeInt


class Grounded(EventBase):
    """An artifact of a step was found in the current image and lifted to the world."""

    type: Literal["grounded"] = "grounded"
    step_id: str
    artifacts: tuple[Artifact, ...]
    told: Told = None


class GroundingFailed(EventBase):
    """An artifact of a step could not be taken at its word; nothing moved for it."""

    type: Literal["grounding_failed"] = "grounding_failed"
    step_id: str
    problem: str
    message: str = Field(description="the error in full, with the remedy")
    told: Told = None


class VerdictGiven(EventBase):
    """A contract check.

    Ready before a step, invariant and during (time to stop?) at chunk ends, done after it;
    lasting at the end of a run: does the effect still hold?
    """

    type: Literal["verdict"] = "verdict"
    step_id: str
    phase: Literal["ready", "invariant", "during", "done", "lasting"]
    verdict: Verdict
    told: Told = None


class TransitPlanned(EventBase):
    """A collision-free motion to a pose."""

    type: Literal["transit"] = "transit"
    step_id: str
    purpose: Literal["approach", "home", "retreat"]
    target_position_w: Vec3 | None = None
    method: str
    duration_s: float
    ticks: NonNegativeInt = Field(description="control ticks that the motion takes")
    wall_latency_s: float = 0.0


class TransitFailed(EventBase):
    """No motion to a pose was found; the arm stays where it is."""

    type: Literal["transit_failed"] = "transit_failed"
    step_id: str
    purpose: Literal["approach", "home", "retreat"]
    error: Literal["no_path", "unreachable"]
    message: str
    wall_latency_s: float = 0.0


class ChunkProposed(EventBase):
    """A policy's action chunk, written before it is tracked; the last one of a step is only asked if it is done."""

    type: Literal["chunk"] = "chunk"
    step_id: str
    index: NonNegativeInt
    chunk: ActionChunk
    staleness_s: float = Field(description="age of its observation when tracking of the chunk begins [s]")
    wall_latency_s: float = 0.0
    told: Told = None


class StepFinished(EventBase):
    """An attempt at a step ended."""

    type: Literal["step_finished"] = "step_finished"
    step_id: str
    attempt: NonNegativeInt
    outcome: StepOutcome
    reason: str = ""
    duration_s: float = Field(description="on the world's clock [s]")


class ProgramCalled(EventBase):
    """A program is suspended at a call of a skill or of perception, which is about to be carried out."""

    type: Literal["program_called"] = "program_called"
    call: NonNegativeInt = Field(
        description="number of the call in the run, from 1; a skill's step is called 'c' and it"
    )
    function: str
    args: dict[str, str]
    line: NonNegativeInt = Field(description="line of the program's text, from 1; 0 for a text that it made itself")
    start: NonNegativeInt = Field(description="where the call begins in the text's UTF-8 bytes")
    end: NonNegativeInt = Field(description="where it ends, exclusive")
    skill: str = Field(default="", description="the saved skill whose program makes the call; empty for the plan's")
    printed: str = Field(default="", description="what the program printed since the call before")
    snapshot: Sha256 = Field(description="the sandbox's own state at the call; evidence, never loaded")


class SceneSeen(EventBase):
    """What the planner's vision makes of an image, for a program that asked."""

    type: Literal["scene_seen"] = "scene_seen"
    things: tuple[SeenThing, ...]
    wall_latency_s: float = 0.0


class ProgramReturned(EventBase):
    """A call's result goes into the program, which goes on."""

    type: Literal["program_returned"] = "program_returned"
    call: NonNegativeInt
    value: bool | int | str | tuple[str, ...] | None = Field(default=None, description="what perception answered")
    outcome: StepOutcome | None = Field(default=None, description="how a skill's step ended")
    message: str = ""


class ProgramEnded(EventBase):
    """A program came to its end, said that it gives up, or broke."""

    type: Literal["program_ended"] = "program_ended"
    how: Literal["finished", "gave_up", "failed"]
    message: str
    line: NonNegativeInt | None = Field(default=None, description="the line where it broke")
    printed: str = ""
    calls: NonNegativeInt = Field(description="calls in the run so far")


class ResourcesClaimed(EventBase):
    """A step needs what another arm may need too: it waits, has it for itself, or has let it go."""

    type: Literal["resources"] = "resources"
    arm: str
    step_id: str
    state: Literal["waiting", "granted", "released", "dropped"] = Field(
        description="dropped: what it waits for does not come any more; the step is left out"
    )
    resources: tuple[str, ...] = Field(description="such as 'arm:left' or 'space:bin'")
    blocked_by: tuple[str, ...] = Field(default=(), description="what stands in the way, in words")


class EnvelopeFired(EventBase):
    """The safety envelope limited or refused a command."""

    type: Literal["envelope"] = "envelope"
    check: str
    action: Literal["limited", "refused", "stopped", "reset"]
    message: str


class Paused(EventBase):
    """Somebody holds the run before a decision takes effect; the arm stands still inside the envelope."""

    type: Literal["paused"] = "paused"
    decision: DecisionKind
    step_id: str | None = None


class Resumed(EventBase):
    """The run goes on."""

    type: Literal["resumed"] = "resumed"
    decision: DecisionKind
    ticks: NonNegativeInt = Field(description="control ticks that the arm was held for")


class CorrectionGiven(EventBase):
    """A person changed a decision before it took effect; it is also a sample to learn from.

    Exactly one of the fields after ``decision`` says what takes the place of what was decided.
    """

    type: Literal["correction"] = "correction"
    decision: DecisionKind
    step_id: str | None = None
    author: str = Field(default="person", description="who or what corrected")
    text: str | None = Field(default=None, description="words to replan by, such as 'no, the blue one'")
    plan: Plan | None = None
    step: Step | None = Field(default=None, description="the step with its arguments and artifacts as corrected")
    verdict: Verdict | None = None
    chunk: ActionChunk | None = None
    outcome: StepOutcome | None = Field(default=None, description="how the step is taken to have ended")

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [n for n in ("text", "plan", "step", "verdict", "chunk", "outcome") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"a correction is one of text, plan, step, verdict, chunk, outcome; this one has {given}")
        return self


class Forked(EventBase):
    """From here on the run is another one than its parent, whose events up to here it repeats."""

    type: Literal["forked"] = "forked"
    parent_run: str = Field(description="run id of the parent")
    parent_line: Sha256 = Field(description="hash of the parent's last line that is repeated here")
    snapshot: Sha256 = Field(description="the physical state that was restored")


class Note(EventBase):
    """Something worth reading that steers nothing, such as a swallowed error of a subscriber."""

    type: Literal["note"] = "note"
    level: Literal["info", "warning", "error"]
    message: str


class RunFinished(EventBase):
    """The run's outcome; after it nothing moves."""

    type: Literal["run_finished"] = "run_finished"
    outcome: RunOutcome
    message: str
    done: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()


class RecordSealed(EventBase):
    """The last line of a record that was closed: what the files beside the events held by then."""

    type: Literal["record_sealed"] = "record_sealed"
    streams_sha256: Sha256
    ticks: NonNegativeInt = Field(description="control ticks in the streams")


Event = Annotated[
    RunStarted
    | ObservationTaken
    | SnapshotTaken
    | PlanProposed
    | PlanRejected
    | ArtifactsAged
    | PlanRefused
    | PlannerFailed
    | PlanStale
    | StepStarted
    | Grounded
    | GroundingFailed
    | VerdictGiven
    | TransitPlanned
    | TransitFailed
    | ChunkProposed
    | StepFinished
    | ProgramCalled
    | SceneSeen
    | ProgramReturned
    | ProgramEnded
    | ResourcesClaimed
    | EnvelopeFired
    | Paused
    | Resumed
    | CorrectionGiven
    | Forked
    | Note
    | RunFinished
    | RecordSealed,
    Field(discriminator="type"),
]
"""Any event; ``type`` says which."""

EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))
"""Parses any event: ``EVENT_ADAPTER.validate_json(line)``."""
