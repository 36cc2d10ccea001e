"""Tasks in symbols: plans that are checked, goals that are judged, wordings that are held out."""

from __future__ import annotations

import re
import string
from dataclasses import replace

import numpy as np
import pytest

from hiervla.training.tasks import (
    FAMILIES,
    Clause,
    Goal,
    StepError,
    SymbolicObject,
    SymbolicScene,
    SymbolicStep,
    Task,
    apply,
    check_plan,
    expert_plan,
    facts,
    goal_satisfied,
    sample_task,
)
from hiervla.training.tasks.phrases import JOINS, TEMPLATES, WRAPPERS
from hiervla.training.tasks.refusals import IMPOSSIBLE, SENSELESS
from hiervla.training.tasks.tabletop import sample_scene_for, symbolic_scene
from hiervla.training.tasks.wordings import KINDS, join_words, request_words, wrap_words
from hiervla.worlds.tabletop.scene import sample_scene

PICK_RED, PICK_BLUE = SymbolicStep("pick", "block_0"), SymbolicStep("pick", "block_1")


def thing(name: str, colour: str, support: str, x: float = 0.5, y: float = 0.0) -> SymbolicObject:
    return SymbolicObject(name, name.rsplit("_", 1)[0], colour, support, (x, y, 0.0))


def fixture(name: str, x: float, y: float) -> SymbolicObject:
    return SymbolicObject(name, name, "none", "table_edge", (x, y, 0.0))


SCENE = SymbolicScene(
    {
        o.id: o
        for o in (
            fixture("drawer", 0.5, 0.4), fixture("bin", 0.25, 0.45), fixture("top_shelf", 0.48, -0.59),
            fixture("bottom_shelf", 0.48, -0.42), thing("block_0", "red", "table", 0.4),
            thing("block_1", "blue", "block_0", 0.4), thing("mug_0", "red", "table", 0.6),
            thing("can_0", "green", "table", 0.5, 0.12),
        )
    }
)  # fmt: skip
IN_DRAWER = Goal((Clause((("on", "block_1", "drawer"),)),))


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    rng = np.random.default_rng(11)
    return [sample_task(rng, family, split) for family in FAMILIES for split in ("train", "test") for _ in range(13)]


def test_every_expert_plan_is_executable_and_reaches_its_goal(tasks: list[Task]) -> None:
    assert len(tasks) >= 200
    for task in tasks:
        assert task.goal is not None
        plan = task.plan()
        assert 1 <= len(plan) <= 8, task.instruction
        assert check_plan(task.scene, plan, task.goal).ok, task.instruction
        assert not goal_satisfied(facts(task.scene), task.goal), f"nothing to do: {task.instruction}"
        assert check_plan(task.scene, [], task.goal).reason == "goal_not_reached"


def test_a_plan_without_one_of_its_steps_is_caught(tasks: list[Task]) -> None:
    """Plans are not padded: nearly every step is needed."""
    caught = total = 0
    for task in tasks[::3]:
        assert task.goal is not None
        plan = task.plan()
        for k in range(len(plan)):
            total += 1
            caught += not check_plan(task.scene, plan[:k] + plan[k + 1 :], task.goal).ok
    assert caught >= 0.97 * total


def test_facts_after_the_plan_fulfil_the_goal_and_half_of_it_does_not(tasks: list[Task]) -> None:
    for task in tasks[::5]:
        assert task.goal is not None
        scene, plan = task.scene, task.plan()
        for step in plan:
            assert not goal_satisfied(facts(scene), task.goal)
            scene = apply(scene, step)
        assert goal_satisfied(facts(scene), task.goal)


def test_the_good_plan_of_the_example_is_good() -> None:
    plan = [SymbolicStep("open_drawer", "drawer"), PICK_BLUE, SymbolicStep("place", "block_1", "in", "drawer")]
    assert check_plan(SCENE, plan, IN_DRAWER).ok
    assert expert_plan(SCENE, IN_DRAWER) == plan


