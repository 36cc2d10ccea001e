"""The typed vocabulary of hiervla: observations, plans, artifacts, actions, events. Imports nothing else of ours."""

from __future__ import annotations

from hiervla.representations._arrays import Array
from hiervla.representations._base import SCHEMA_VERSION, Typed, build_types
from hiervla.representations.actions import ActionChunk, JointCommand
from hiervla.representations.artifacts import (
    ARTIFACT_ADAPTER,
    ARTIFACT_KINDS,
    AffordanceMap,
    Artifact,
    ArtifactKind,
    Box,
    Boxes,
    Constraint,
    Constraints,
    ImageRef,
    Keypoint,
    Keypoints,
    LanguageMotion,
    Program,
    Provenance,
    SubtaskList,
    ValueMap,
    Waypoint2D,
    Waypoint3D,
    Waypoints2D,
    Waypoints3D,
)
from hiervla.representations.errors import (
    CameraError,
    CheckpointError,
    ConventionError,
    HiervlaError,
    MissingDependencyError,
    PlanError,
    SnapshotError,
    UnknownNameError,
)
from hiervla.representations.events import EVENT_ADAPTER, Event
from hiervla.representations.observations import CameraFrame, Observation, Proprioception
from hiervla.representations.plans import Condition, Plan, PlannerAnswer, Refusal, Step, Verdict
from hiervla.representations.scene import SeenThing
from hiervla.representations.schema import SCHEMA_TYPES, json_schemas
from hiervla.representations.signatures import Parameter, Resources, SkillSignature

__all__ = [
    "ARTIFACT_ADAPTER",
    "ARTIFACT_KINDS",
    "EVENT_ADAPTER",
    "SCHEMA_TYPES",
    "SCHEMA_VERSION",
    "ActionChunk",
    "AffordanceMap",
    "Array",
    "Artifact",
    "ArtifactKind",
    "Box",
    "Boxes",
    "CameraError",
    "CameraFrame",
    "CheckpointError",
    "Condition",
    "Constraint",
    "Constraints",
    "ConventionError",
    "Event",
    "HiervlaError",
    "ImageRef",
    "JointCommand",
    "Keypoint",
    "Keypoints",
    "LanguageMotion",
    "MissingDependencyError",
    "Observation",
    "Parameter",
    "Plan",
    "PlanError",
    "PlannerAnswer",
    "Program",
    "Proprioception",
    "Provenance",
    "Refusal",
    "Resources",
    "SeenThing",
    "SkillSignature",
    "SnapshotError",
    "Step",
    "SubtaskList",
    "Typed",
    "UnknownNameError",
    "ValueMap",
    "Verdict",
    "Waypoint2D",
    "Waypoint3D",
    "Waypoints2D",
    "Waypoints3D",
    "build_types",
    "json_schemas",
]
