"""Worlds that ``Agent.from_preset`` and ``hiervla run --world`` know by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hiervla.representations import UnknownNameError

if TYPE_CHECKING:
    from hiervla.worlds.base import World
    from hiervla.worlds.tabletop.scene import SceneSpec


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


_PRESETS = (
    WorldPreset(
        "tabletop",
        "a dining table with a red mug, a sponge, a spill and other things, beside a shelf, a drawer and a bin",
        _dining_scene,
        _tabletop,
    ),
    WorldPreset("tabletop-random", "the same furniture with a random scene for each seed", _random_scene, _tabletop),
)


def world_presets() -> tuple[WorldPreset, ...]:
    """All presets."""
    return _PRESETS


def world_preset(name: str) -> WorldPreset:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for preset in _PRESETS:
        if preset.name == name:
            return preset
    raise UnknownNameError("world", name, [p.name for p in _PRESETS])


def rebuild_world(name: str, config: dict[str, Any]) -> World:
    """The world of a run record, from the manifest's ``world`` and ``world_config``.

    Raises:
        UnknownNameError: this installation has no such world.
        pydantic.ValidationError: the recorded scene is not valid.
    """
    import json

    from hiervla.worlds.tabletop.scene import SceneSpec

    preset = world_preset(name)
    return preset.build(SceneSpec.model_validate_json(json.dumps(config["scene"])))