@pytest.mark.parametrize(
    ("plan", "step", "words"),
    [
        ([PICK_RED], 0, "block_1 is on block_0"),
        ([PICK_BLUE, SymbolicStep("place", "block_1", "in", "drawer")], 1, "the drawer is closed"),
        ([PICK_BLUE, SymbolicStep("open_drawer", "drawer")], 1, "the gripper holds block_1"),
        ([PICK_BLUE, SymbolicStep("pick", "mug_0")], 1, "the gripper holds block_1"),
        ([SymbolicStep("place", "mug_0", "on", "top_shelf")], 0, "not in the gripper"),
        ([SymbolicStep("pick", "mug_0"), SymbolicStep("place", "mug_0", "in", "drawer")], 1, "does not go"),
        ([SymbolicStep("pick", "mug_0"), SymbolicStep("place", "mug_0", "in", "top_shelf")], 1, "no place"),
        ([SymbolicStep("pick", "sponge_0")], 0, "there is no 'sponge_0'"),
        ([SymbolicStep("pick", "bin")], 0, "cannot be picked up"),
        ([SymbolicStep("close_drawer", "drawer")], 0, "already closed"),
        ([SymbolicStep("wipe", "mug_0")], 0, "no spill"),
        ([SymbolicStep("dance", "mug_0")], 0, "no skill"),
    ],
)
def test_a_plan_that_cannot_be_executed_is_reported_with_the_reason(
    plan: list[SymbolicStep], step: int, words: str
) -> None:
    check = check_plan(SCENE, plan, IN_DRAWER)
    assert (check.reason, check.failed_step) == ("not_executable", step)
    assert words in check.message
    scene = SCENE
    for good in plan[:step]:
        scene = apply(scene, good)
    with pytest.raises(StepError, match=re.escape(words)):
        apply(scene, plan[step])


def test_an_unfinished_goal_is_reported_with_what_is_missing() -> None:
    check = check_plan(SCENE, [SymbolicStep("open_drawer", "drawer"), PICK_BLUE], IN_DRAWER)
    assert check.reason == "goal_not_reached"
    assert "drawer" in check.message
    shut = replace(IN_DRAWER, never=frozenset({("drawer_open",)}))
    plan = expert_plan(SCENE, shut)
    assert plan[-1] == SymbolicStep("close_drawer", "drawer")
    assert check_plan(SCENE, plan, shut).ok
    assert "drawer_open" in check_plan(SCENE, plan[:-1], shut).message


@pytest.mark.parametrize("kind", [*TEMPLATES, "frame", "join", "impossible", "senseless"])
def test_test_wordings_are_no_train_wordings(kind: str) -> None:
    """The plain frame `{a}` is no wording. Joins may differ in punctuation alone, all else differs in words."""
    tables = {"frame": WRAPPERS, "join": JOINS, "impossible": IMPOSSIBLE, "senseless": SENSELESS, **TEMPLATES}
    if kind == "join":
        assert not set(JOINS["train"]) & set(JOINS["test"])
        assert _plain(JOINS["test"]) - _plain(JOINS["train"])
        return
    train, test = (_plain(tables[kind][split]) for split in ("train", "test"))
    assert test - {"{a}"}
    assert not (train & test) - {"{a}"}
    assert train & _plain((*tables[kind]["test"], tables[kind]["train"][0] + "."))


def test_no_held_out_wording_is_a_training_wording_of_another_kind() -> None:
    """Kinds share slots of different names, so all slots are made alike; what differs in slots is not compared."""
    train = {_blank(t): kind for kind, table in TEMPLATES.items() for t in table["train"]}
    held_out = [(t, kind) for kind, table in TEMPLATES.items() for t in table["test"]]
    assert not {t: (kind, train[_blank(t)]) for t, kind in held_out if _blank(t) in train}


def test_no_instruction_is_said_in_both_splits() -> None:
    rng = np.random.default_rng(3)
    said = {
        split: {_words(sample_task(rng, family, split).instruction) for family in FAMILIES for _ in range(60)}
        for split in ("train", "test")
    }
    assert min(len(s) for s in said.values()) > 300
    assert not said["train"] & said["test"]


