"""What a GR00T server's keys mean for our arm, declared as data, and the conventions that have been published.

A server says with ``get_modality_config`` which keys it wants and how many rows it answers, and nothing of what they
mean; a :class:`GrootSpec` says that, and :func:`layout` holds the one against the other.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StrictInt, ValidationError, model_validator

from hiervla.executor.policies.remote.errors import PolicyAnswerError
from hiervla.executor.policies.remote.presets import read_as
from hiervla.executor.policies.remote.spec import ActionFormat, ImageInput, RemoteSpec, StateInput
from hiervla.representations import Typed, UnknownNameError

Version = Literal["n1.5", "n1.6"]
MAX_ROWS = 1000
_DOCS = "See docs/policies-remote.md"


class ActionGroup(Typed):
    """One key of the answer and how many columns it has."""

    key: str = Field(min_length=1)
    width: PositiveInt = 1


class GrootSpec(RemoteSpec):
    """A :class:`RemoteSpec` whose rows come in groups of columns, one key each.

    Keys are without ``video.``, ``state.`` and ``action.``. What is sent and answered is physical: GR00T's server
    normalises and restores by itself, with the statistics of its checkpoint.
    """

    groups: tuple[ActionGroup, ...] = Field(min_length=1, description="in the order of a row's columns")

    @model_validator(mode="after")
    def _columns(self) -> GrootSpec:
        width = sum(group.width for group in self.groups)
        if width != self.actions.width:
            raise ValueError(f"the groups have {width} columns, but a row has {self.actions.width}")
        if self.full or self.actions.statistics is not None or any(s.statistics is not None for s in self.states):
            raise ValueError("a GR00T server is sent physical numbers: no statistics, not full")
        return self


@cache
def presets() -> dict[str, GrootSpec]:
    """All of them, by name.

    ``libero``: Isaac-GR00T's ``examples/Libero`` (``LIBERO_PANDA``, ``libero_sim``): robosuite's OSC_POSE actions,
    whose roll, pitch and yaw are parts of a rotation vector; the gripper is 1 open and 0 closed.

    ``droid``: GR00T-N1.6-DROID (``OXE_DROID``), by ``examples/DROID/main_gr00t.py``: absolute joint positions, since
    the server adds its relative actions to the state itself; the gripper is 1 closed.

    ``panda``: a fine-tune on ``hiervla export --to lerobot`` whose ``modality.json`` cuts state and action into ``arm``
    (seven joints) and ``gripper`` (distance of the fingers), with the cameras ``front`` and ``wrist``.
    """
    axes = ("x", "y", "z")
    turns = (("roll", "x"), ("pitch", "y"), ("yaw", "z"))
    libero_states = (
        *(StateInput(key=a, parts=(f"ee_{a}",)) for a in axes),  # type: ignore[arg-type]  # a name made of two literals
        *(StateInput(key=name, parts=(f"ee_rotvec_{a}",)) for name, a in turns),  # type: ignore[arg-type]  # as above
        StateInput(key="gripper", parts=("gripper_fingers_m",)),
    )
    ee_delta = ActionFormat(
        space="ee_delta", scale_m=0.05, scale_rad=0.5, limit=1.0, gripper="open_0_to_1", binary=True, rate_hz=20.0
    )
    all_of_them = (
        GrootSpec(
            name="libero",
            images=(
                ImageInput(key="image", camera="front", height=256, width=256),
                ImageInput(key="wrist_image", camera="wrist", height=256, width=256),
            ),
            states=libero_states,
            actions=ee_delta,
            groups=tuple(ActionGroup(key=k) for k in (*axes, "roll", "pitch", "yaw", "gripper")),
        ),
        GrootSpec(
            name="droid",
            images=(
                ImageInput(key="exterior_image_1_left", camera="front", height=180, width=320),
                ImageInput(key="wrist_image_left", camera="wrist", height=180, width=320),
            ),
            states=(
                StateInput(key="joint_position", parts=("joint_position",)),
                StateInput(key="gripper_position", parts=("gripper_closure",)),
            ),
            actions=ActionFormat(space="joint_position", gripper="closed_0_to_1", binary=True, rate_hz=15.0),
            groups=(ActionGroup(key="joint_position", width=7), ActionGroup(key="gripper_position")),
        ),
        GrootSpec(
            name="panda",
            images=tuple(ImageInput(key=c, camera=c, height=None, width=None) for c in ("front", "wrist")),
            states=(
                StateInput(key="arm", parts=("joint_position",)),
                StateInput(key="gripper", parts=("gripper_width_m",)),
            ),
            actions=ActionFormat(space="joint_position", gripper="width_m", rate_hz=10.0),
            groups=(ActionGroup(key="arm", width=7), ActionGroup(key="gripper")),
        ),
    )
    return {spec.name: spec for spec in all_of_them}


def preset(name: str) -> GrootSpec:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    known = presets()
    if name not in known:
        raise UnknownNameError("preset", name, known, "the address of a GR00T server")
    return known[name]


def read_spec(path: str | Path) -> GrootSpec:
    """A spec from a JSON file; see :func:`hiervla.executor.policies.remote.presets.read_as`."""
    return read_as(path, GrootSpec, "a GR00T server")


class _Modality(BaseModel):
    """What we use of a server's modality config; releases add fields of their own."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    delta_indices: Annotated[list[StrictInt], Field(min_length=1, max_length=MAX_ROWS)]
    modality_keys: Annotated[list[str], Field(min_length=1, max_length=100)]


