import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hiervla.representations import UnknownNameError
from hiervla.worlds.tabletop.privileged import GroundTruth
from hiervla.worlds.tabletop.relations import Box, support_of
from hiervla.worlds.tabletop.scene import FurnitureSpec
from hiervla.worlds.tabletop.world import TabletopWorld
from tests.worlds.scripted import scene, thing

ROOT = Path(__file__).resolve().parents[2]


def at(x: float, y: float, z: float) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


@pytest.mark.parametrize(
    ("spot", "support"),
    [
        ((0.5, 0.0, 0.0), "table"),
        ((0.5, 0.0, 0.1), None),
        ((0.30, -0.40, 0.06), "bottom_shelf"),
        ((0.30, -0.592, 0.20), "top_shelf"),
        ((0.20, 0.46, 0.006), "bin"),
        ((0.46, 0.55, 0.10), None),
    ],
)
def test_places_are_told_by_position(spot: tuple[float, float, float], support: str | None) -> None:
    box = Box.of(thing("block"), at(*spot))
    assert support_of(box, [], FurnitureSpec(), 0.0) == support


def test_the_drawer_counts_where_it_is_now() -> None:
    furniture = FurnitureSpec()
    x, y = furniture.region("drawer", 0.15).centre
    box = Box.of(thing("block"), at(x, y, 0.014))
    assert support_of(box, [], furniture, 0.15) == "drawer"
    assert support_of(box, [], furniture, 0.0) != "drawer"


def test_beside_is_not_on() -> None:
    lower = Box.of(thing("block"), at(0.5, 0.0, 0.0))
    beside = Box.of(thing("block", number=1), at(0.5, 0.041, 0.0))
    above = Box.of(thing("block", number=1), at(0.5, 0.005, 0.04))
    assert support_of(beside, [lower], FurnitureSpec(), 0.0) == "table"
    assert support_of(above, [lower], FurnitureSpec(), 0.0) == "block_0"


def test_unknown_objects_are_named() -> None:
    with TabletopWorld(scene(thing("mug")), cameras=()) as world:
        truth = GroundTruth(world)
        with pytest.raises(UnknownNameError, match="Did you mean 'mug_0'"):
            truth.pose("mug_1")
        with pytest.raises(UnknownNameError, match="can_0"):
            truth.spec("can_0")


def test_asking_changes_nothing() -> None:
    with TabletopWorld(scene(thing("mug"), thing("bowl", (0.5, -0.18))), width=64, height=48) as world:
        before = world.snapshot()
        truth = GroundTruth(world)
        truth.facts()
        truth.touching()
        truth.segmentation("front")
        assert world.snapshot() == before


def test_touching_names_both_sides() -> None:
    with TabletopWorld(scene(thing("mug")), cameras=()) as world:
        assert GroundTruth(world).touching() == {("mug_0", "table")}


def test_segmentation_refuses_names_that_are_not_there() -> None:
    with TabletopWorld(scene(thing("mug")), width=64, height=48) as world:
        picture = GroundTruth(world).segmentation("front")
        assert picture.visible()["mug_0"] > 0
        with pytest.raises(UnknownNameError, match="mug_0"):
            picture.mask("mug_9")


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def leaks(name: str) -> bool:
    return "worlds.tabletop" in name and any(w in name for w in ("privileged", "preview", "GroundTruth"))


def test_nothing_that_plans_or_acts_imports_the_truth() -> None:
    assert leaks("hiervla.worlds.tabletop.privileged.GroundTruth")
    assert any(leaks(n) for n in imports("from hiervla.worlds.tabletop import privileged"))
    folders = ("representations", "controllers", "skills", "planner", "executor")
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        found = [n for n in imports(path.read_text()) if leaks(n)]
        assert not found, f"{path} imports {found}"
