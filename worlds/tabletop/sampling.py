"""Random tabletop scenes from a seed, with wishes about what must be in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hiervla.representations._base import Vec3
from hiervla.representations.errors import HiervlaError
from hiervla.worlds.tabletop.looks import sample_furniture, sample_look
from hiervla.worlds.tabletop.specs import (
    CATEGORIES,
    COLOURS,
    GRIPPER,
    HOME_TCP,
    PICKABLE,
    PLACES,
    TABLE_X,
    TABLE_Y,
    Category,
    Colour,
    FurnitureSpec,
    LookSpec,
    ObjectSpec,
    Place,
    SceneSpec,
    SpillSpec,
)

Request = tuple[str | None, str | None] | tuple[str | None, str | None, str | None]
"""(category, colour) or (category, colour, support); None leaves it to chance. Support is a place, "gripper",
or "#k": on top of the k-th request, which must come earlier."""

_TALL = 0.05
_HAND_HALF = 0.102
_TRIES = 400
_WEIGHTS = {"block": 0.30, "mug": 0.22, "can": 0.18, "sponge": 0.08, "bowl": 0.10, "plate": 0.12}
_FITS: dict[str, tuple[Category, ...]] = {
    "table": CATEGORIES,
    "top_shelf": PICKABLE,
    "bottom_shelf": PICKABLE,
    "drawer": ("block", "sponge"),
    "bin": PICKABLE,
    GRIPPER: PICKABLE,
}
# What stays put on what when it is let go from above.
_STACKS: dict[Category, tuple[Category, ...]] = {
    "block": ("block",),
    "plate": ("block", "mug", "can", "sponge"),
    "bowl": ("block",),
}


class SceneRequestError(HiervlaError, ValueError):
    """A scene was asked for that cannot be built."""

    def __init__(self, wish: str, problem: str) -> None:
        super().__init__(f"scene request {wish}: {problem}.")
        self.wish = wish
        self.problem = problem


def sample_scene(
    seed: int | np.random.Generator,
    *,
    n_objects: tuple[int, int] | int = (3, 8),
    require: Sequence[Request] = (),
    spill: bool | None = None,
    drawer_open: bool | float | None = None,
    gripper: bool | None = False,
    stacks: int | None = None,
    shelf_prob: float = 0.25,
    same_category: bool | None = None,
    distinct: bool = True,
    randomise_look: bool = True,
) -> SceneSpec:
    """Draw a scene. The same arguments give the same scene.

    Requested objects come first in `SceneSpec.objects`, in the order of `require`; chance fills up to the
    number drawn from `n_objects`. Everything on the table keeps room for a gripper, shelves keep a free spot.

    Args:
        seed: an integer (kept in the spec), or a generator to draw from.
        n_objects: number of objects in all, or inclusive bounds for it; requests are never dropped.
        require: what must be there: `(category, colour)` or `(category, colour, support)`, see `Request`.
        spill: whether there is a spill on the table; None: in three of ten scenes.
        drawer_open: whether (or how far [m]) the drawer is open; None: one in four.
        gripper: whether the gripper starts with an object; None: one in eight. A request may also say so.
        stacks: how many of the random objects stand on another one; None: about one in three scenes.
        shelf_prob: chance that a random object that fits stands on a shelf, in the bin or in an open drawer.
        same_category: True: at least two objects share a category and differ in colour; None: chance.
        distinct: no two objects share both category and colour, so that "the red mug" names one thing.
        randomise_look: draw light, textures and camera errors; otherwise the plain default.

    Raises:
        SceneRequestError: a request is contradictory, unknown or does not fit into the scene.
    """
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(0, 2**31 - 1))
    rng = np.random.default_rng([0x7AB1E, seed])
    wishes = [_read(request, i) for i, request in enumerate(require)]
    opening = _opening(rng, drawer_open, any(w.support == "drawer" for w in wishes))
    low, high = (n_objects, n_objects) if isinstance(n_objects, int) else n_objects
    if not 0 <= low <= high:
        raise SceneRequestError(f"n_objects={n_objects}", "needs 0 <= fewest <= most")
    total = max(int(rng.integers(low, high + 1)), len(wishes), 2 * (stacks or 0))
    has_spill = bool(rng.random() < 0.3) if spill is None else spill
    look = sample_look(rng) if randomise_look else LookSpec()
    for _ in range(40):
        draft = _Draft(rng, sample_furniture(rng), opening, distinct)
        spill_spec = _sample_spill(rng) if has_spill else None
        draft.spill = spill_spec
        if all(draft.add(w, i) for i, w in enumerate(wishes)) and draft.fill(
            total, gripper, stacks, shelf_prob, same_category
        ):
            return SceneSpec(
                seed=seed, objects=tuple(draft.objects), spill=spill_spec, drawer_open=opening,
                furniture=draft.furniture, look=look,
            )  # fmt: skip
    wish = f"require={list(require)}"
    raise SceneRequestError(wish, "no room was found for all of it; ask for fewer objects")


@dataclass(frozen=True)
class _Wish:
    category: Category | None = None
    colour: Colour | None = None
    support: str | None = None


def _read(request: Request, index: int) -> _Wish:
    category, colour, support = (*request, None)[:3]
    wish = f"#{index} {tuple(request)}"
    if category is not None and category not in CATEGORIES:
        raise SceneRequestError(wish, f"unknown category '{category}'; known: {', '.join(CATEGORIES)}")
    if colour is not None and colour not in COLOURS:
        raise SceneRequestError(wish, f"unknown colour '{colour}'; known: {', '.join(COLOURS)}")
    if support is not None and support not in (*PLACES, GRIPPER):
        if not (support.startswith("#") and support[1:].isdigit() and int(support[1:]) < index):
            known = f"{', '.join(PLACES)}, {GRIPPER}, or '#k' for an earlier request"
            raise SceneRequestError(wish, f"unknown support '{support}'; known: {known}")
    return _Wish(category, colour, support)


@dataclass
class _Draft:
    """A scene in the making."""

    rng: np.random.Generator
    furniture: FurnitureSpec
    drawer_open: float
    distinct: bool
    spill: SpillSpec | None = None
    objects: list[ObjectSpec] = field(default_factory=list)

    def fill(self, total: int, gripper: bool | None, stacks: int | None, shelf_prob: float, pair: bool | None) -> bool:
        """Add random objects up to `total`; False if there is no room."""
        rng = self.rng
        held = any(o.support == GRIPPER for o in self.objects)
        wants_held = bool(rng.random() < 0.125) if gripper is None else gripper
        if wants_held and not held and not self.add(_Wish(support=GRIPPER)):
            return False
        n_stacks = int(rng.choice([0, 0, 0, 1, 1, 2])) if stacks is None else stacks
        while len(self.objects) < total:
            left = total - len(self.objects)
            wish = _Wish()
            bases = [o for o in self.objects if self._can_carry(o)]
            if pair and left == 1 and not self._has_pair() and self.objects:
                wish = _Wish(category=self.objects[int(rng.integers(len(self.objects)))].category)
            elif n_stacks and bases:
                wish = _Wish(support=bases[int(rng.integers(len(bases)))].id)
            elif n_stacks and stacks is not None:
                bearers: tuple[Category, ...] = ("block", "plate", "bowl")
                wish = _Wish(category=bearers[int(rng.integers(3))], support="table")
            elif rng.random() < shelf_prob:
                places: list[Place] = ["top_shelf", "bottom_shelf", "bin"]
                if self.drawer_open > 0.10:
                    places.append("drawer")
                wish = _Wish(support=places[int(rng.integers(len(places)))])
            if self.add(wish):
                n_stacks -= wish.support in {o.id for o in bases}
            elif not self.add(_Wish(category=wish.category, support="table")):
                # A full table is no reason to fail: the number of objects is a wish, the requests are not.
                break
        return not (pair and not self._has_pair()) and not (stacks and n_stacks > 0)

    def add(self, wish: _Wish, index: int | None = None) -> bool:
        """Place one object; False if there is no room."""
        support = wish.support or "table"
        if support.startswith("#"):
            support = self.objects[int(support[1:])].id
        kinds = self._kinds(support)
        if wish.category is not None:
            if wish.category not in kinds:
                what = f"#{index} {wish.category} on {wish.support}"
                if index is None:
                    return False
                raise SceneRequestError(what, f"only {', '.join(kinds) or 'nothing'} can be there")
            kinds = (wish.category,)
        for _ in range(4):
            picked = self._pick(kinds, wish.colour, named=index is not None)
            if picked is not None and self._place(*picked, support):
                return True
        return False

    def _kinds(self, support: str) -> tuple[Category, ...]:
        if support in _FITS:
            return _FITS[support]
        return _STACKS.get(self._object(support).category, ())

    def _object(self, object_id: str) -> ObjectSpec:
        return next(o for o in self.objects if o.id == object_id)

    def _pick(self, kinds: tuple[Category, ...], colour: Colour | None, named: bool) -> tuple[Category, Colour] | None:
        if not kinds:
            return None
        weights = np.array([_WEIGHTS[k] for k in kinds])
        taken = {(o.category, o.colour) for o in self.objects}
        for _ in range(12):
            kind = kinds[int(self.rng.choice(len(kinds), p=weights / weights.sum()))]
            hue = colour or COLOURS[int(self.rng.integers(len(COLOURS)))]
            # Two equal requests are meant; a random twin would make a reference ambiguous by accident.
            if not self.distinct or (kind, hue) not in taken or (named and colour is not None):
                return kind, hue
        return None

    def _has_pair(self) -> bool:
        seen: dict[str, str] = {}
        return any(seen.setdefault(o.category, o.colour) != o.colour for o in self.objects)

    def _can_carry(self, base: ObjectSpec) -> bool:
        free = not any(o.support == base.id for o in self.objects)
        return base.category in _STACKS and base.support == "table" and free

    def _place(self, category: Category, colour: Colour, support: str) -> bool:
        number = sum(o.category == category for o in self.objects)
        blank = ObjectSpec(
            id=f"{category}_{number}", category=category, colour=colour, size=_sample_size(self.rng, category),
            position=(0.0, 0.0, 0.0), yaw=_sample_yaw(self.rng, category), support=support,
        )  # fmt: skip
        if support == "table":
            spots = self._free_spots(blank)
            if len(spots):
                self.objects.append(blank.replace(position=(float(spots[0, 0]), float(spots[0, 1]), 0.0)))
            return len(spots) > 0
        for _ in range(40):
            position, yaw = self._propose(blank)
            candidate = blank.replace(position=position, yaw=yaw)
            if self._free(candidate):
                self.objects.append(candidate)
                return True
        return False

    def _free_spots(self, new: ObjectSpec) -> NDArray[np.float64]:
        """Spots on the table (n, 2) where a hand can come down on this object and on its neighbours."""
        xy = self.rng.uniform((TABLE_X[0], TABLE_Y[0]), (TABLE_X[1], TABLE_Y[1]), (_TRIES, 2))
        free = (xy[:, 1] - new.radius > TABLE_Y[0] - 0.06) & (xy[:, 1] + new.radius < TABLE_Y[1] + 0.01)
        if self.spill is not None:
            free &= np.hypot(*(xy - self.spill.centre).T) > _spill_room(self.spill, new)
        for o in self.carried_by("table"):
            free &= _apart(o, new, np.abs(xy - o.position[:2]))
        return xy[free]

    def carried_by(self, support: str) -> list[ObjectSpec]:
        """The objects that stand directly on a place or an object."""
        return [o for o in self.objects if o.support == support]

    def _propose(self, new: ObjectSpec) -> tuple[Vec3, float]:
        rng, support = self.rng, new.support
        if support == GRIPPER:
            return (HOME_TCP[0], HOME_TCP[1], HOME_TCP[2] - new.grasp_z), turn_for_grasp(new.category)
        if support in _FITS:
            region = self.furniture.region(_place_name(support), self.drawer_open)
            # Along a shelf there is room for two or three; across it things stand in the middle.
            reach = (0.09, 0.008) if "shelf" in support else (0.025, 0.025)
            x = region.centre[0] + float(rng.uniform(-reach[0], reach[0]))
            y = region.centre[1] + float(rng.uniform(-reach[1], reach[1]))
            return (x, y, region.z), new.yaw if support in ("bin", "drawer") else new.yaw * 0.3
        base = self._object(support)
        spread = {"plate": 0.02, "bowl": 0.004, "block": 0.003}[base.category]
        x, y, z = base.position
        near = (float(rng.uniform(-spread, spread)), float(rng.uniform(-spread, spread)))
        return (x + near[0], y + near[1], z + base.carry_z), new.yaw if base.category != "block" else base.yaw

    def _free(self, new: ObjectSpec) -> bool:
        rivals = self.carried_by(new.support)
        if "shelf" in new.support:
            return len(rivals) < 2 and all(abs(o.position[0] - new.position[0]) > 0.105 for o in rivals)
        return not rivals


def _place_name(support: str) -> Place:
    return next(p for p in PLACES if p == support)


def _apart(a: ObjectSpec, b: ObjectSpec, offset: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a hand can come down on either without touching the other, for offsets (n, 2) >= 0 between them."""
    dx, dy = offset.T
    distance = np.hypot(dx, dy)
    free = distance > max(0.11, a.radius + b.radius + 0.025)
    for low, tall in ((a, b), (b, a)):
        # The hand reaches 102 mm to both sides along the closing axis, 37 mm above the tool centre point.
        if tall.size[2] > max(_TALL, low.size[2] + 0.02) and low.category in PICKABLE:
            beside = dy < 1.2 * dx
            free &= distance > tall.radius + np.where(beside, 0.072, _HAND_HALF + 0.012)
    return np.asarray(free)


