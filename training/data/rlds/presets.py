"""What the fields of well-known RLDS datasets mean; every other dataset gets :data:`GENERIC`."""

from __future__ import annotations

from dataclasses import dataclass

from hiervla.training.data.types import ActionMeaning


@dataclass(frozen=True)
class Preset:
    """How a dataset's fields become columns. Keys are without the leading ``steps/``.

    Attributes:
        name: of the preset.
        datasets: how the dataset's name begins.
        action: keys that are put together, in this order, to the action.
        meaning: of that action.
        state: keys that are put together to `observation.state`; empty: each stays a column of its own.
        language: keys of the instruction, in order of preference.
        fps: frames a second, which tfds does not store.
        robot: which.
    """

    name: str
    datasets: tuple[str, ...] = ()
    action: tuple[str, ...] = ("action",)
    meaning: ActionMeaning = ActionMeaning()
    state: tuple[str, ...] = ()
    language: tuple[str, ...] = (
        "language_instruction",
        "observation/natural_language_instruction",
        "observation/language_instruction",
        "natural_language_instruction",
    )
    fps: float | None = None
    robot: str = "unknown"


GENERIC = Preset("generic")
BRIDGE = Preset(
    "bridge_v2",
    ("bridge",),
    meaning=ActionMeaning(
        "ee_delta",
        "base",
        "open_1",
        text="change of x, y, z [m] and roll, pitch, yaw [rad]; opening of the gripper (Bridge V2, arXiv 2308.12952)",
    ),
    state=("observation/state",),
    fps=5.0,
    robot="widowx",
)
DROID = Preset(
    "droid",
    ("droid", "r2d2"),
    # The field `action` mixes conventions between releases; the commanded positions are the same in all.
    action=("action_dict/joint_position", "action_dict/gripper_position"),
    meaning=ActionMeaning(
        "joint_position",
        "base",
        "closed_1",
        text="commanded joint positions [rad] and gripper (DROID, arXiv 2403.12945)",
    ),
    state=("observation/joint_position", "observation/gripper_position"),
    language=("language_instruction", "language_instruction_2", "language_instruction_3"),
    fps=15.0,
    robot="panda",
)
PRESETS = (BRIDGE, DROID)


def preset_for(name: str) -> Preset:
    """The preset of a dataset by its tfds name."""
    for preset in PRESETS:
        if name.startswith(preset.datasets):
            return preset
    return GENERIC
