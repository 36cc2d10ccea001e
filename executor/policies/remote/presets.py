"""Published conventions of policy servers, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from hiervla.executor.policies.remote.spec import ActionFormat, ImageInput, RemoteSpec, StateInput
from hiervla.representations import ConventionError, UnknownNameError

S = TypeVar("S", bound=RemoteSpec)


@cache
def presets() -> dict[str, RemoteSpec]:
    """All of them, by name.

    ``droid`` and ``droid-position``: openpi's ``examples/droid/main.py`` and ``DroidInputs``; the joint velocities are
    shares of the largest step, 0.2 rad a tick of 15 Hz, as in DROID's ``RobotIKSolver``; the server restores them from
    its normalisation.

    ``libero``: openpi's ``examples/libero/main.py``; actions are those of robosuite's OSC_POSE controller, 0.05 m and
    0.5 rad for 1, gripper -1 open to 1 closed. The images there are turned because LIBERO renders upside down; ours are
    upright already.

    ``lerobot``: a policy that LeRobot trained on what ``hiervla export --to lerobot`` made of run records: absolute
    joint positions at 10 Hz.

    ``hiervla``: what ``hiervla serve policy`` takes and gives.
    """
    droid_images = (
        ImageInput(key="observation/exterior_image_1_left", camera="front"),
        ImageInput(key="observation/wrist_image_left", camera="wrist"),
    )
    droid_states = (
        StateInput(key="observation/joint_position", parts=("joint_position",)),
        StateInput(key="observation/gripper_position", parts=("gripper_closure",)),
    )
    velocity = ActionFormat(
        space="joint_velocity", scale_rad=0.2, limit=1.0, gripper="closed_0_to_1", binary=True, rate_hz=15.0
    )
    position = ActionFormat(space="joint_position", gripper="closed_0_to_1", binary=True, rate_hz=15.0)
    libero = RemoteSpec(
        name="libero",
        images=(
            ImageInput(key="observation/image", camera="front"),
            ImageInput(key="observation/wrist_image", camera="wrist"),
        ),
        states=(StateInput(key="observation/state", parts=("ee_position", "ee_rotvec", "gripper_fingers_m")),),
        actions=ActionFormat(
            space="ee_delta",
            scale_m=0.05,
            scale_rad=0.5,
            limit=1.0,
            gripper="closed_-1_to_1",
            binary=True,
            rate_hz=20.0,
        ),
    )
    all_of_them = (
        RemoteSpec(name="droid", images=droid_images, states=droid_states, actions=velocity),
        RemoteSpec(name="droid-position", images=droid_images, states=droid_states, actions=position),
        libero,
        RemoteSpec(
            name="lerobot",
            images=tuple(
                ImageInput(key=f"observation.images.{camera}", camera=camera, height=None, width=None)
                for camera in ("front", "wrist")
            ),
            states=(StateInput(key="observation.state", parts=("joint_position", "gripper_width_m")),),
            actions=ActionFormat(space="joint_position", gripper="width_m", rate_hz=10.0),
        ),
        RemoteSpec(
            name="hiervla",
            full=True,
            actions=ActionFormat(space="ee_pose", rotation="yaw", gripper="open_0_to_1", rate_hz=10.0),
        ),
    )
    return {spec.name: spec for spec in all_of_them}


def preset(name: str) -> RemoteSpec:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    known = presets()
    if name not in known:
        raise UnknownNameError("preset", name, known, "the address of a policy server")
    return known[name]


def read_spec(path: str | Path) -> RemoteSpec:
    """A spec from a JSON file; see :func:`read_as`."""
    return read_as(path, RemoteSpec, "a policy server")


def parse_spec(text: str | bytes, place: str) -> RemoteSpec:
    """A spec from JSON; see :func:`parse_as`."""
    return parse_as(text, place, RemoteSpec, "a policy server")


def read_as(path: str | Path, kind: type[S], server: str) -> S:
    """A spec of some kind from a JSON file.

    Args:
        path: the file.
        kind: class of the spec.
        server: what it describes, for the message.

    Raises:
        ConventionError: the file cannot be read, or is no spec; the first thing that is wrong is named.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConventionError("spec", f"'{path}' cannot be read ({error})", "Name a JSON file") from error
    return parse_as(text, str(path), kind, server)


def parse_as(text: str | bytes, place: str, kind: type[S], server: str) -> S:
    """A spec of some kind from JSON.

    Raises:
        ConventionError: it is none; `place` and the first thing that is wrong are named.
    """
    try:
        return kind.from_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(k) for k in first["loc"]) or "as a whole"
        problem = f"{place} is no description of {server}: {where}: {first['msg']}"
        raise ConventionError("spec", problem, "See docs/policies-remote.md") from error