def _spill_room(spill: SpillSpec, thing: ObjectSpec) -> float:
    """How far from the spill's centre a thing must stand so that a hand with a sponge can wipe."""
    if thing.size[2] > _TALL:
        return max(0.6 * spill.radius + _HAND_HALF + 0.02, spill.radius + 0.06) + thing.radius
    return spill.radius + thing.radius + 0.055


def _opening(rng: np.random.Generator, wanted: bool | float | None, filled: bool) -> float:
    drawn = float(rng.uniform(0.125, 0.148))
    coin = rng.random() < 0.25
    if wanted is None:
        return drawn if coin or filled else 0.0
    if isinstance(wanted, bool):
        return drawn if wanted else 0.0
    return float(wanted)


def _sample_size(rng: np.random.Generator, category: Category) -> tuple[float, float, float]:
    if category == "block":
        edge = float(rng.uniform(0.036, 0.046))
        return (edge, edge, edge)
    if category == "sponge":
        return (0.090, 0.060, 0.035)
    radius, height = {
        "mug": ((0.028, 0.033), (0.070, 0.090)),
        "can": ((0.026, 0.033), (0.090, 0.110)),
        "bowl": ((0.066, 0.076), (0.045, 0.045)),
        "plate": ((0.080, 0.095), (0.012, 0.012)),
    }[category]
    r = float(rng.uniform(*radius))
    return (2 * r, 2 * r, float(rng.uniform(*height)))


def _sample_yaw(rng: np.random.Generator, category: Category) -> float:
    if category == "mug":
        # A handle along +x or -x, more or less: fingers that close along y find the walls free.
        return float(rng.choice([0.0, math.pi]) + rng.uniform(-0.6, 0.6))
    if category == "sponge":
        return float(rng.uniform(-0.8, 0.8))
    return float(rng.uniform(-math.pi / 4, math.pi / 4))


def turn_for_grasp(category: Category) -> float:
    """Yaw at which a thing starts in the gripper: a mug's handle points away from the fingers [rad]."""
    return math.pi if category == "mug" else 0.0


def _sample_spill(rng: np.random.Generator) -> SpillSpec:
    # Spilled drinks: no white or black, which light and shadow could fake on the table.
    colour = ("red", "orange", "purple", "green", "blue")[int(rng.integers(5))]
    centre = (float(rng.uniform(0.40, 0.58)), float(rng.uniform(-0.12, 0.06)))
    return SpillSpec(centre=centre, radius=float(rng.uniform(0.030, 0.048)), colour=_colour(colour))


def _colour(name: str) -> Colour:
    return next(c for c in COLOURS if c == name)
