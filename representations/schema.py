"""JSON Schema of every public type, for people and programs that read our records without Python."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from hiervla.representations._base import SCHEMA_VERSION
from hiervla.representations.actions import ActionChunk, JointCommand
from hiervla.representations.artifacts import Artifact
from hiervla.representations.errors import UnknownNameError
from hiervla.representations.events import Event
from hiervla.representations.observations import Observation
from hiervla.representations.plans import Plan, PlannerAnswer, Refusal, Step, Verdict
from hiervla.representations.signatures import SkillSignature

SCHEMA_TYPES: dict[str, Any] = {
    "observation": Observation,
    "artifact": Artifact,
    "step": Step,
    "plan": Plan,
    "refusal": Refusal,
    "planner_answer": PlannerAnswer,
    "verdict": Verdict,
    "action_chunk": ActionChunk,
    "joint_command": JointCommand,
    "event": Event,
    "skill_signature": SkillSignature,
}
"""Names that ``hiervla schema NAME`` takes, and the types behind them."""


def json_schemas(*names: str) -> dict[str, Any]:
    """JSON Schemas (draft 2020-12) by name; all of them when no name is given.

    Raises:
        UnknownNameError: a name that is none of :data:`SCHEMA_TYPES`.
    """
    for name in names:
        if name not in SCHEMA_TYPES:
            raise UnknownNameError("schema", name, SCHEMA_TYPES)
    wanted = names or tuple(SCHEMA_TYPES)
    return {
        "hiervla_schema_version": SCHEMA_VERSION,
        **{name: TypeAdapter(SCHEMA_TYPES[name]).json_schema(mode="serialization") for name in wanted},
    }
