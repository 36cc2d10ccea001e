"""Motions in words: what "move left a bit" means in metres, and what a displacement is called.

The words are those of RT-H (arXiv 2403.01823), seen from the robot: forward is away from its base (+x of the world),
left is +y, up is +z. Distances are said in centimetres, or in words that stand for fixed ones.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from hiervla.representations import ConventionError, LanguageMotion
from hiervla.representations._base import Vec3

Gripper = Literal["open", "close", "keep"]

DIRECTIONS: Final[dict[str, tuple[int, float]]] = {
    "forward": (0, 1.0), "backward": (0, -1.0), "left": (1, 1.0), "right": (1, -1.0), "up": (2, 1.0), "down": (2, -1.0),
}  # fmt: skip
"""Axis of the world frame, and the sign along it."""
AMOUNTS: Final[dict[str, float]] = {"a tiny bit": 0.01, "a bit": 0.02, "a little": 0.02, "slightly": 0.02, "a lot": 0.1}
"""What vague amounts stand for [m]."""
PLAIN_M: Final = 0.05
"""Without any amount: "move left" [m]."""
MAX_M: Final = 1.5
"""Nothing on a table is farther away [m]."""

_SAME: Final = {"forwards": "forward", "ahead": "forward", "back": "backward", "backwards": "backward"}
_WAYS: Final = "|".join([*_SAME, *DIRECTIONS])
_AMOUNT: Final = "|".join(AMOUNTS)
_UNITS: Final = {"mm": 0.001, "millimetres": 0.001, "millimeters": 0.001, "cm": 0.01, "centimetres": 0.01,
                 "centimeters": 0.01, "m": 1.0, "metres": 1.0, "meters": 1.0}  # fmt: skip
_MOTION: Final = re.compile(
    rf"(?:(?:move|go|shift|push|reach)\s+)?(?:the\s+(?:arm|hand|gripper)\s+)?(?:(?P<first>{_AMOUNT})\s+)?"
    rf"(?:(?:to|towards)\s+the\s+)?(?:(?:further|more)\s+)?(?P<way>{_WAYS})"
    rf"(?:\s+(?:by\s+)?(?:(?P<last>{_AMOUNT})|(?P<number>\d{{1,4}}(?:\.\d{{1,4}})?)\s*(?P<unit>{'|'.join(_UNITS)})))?"
)
_GRIP: Final = re.compile(r"(?P<act>open|close)\s+(?:the\s+)?(?:gripper|hand|fingers)")
_LEAD: Final = re.compile(r"^(?:(?:no|stop|wait|please|ok|okay|now|just|actually)\b[\s,.;:!]*)+")


def read_motion(text: str) -> LanguageMotion | None:
    """The motion that a person or a model names, None for words that name none.

    >>> read_motion("no, move left a bit").translation_m
    (0.0, 0.02, 0.0)
    """
    words = _LEAD.sub("", " ".join(text.lower().split())).rstrip(" .!,")
    words = re.sub(r",?\s*please$", "", words)
    grip = _GRIP.fullmatch(words)
    if grip is not None:
        return LanguageMotion(text=text.strip(), gripper="open" if grip["act"] == "open" else "close")
    found = _MOTION.fullmatch(words)
    if found is None:
        return None
    amount = found["first"] or found["last"]
    metres = AMOUNTS[amount] if amount else PLAIN_M
    if found["number"]:
        metres = float(found["number"]) * _UNITS[found["unit"]]
    if metres > MAX_M:
        return None
    axis, sign = DIRECTIONS[_SAME.get(found["way"], found["way"])]
    shift = [0.0, 0.0, 0.0]
    shift[axis] = sign * metres
    return LanguageMotion(text=text.strip(), translation_m=(shift[0], shift[1], shift[2]))


def say_motion(way: str, metres: float) -> LanguageMotion:
    """A motion along one direction, in whole centimetres: that is as much as the words carry.

    Raises:
        ConventionError: an unknown direction, or a distance below half a centimetre.
    """
    if way not in DIRECTIONS:
        raise ConventionError("way", f"'{way}' is no direction", f"Give one of {', '.join(DIRECTIONS)}")
    cm = round(metres * 100)
    if cm < 1:
        raise ConventionError("metres", f"{metres:g} m is less than the words can say", "Leave the motion out")
    motion = read_motion(f"move {way} {cm} cm")
    assert motion is not None, "what is said here is read here"
    return motion


def say_shift(shift_m: Vec3, order: tuple[int, int, int] = (2, 0, 1)) -> tuple[LanguageMotion, ...]:
    """A displacement [m] in words, one axis after the other; what is shorter than half a centimetre is left out."""
    names = {(axis, sign): name for name, (axis, sign) in DIRECTIONS.items()}
    motions = []
    for axis in order:
        if round(abs(shift_m[axis]) * 100) >= 1:
            motions.append(say_motion(names[axis, 1.0 if shift_m[axis] > 0 else -1.0], abs(shift_m[axis])))
    return tuple(motions)


def say_gripper(gripper: Literal["open", "close"]) -> LanguageMotion:
    """What the gripper does, in words."""
    return LanguageMotion(text=f"{gripper} the gripper", gripper=gripper)