class Layout(Typed):
    """How a server wants to be asked and how it answers.

    ``n1.5``: flat keys with prefixes, arrays without a batch, text in a list. ``n1.6``, also of N1.7: maps of maps,
    arrays with a batch of one.
    """

    version: Version
    video_frames: PositiveInt
    state_frames: PositiveInt
    language_key: str
    rows: PositiveInt


def layout(config: Any, spec: GrootSpec, server: str) -> Layout:
    """A server's layout, from its modality config.

    Raises:
        PolicyAnswerError: the config is malformed, or its keys are not those of the spec.
    """
    remedy = f"Name the spec that fits this server (?preset= or ?spec= in its address). {_DOCS}"
    found: dict[str, _Modality] = {}
    # N1.5 calls the modality of text after what it holds, later releases after what it is.
    names = {"video": ("video",), "state": ("state",), "action": ("action",), "language": ("language", "annotation")}
    for name, spellings in names.items():
        fields = next((config[s] for s in spellings if s in config), None) if isinstance(config, dict) else None
        try:
            found[name] = _Modality.model_validate(fields)
        except ValidationError as error:
            problem = f"its modality config says nothing that can be read about '{name}'"
            raise PolicyAnswerError(server, problem, "See that it is a GR00T server of N1.5 or later") from error
    flat = all(key.startswith("video.") for key in found["video"].modality_keys)
    wanted = {
        "video": {i.key for i in spec.images},
        "state": {s.key for s in spec.states},
        "action": {g.key for g in spec.groups},
    }
    for name, ours in wanted.items():
        prefix = f"{name}." if flat else ""
        theirs = {key.removeprefix(prefix) for key in found[name].modality_keys}
        # More actions than we use, of a base for instance, may be left alone; what it wants to see may not.
        lacking, needless = sorted(theirs - ours) if name != "action" else [], sorted(ours - theirs)
        if lacking or needless:
            told, known = (", ".join(sorted(keys)) for keys in (theirs, ours))
            problem = f"its {name} keys are {told}, where spec '{spec.name}' has {known}"
            raise PolicyAnswerError(server, problem, remedy)
    return Layout(
        version="n1.5" if flat else "n1.6",
        video_frames=len(found["video"].delta_indices),
        state_frames=len(found["state"].delta_indices),
        language_key=found["language"].modality_keys[0],
        rows=len(found["action"].delta_indices),
    )