def test_held_out_wordings_use_no_new_words() -> None:
    tables = [*TEMPLATES.values(), WRAPPERS, JOINS, IMPOSSIBLE, SENSELESS]
    known, asked = (
        {w for table in tables for t in table[split] for w in _words(t).split() if "{" not in w}
        for split in ("train", "test")
    )
    assert asked - known <= {"end"}, "which is trained on as 'ends'"
    assert known - asked


def test_wordings_that_are_put_together_are_many_and_never_held_out_ones() -> None:
    held_out = {_blank(t) for table in (*TEMPLATES.values(), WRAPPERS, JOINS) for t in table["test"]} - {"{}"}
    rng = np.random.default_rng(5)
    for kind in [*sorted(KINDS), "join", "wrap"]:
        makers = {"join": join_words, "wrap": wrap_words}
        made = {makers[kind](rng) if kind in makers else request_words(rng, kind) for _ in range(600)}
        assert len(made) >= (6 if kind in {"open", "close", "pick"} else 25), kind
        assert not {t for t in made if _blank(t) in held_out}
        listed = [t for t in TEMPLATES[kind]["train"]] if kind in TEMPLATES else []
        fields = {f for t in listed for f in re.findall(r"\{(\w+)\}", t)} | {"a", "b", "table", "it"}
        assert {f for t in made for f in re.findall(r"\{(\w+)\}", t)} <= fields, kind


@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_scene_has_a_task_that_is_not_done_yet(family: str) -> None:
    scene, task = sample_scene_for(family, 4)
    again, same = sample_scene_for(family, 4)
    assert (scene, task) == (again, same)
    other, _ = sample_scene_for(family, 5)
    assert other != scene
    assert task.goal is not None
    assert not goal_satisfied(facts(task.scene), task.goal)
    plan = task.plan()
    assert 3 <= len(plan) <= 8
    assert check_plan(task.scene, plan, task.goal).ok


def test_a_task_to_decline_has_no_goal_but_an_answer() -> None:
    reasons = set()
    for seed in range(12):
        _, task = sample_scene_for("refuse", seed, min_steps=0)
        assert task.goal is None
        assert task.declined is not None
        assert task.plan() == []
        assert (task.declined.reason == "not_in_scene") == bool(task.declined.missing)
        reasons.add(task.declined.reason)
    assert len(reasons) >= 2


def test_an_impossible_range_of_steps_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no rubbish task of 30 to 31 steps"):
        sample_scene_for("rubbish", 0, min_steps=30, max_steps=31)


def test_symbols_say_what_the_scene_says() -> None:
    stacked = opened = 0
    for seed in range(40):
        scene = sample_scene(seed, drawer_open=bool(seed % 2))
        symbols = symbolic_scene(scene)
        loose = {o.id for o in scene.objects}
        both = (facts(symbols), scene.facts())
        here, there = ({f for f in found if f[0] == "on" and f[1] in loose} for found in both)
        assert here == there
        assert len(here) == len(loose)
        assert (("drawer_open",) in facts(symbols)) == (("drawer_open",) in scene.facts())
        stacked += any(f[2] in loose for f in here)
        opened += symbols.drawer_open
        for o in scene.objects:
            assert symbols.objects[o.id].colour == o.colour
        if loose:
            moved = replace(symbols.objects[min(loose)], support="elsewhere")
            assert facts(replace(symbols, objects={**symbols.objects, moved.id: moved})) != facts(symbols)
    assert stacked >= 3
    assert opened >= 10


def _plain(texts: tuple[str, ...]) -> set[str]:
    return {_words(t) for t in texts}


def _words(text: str) -> str:
    """Lower case, no punctuation but the braces of slots."""
    kept = text.translate(str.maketrans("", "", "".join(c for c in string.punctuation if c not in "{}_")))
    return " ".join(kept.lower().split())


def _blank(text: str) -> str:
    """The template with all slots made alike."""
    return re.sub(r"\{\w+\}", "{}", _words(text))
