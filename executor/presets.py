"""Worlds that ``Agent.from_preset`` and ``hiervla run --world`` know by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hiervla.representations import HiervlaError, UnknownNameError

if TYPE_CHECKING:
    from hiervla.worlds.base import ArmsWorld, World
    from hiervla.worlds.tabletop.scene import SceneSpec
    from hiervla.worlds.tabletop_duo.scene import DuoScene


class SeveralArmsError(HiervlaError):
    """A world with several arms, where one arm is expected.

    Attributes:
        world: the preset's name.
    """

    exit_code = 2

    def __init__(self, world: str) -> None:
        super().__init__(
            f"world '{world}' has several arms, which one agent does not move. Use `hiervla run --world {world}`, or "
            f"hiervla.ArmsAgent.from_preset('{world}') from Python."
        )
        self.world = world


@dataclass(frozen=True)
class WorldPreset:
    """How to build a world.

    Attributes:
        name: what ``--world`` takes.
        doc: one line for people.
        scene: draws the scene of a seed.
        build: makes the world from a scene, as recorded or drawn.
    """

    name: str
    doc: str
    scene: Callable[[int], SceneSpec]
    build: Callable[[SceneSpec], World]


@dataclass(frozen=True)
class ArmsPreset:
    """How to build a world with several arms; see :class:`WorldPreset`."""

    name: str
    doc: str
    scene: Callable[[int], DuoScene]
    build: Callable[[DuoScene], ArmsWorld]


P = TypeVar("P", WorldPreset, ArmsPreset)


def _dining_scene(seed: int) -> SceneSpec:
    from hiervla.worlds.tabletop.scene import sample_scene

    return sample_scene(
        seed,
        n_objects=5,
        require=[
            ("mug", "red", "table"),
            ("sponge", None, "table"),
            ("can", None, "table"),
            ("block", None, "table"),
            ("plate", None, "table"),
        ],
        spill=True,
        drawer_open=False,
        stacks=0,
        shelf_prob=0.0,
    )


def _random_scene(seed: int) -> SceneSpec:
    from hiervla.worlds.tabletop.scene import sample_scene

    return sample_scene(seed)


def _tabletop(scene: SceneSpec) -> World:
    from hiervla.worlds.tabletop.world import TabletopWorld

    return TabletopWorld(scene)


def _duo_scene(seed: int) -> DuoScene:
    from hiervla.worlds.tabletop_duo.scene import sample_duo_scene

    return sample_duo_scene(seed)


def _duo(scene: DuoScene) -> ArmsWorld:
    from hiervla.worlds.tabletop_duo.world import DuoWorld

    return DuoWorld(scene)


_PRESETS = (
    WorldPreset(
        "tabletop",
        "a dining table with a red mug, a sponge, a spill and other things, beside a shelf, a drawer and a bin",
        _dining_scene,
        _tabletop,
    ),
    WorldPreset("tabletop-random", "the same furniture with a random scene for each seed", _random_scene, _tabletop),
)


_ARMS_PRESETS = (
    ArmsPreset(
        "tabletop-duo",
        "two arms at one table with a bin between them; each has a shelf, a drawer and things of its own",
        _duo_scene,
        _duo,
    ),
)


def world_presets() -> tuple[WorldPreset, ...]:
    """All presets."""
    return _PRESETS


def world_preset(name: str) -> WorldPreset:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    return _of_name(name, _PRESETS, "world", (*_PRESETS, *_ARMS_PRESETS))


def arms_presets() -> tuple[ArmsPreset, ...]:
    """All presets of worlds with several arms."""
    return _ARMS_PRESETS


def arms_preset(name: str) -> ArmsPreset:
    """The preset with several arms of that name.

    Raises:
        UnknownNameError: there is none.
    """
    return _of_name(name, _ARMS_PRESETS, "world with several arms", _ARMS_PRESETS)


def _of_name(name: str, presets: Sequence[P], what: str, known: Sequence[WorldPreset | ArmsPreset]) -> P:
    for preset in presets:
        if preset.name == name:
            return preset
    raise UnknownNameError(what, name, [p.name for p in known])


def rebuild_world(name: str, config: dict[str, Any]) -> World:
    """The world of a run record, from the manifest's ``world`` and ``world_config``.

    Raises:
        UnknownNameError: this installation has no such world.
        SeveralArmsError: the world has several arms, of which one record tells but a part.
        pydantic.ValidationError: the recorded scene is not valid.
    """
    import json

    from hiervla.worlds.tabletop.scene import SceneSpec

    if any(p.name == name for p in _ARMS_PRESETS):
        raise SeveralArmsError(name)
    preset = world_preset(name)
    return preset.build(SceneSpec.model_validate_json(json.dumps(config["scene"])))
