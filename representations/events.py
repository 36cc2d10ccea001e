"""Events: the flat, typed facts that a run record holds, in the order in which they happened.

Field names that start with ``wall_`` (and ``latency_s`` in a provenance) are measured on the computer's clock; all
else is a function of the inputs and the seed, so two runs with the same seed agree on it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, TypeAdapter

from hiervla.representations._base import SCHEMA_VERSION, Sha256, Typed, Vec3
from hiervla.representations.actions import ActionChunk
from hiervla.representations.artifacts import Artifact, ImageRef
from hiervla.representations.plans import Plan, Refusal, RunOutcome, Step, StepOutcome, Verdict


class EventBase(Typed):
    """What every event has."""

    id: str = Field(description="'e' and the sequence number, unique in its run")
    parent: str | None = Field(default=None, description="id of the event that this one belongs to")
    time_s: FiniteFloat = Field(description="the world's clock [s]")
    wall_time_s: FiniteFloat = Field(
        default=0.0, description="seconds since the epoch on the computer's clock"
    )
    version: Literal[1] = SCHEMA_VERSION


class FrameRecord(Typed):
    """A camera frame by reference: its image and depth are blobs of the record."""

    image: ImageRef
    rgb_blob: Sha256
    depth_blob: Sha256 | None = None
    K: tuple[tuple[float, ...], ...]
    T_world_camera: tuple[tuple[float, ...], ...]


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
    purpose: Literal["plan", "ground", "ready", "act", "verify"]
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


class PlanRejected(EventBase):
    """A planner's attempt that did not pass the checks."""

    type: Literal["plan_rejected"] = "plan_rejected"
    raw_text: str
    problem: str


class PlanRefused(EventBase):
    """The planner's polite no."""

    type: Literal["plan_refused"] = "plan_refused"
    refusal: Refusal


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


class VerdictGiven(EventBase):
    """A contract check, before (ready), during or after (done) a step."""

    type: Literal["verdict"] = "verdict"
    step_id: str
    phase: Literal["ready", "during", "done"]
    verdict: Verdict


class TransitPlanned(EventBase):
    """A collision-free motion to a pose."""

    type: Literal["transit"] = "transit"
    step_id: str
    purpose: Literal["approach", "home", "retreat"]
    target_position_w: Vec3 | None = None
    method: str
    duration_s: float
    wall_latency_s: float = 0.0


class ChunkProposed(EventBase):
    """A policy's action chunk, written before it is tracked."""

    type: Literal["chunk"] = "chunk"
    step_id: str
    index: NonNegativeInt
    chunk: ActionChunk
    staleness_s: float = Field(description="age of its observation when tracking of the chunk begins [s]")
    wall_latency_s: float = 0.0


class StepFinished(EventBase):
    """An attempt at a step ended."""

    type: Literal["step_finished"] = "step_finished"
    step_id: str
    attempt: NonNegativeInt
    outcome: StepOutcome
    reason: str = ""
    duration_s: float = Field(description="on the world's clock [s]")


class EnvelopeFired(EventBase):
    """The safety envelope limited or refused a command."""

    type: Literal["envelope"] = "envelope"
    check: str
    action: Literal["limited", "refused", "stopped", "reset"]
    message: str


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
    | PlanRefused
    | StepStarted
    | Grounded
    | VerdictGiven
    | TransitPlanned
    | ChunkProposed
    | StepFinished
    | EnvelopeFired
    | Note
    | RunFinished
    | RecordSealed,
    Field(discriminator="type"),
]
"""Any event; ``type`` says which."""

EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
"""Parses any event: ``EVENT_ADAPTER.validate_json(line)``."""
