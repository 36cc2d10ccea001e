"""The library's door: entry points, duplicates, near misses, a broken stranger."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from hiervla.representations import SkillSignature, UnknownNameError, Verdict
from hiervla.skills import (
    Approach,
    Belief,
    DuplicateSkillError,
    NotASkillError,
    Skill,
    SkillContext,
    SkillLibrary,
    Waypoint,
    skill,
)
from hiervla.skills.registry import ENTRY_POINT_GROUP


class Wave(Skill):
    signature = SkillSignature(name="wave", doc="wave at people")

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        return Verdict(name="done", value="yes")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


@skill
def bow(context: SkillContext) -> list[Waypoint]:
    """Bow to people."""
    return []


def register_wave(library: SkillLibrary) -> None:
    library.register(Wave())


def register_pick_again(library: SkillLibrary) -> None:
    class Pick(Wave):
        signature = SkillSignature(name="pick")

    library.register(Wave())
    library.register(Pick())


def register_nothing(library: SkillLibrary) -> None:
    raise RuntimeError("the gripper driver is not installed")


def point(name: str, function: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"{__name__}:{function}", group=ENTRY_POINT_GROUP)


BUILTIN = EntryPoint(name="builtin", value="hiervla.skills.library:register", group=ENTRY_POINT_GROUP)


def test_the_installed_library_has_the_built_in_skills() -> None:
    library = SkillLibrary.load()
    assert {"pick", "place", "open_drawer", "close_drawer", "wipe", "throw_away"} <= {s.name for s in library}
    assert not library.broken


def test_strangers_enter_by_the_same_door() -> None:
    library = SkillLibrary.load([point("stranger", "register_wave"), BUILTIN])
    assert "wave" in library
    assert "wave" in {s.name for s in library.signatures()}
    assert next(iter(library)).name == "pick", "built-ins come first, so that a stranger can never take their name"


def test_a_broken_package_is_named_and_the_rest_works() -> None:
    library = SkillLibrary.load([BUILTIN, point("broken", "register_nothing"), point("good", "register_wave")])
    (broken,) = library.broken
    assert (broken.point, broken.error) == ("broken", "RuntimeError: the gripper driver is not installed")
    assert "wave" in library


def test_a_name_never_clashes_silently() -> None:
    library = SkillLibrary([Wave()])
    with pytest.raises(DuplicateSkillError, match="skill 'wave' .* is already registered"):
        library.register(Wave())
    loaded = SkillLibrary.load([BUILTIN, point("thief", "register_pick_again")])
    (broken,) = loaded.broken
    assert (broken.point, "is already registered by" in broken.error) == ("thief", True)
    assert str(loaded.origin("pick")) == "hiervla.skills.library:register"
    assert "wave" in loaded, "what does not clash of a package is there"


def test_an_unknown_skill_is_named_with_the_near_miss_and_the_place() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown skill 'pik' in step s1. Did you mean 'pick'\?"):
        SkillLibrary.load().get("pik", place="step s1")


def test_only_skills_can_be_registered() -> None:
    with pytest.raises(NotASkillError, match="<class .*Wave'> is no skill. Register an instance of"):
        SkillLibrary().register(Wave)  # type: ignore[arg-type]  # what is tested
    nameless = type("Nameless", (Wave,), {"signature": None})
    with pytest.raises(NotASkillError, match="Give its class a `signature"):
        SkillLibrary().register(nameless())


def test_an_entry_point_may_name_a_skill_or_its_class() -> None:
    library = SkillLibrary.load([point("class", "Wave"), point("object", "bow")])
    assert [s.name for s in library] == ["wave", "bow"]
    assert not library.broken


def test_constructing_the_library_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from hiervla.skills import SkillLibrary; SkillLibrary.load();"
        "print([m for m in ('torch', 'mujoco', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
