"""What a tabletop scene is made of, as plain frozen data; no physics engine is needed to read this.

Lengths in metres, angles in radians, world frame (origin at the robot's base on the table top, x forward,
y left, z up). A `SceneSpec` is the whole recipe of a world: same spec, same world.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field, FiniteFloat, model_validator

from hiervla.representations._base import Typed, Vec2, Vec3

Category = Literal["block", "mug", "can", "sponge", "bowl", "plate"]
Colour = Literal["red", "green", "blue", "yellow", "orange", "purple", "white", "black"]
Place = Literal["table", "top_shelf", "bottom_shelf", "drawer", "bin"]
Texture = Literal["plain", "wood", "checker", "speckle"]

CATEGORIES: tuple[Category, ...] = get_args(Category)
COLOURS: tuple[Colour, ...] = get_args(Colour)
PLACES: tuple[Place, ...] = get_args(Place)
PICKABLE: tuple[Category, ...] = ("block", "mug", "can", "sponge")
GRIPPER = "gripper"

COLOUR_RGB: dict[Colour, Vec3] = {
    "red": (0.80, 0.07, 0.07),
    "green": (0.08, 0.55, 0.14),
    "blue": (0.07, 0.22, 0.80),
    "yellow": (0.95, 0.80, 0.05),
    "orange": (0.96, 0.42, 0.02),
    "purple": (0.46, 0.10, 0.62),
    "white": (0.93, 0.93, 0.93),
    "black": (0.06, 0.06, 0.07),
}

HOME_TCP: Vec3 = (0.35, 0.0, 0.42)
"""Tool centre point at the arm's home posture [m]; an object in the gripper starts here."""
BOTTOM_SHELF_Z = 0.06
TOP_SHELF_Z = 0.20
DRAWER_FLOOR_Z = 0.014
BIN_FLOOR_Z = 0.006
TOP_SHELF_SETBACK = 0.192
"""The top board stands this much further towards -y than the bottom one: both are free from above."""
SHELF_HALF: Vec2 = (0.15, 0.05)
TOP_SHELF_HALF: Vec2 = (0.15, 0.06)
CABINET_HALF: Vec2 = (0.12, 0.10)
CABINET_TOP_Z = 0.10
DRAWER_HALF: Vec2 = (0.09, 0.08)
DRAWER_TRAVEL = 0.15
HANDLE_OFFSET = 0.045
"""Distance from the drawer's front face to the axis of its handle bar."""
HANDLE_Z = 0.078
BIN_HALF: Vec2 = (0.10, 0.10)
BIN_HEIGHT = 0.10
BOWL_FLOOR = 0.006
PLATE_FLOOR = 0.006
TABLE_X: Vec2 = (0.34, 0.66)
TABLE_Y: Vec2 = (-0.23, 0.16)
MUG_HANDLE_REACH = 0.020

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Region(Typed):
    """A flat rectangle that can carry things: `centre` +- `half`, surface height `z` [m]."""

    name: Place
    centre: Vec2
    half: Vec2
    z: FiniteFloat

    def contains(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Whether a world point lies above the rectangle, shrunk by `margin` [m]."""
        dx, dy = abs(x - self.centre[0]), abs(y - self.centre[1])
        return dx <= self.half[0] - margin and dy <= self.half[1] - margin


class FurnitureSpec(Typed):
    """Where the fixed furniture stands."""

    shelf_xy: Vec2 = Field(default=(0.30, -0.40), description="centre of the bottom board")
    cabinet_xy: Vec2 = Field(default=(0.46, 0.455), description="middle of the cabinet's front face")
    bin_xy: Vec2 = Field(default=(0.20, 0.46), description="centre of the bin")

    def region(self, place: Place, drawer_open: float = 0.0) -> Region:
        """The rectangle that carries things at `place`; the drawer's moves with its opening [m]."""
        sx, sy = self.shelf_xy
        cx, cy = self.cabinet_xy
        if place == "bottom_shelf":
            return Region(name=place, centre=(sx, sy), half=SHELF_HALF, z=BOTTOM_SHELF_Z)
        if place == "top_shelf":
            centre = (sx, sy - TOP_SHELF_SETBACK)
            return Region(name=place, centre=centre, half=TOP_SHELF_HALF, z=TOP_SHELF_Z)
        if place == "drawer":
            # The inner floor starts 15 mm behind the front face: the drawer's front panel.
            centre = (cx, cy + 0.015 + DRAWER_HALF[1] - drawer_open)
            return Region(name=place, centre=centre, half=DRAWER_HALF, z=DRAWER_FLOOR_Z)
        if place == "bin":
            half = (BIN_HALF[0] - 0.006, BIN_HALF[1] - 0.006)
            return Region(name=place, centre=self.bin_xy, half=half, z=BIN_FLOOR_Z)
        half = ((TABLE_X[1] - TABLE_X[0]) / 2, (TABLE_Y[1] - TABLE_Y[0]) / 2)
        centre = (sum(TABLE_X) / 2, sum(TABLE_Y) / 2)
        return Region(name="table", centre=centre, half=half, z=0.0)

    def handle(self, drawer_open: float = 0.0) -> Vec3:
        """Middle of the drawer's handle bar [m]; the bar runs along x."""
        return (self.cabinet_xy[0], self.cabinet_xy[1] - HANDLE_OFFSET - drawer_open, HANDLE_Z)


class ObjectSpec(Typed):
    """One household thing.

    `size` are full extents (x, y, z) without a mug's handle: a block's edges, a mug's (2r, 2r, height).
    `position` is the centre of the bottom face in the world; for an object whose support is the gripper it is
    approximate, the physics settles it. `support` is a place, `gripper`, or the id of the object underneath.
    """

    id: Annotated[str, Field(pattern=r"^[a-z]+_\d+$")]
    category: Category
    colour: Colour
    size: tuple[Positive, Positive, Positive]
    position: Vec3
    yaw: FiniteFloat = 0.0
    support: str = "table"

    @property
    def name(self) -> str:
        """How a person would call it: colour and category, such as "red mug"."""
        return f"{self.colour} {self.category}"

    @property
    def pickable(self) -> bool:
        """Whether the gripper can take it."""
        return self.category in PICKABLE

    @property
    def radius(self) -> float:
        """Radius of the footprint's bounding circle, a mug's handle included [m]."""
        if self.category in ("block", "sponge"):
            return math.hypot(self.size[0], self.size[1]) / 2
        return self.size[0] / 2 + (MUG_HANDLE_REACH if self.category == "mug" else 0.0)

    @property
    def carry_z(self) -> float:
        """Height above the bottom at which this object carries another one [m]."""
        return {"bowl": BOWL_FLOOR, "plate": PLATE_FLOOR}.get(self.category, self.size[2])

    @property
    def grasp_z(self) -> float:
        """Height above the bottom of a good top-down grasp's tool centre point [m]."""
        if self.category in ("mug", "can"):
            return self.size[2] - 0.026
        return self.size[2] * 0.55


class SpillSpec(Typed):
    """A spill on the table, to be wiped with a sponge."""

    id: str = "spill_0"
    centre: Vec2
    radius: Annotated[float, Field(ge=0.015, le=0.08)]
    colour: Colour = "purple"


class LookSpec(Typed):
    """Light, surfaces and camera errors: what domain randomisation varies. Colours are linear RGB in 0..1."""

    light_position: Vec3 = (0.9, -0.4, 1.8)
    light: FiniteFloat = Field(default=0.62, description="strength of the lamp")
    ambient: FiniteFloat = Field(default=0.38, description="strength of the light without direction")
    warmth: FiniteFloat = Field(default=0.0, description="-1 bluish to 1 yellowish light")
    table_texture: Texture = "wood"
    table_rgb: Vec3 = (0.66, 0.56, 0.44)
    table_rgb2: Vec3 = (0.58, 0.48, 0.37)
    floor_rgb: Vec3 = (0.48, 0.50, 0.53)
    furniture_rgb: Vec3 = (0.62, 0.60, 0.56)
    bin_rgb: Vec3 = (0.36, 0.40, 0.42)
    texture_seed: int = 0
    camera_shift: Vec3 = Field(default=(0.0, 0.0, 0.0), description="front camera's error of place [m]")
    target_shift: Vec3 = Field(default=(0.0, 0.0, 0.0), description="error of the point it looks at [m]")
    fovy_deg: FiniteFloat = Field(default=49.5, description="front camera's vertical field of view [degrees]")


class SceneSpec(Typed):
    """Everything that a tabletop world is built from."""

    seed: int
    objects: tuple[ObjectSpec, ...]
    spill: SpillSpec | None = None
    drawer_open: Annotated[float, Field(ge=0.0, le=DRAWER_TRAVEL)] = 0.0
    furniture: FurnitureSpec = FurnitureSpec()
    look: LookSpec = LookSpec()

    @model_validator(mode="after")
    def _consistent(self) -> SceneSpec:
        ids = [o.id for o in self.objects]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two objects have the same id: {sorted(ids)}")
        known = {*ids, *PLACES, GRIPPER}
        for o in self.objects:
            if o.support not in known or o.support == o.id:
                raise ValueError(f"{o.id} stands on '{o.support}', no place and no other object")
        if sum(o.support == GRIPPER for o in self.objects) > 1:
            raise ValueError("the gripper can hold one object only")
        return self

    def object(self, object_id: str) -> ObjectSpec:
        """The object with this id.

        Raises:
            KeyError: there is none.
        """
        for o in self.objects:
            if o.id == object_id:
                return o
        raise KeyError(object_id)

    def carried_by(self, support: str) -> tuple[ObjectSpec, ...]:
        """The objects that stand directly on a place or an object."""
        return tuple(o for o in self.objects if o.support == support)

    def facts(self) -> frozenset[tuple[str, ...]]:
        """The scene in symbols, in the words of `GroundTruth.facts()`."""
        facts: set[tuple[str, ...]] = {("on", o.id, o.support) for o in self.objects}
        if self.drawer_open > 0.10:
            facts.add(("drawer_open",))
        if self.drawer_open < 0.02:
            facts.add(("drawer_closed",))
        return frozenset(facts)
