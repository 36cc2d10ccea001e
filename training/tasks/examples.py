"""Training examples of the language part: slots, instruction and history in, the plan as compact JSON out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hiervla.planner.embedded.foresight import after_steps
from hiervla.planner.embedded.grammar import plan_json, refusal_json
from hiervla.planner.embedded.slots import SceneSlots
from hiervla.planner.embedded.tokenizer import request_text
from hiervla.training.tasks.domain import StepError, SymbolicScene, SymbolicStep, facts, run
from hiervla.training.tasks.expert import NoPlanError, expert_plan
from hiervla.training.tasks.goals import Goal, goal_satisfied
from hiervla.training.tasks.observe import observe
from hiervla.training.tasks.phrases import Split
from hiervla.training.tasks.rollout import Attempt, roll_out
from hiervla.training.tasks.tasks import LONGEST_PLAN, Part, Task, sample_task

MID_TASK_RATE = 0.5
PART_RATE = 0.5
"""Share of the instructions of several requests of which one request alone becomes an example."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question to the planner and the right answer.

    Attributes:
        task: where it comes from.
        scene: the present state, which may lie in the middle of the task.
        slots: what is seen of it, from left to right.
        ids: the scene's id behind each slot.
        history: what was tried so far.
        answer: the plan or the refusal as compact JSON.
        plan: the remaining steps.
        part: index of the one request of the task that is asked here, in the scene that the ones before it will leave
            behind; None when the whole instruction is asked.
    """

    task: Task
    scene: SymbolicScene
    slots: SceneSlots
    ids: list[str]
    history: tuple[Attempt, ...]
    answer: str
    plan: tuple[SymbolicStep, ...]
    part: int | None = None

    @property
    def text(self) -> str:
        """What is asked: the instruction, or one request of it in the form in which the planner asks itself."""
        return request_text(self.words, self.part or 0)

    @property
    def words(self) -> str:
        """The words of the instruction that are asked about."""
        start, end = self.span
        return self.task.instruction[start:end]

    @property
    def span(self) -> tuple[int, int]:
        """Where in the instruction that stands, as indices of characters."""
        if self.part is None:
            return 0, len(self.task.instruction)
        return self.task.parts[self.part].start, self.task.parts[self.part].end

    @property
    def goal(self) -> Goal | None:
        """What is asked for; None when it has to be declined."""
        return self.task.goal if self.part is None else self.task.parts[self.part].goal

    def lines(self) -> list[str]:
        """The history as the prompt shows it."""
        return [a.line() for a in self.history]


def sample_example(
    rng: np.random.Generator, split: Split = "train", family: str | None = None, middle: bool | None = None
) -> Example:
    """A random example.

    Args:
        rng: source of randomness.
        split: wordings to use.
        family: family of the task; by chance when None.
        middle: whether to start in the middle of the task; by chance when None.
    """
    while True:
        task = sample_task(rng, family, split, max_steps=LONGEST_PLAN)
        example = example_of(rng, task, bool(rng.random() < MID_TASK_RATE) if middle is None else middle)
        if example is not None:
            return example


def example_of(rng: np.random.Generator, task: Task, middle: bool = False, noise: bool = True) -> Example | None:
    """An example of a task, or None when the middle that was drawn has no plan to the goal."""
    scene, history = task.scene, list[Attempt]()
    if task.goal is None:
        slots, ids = observe(scene, task.camera, rng if noise else None)
        declined = task.declined
        answer = refusal_json(declined.reason, declined.missing) if declined else ""
        return Example(task, scene, slots, ids, (), answer, ())
    try:
        if middle:
            attempts = 1 + int(rng.integers(len(task.plan()) + 2))
            scene, history = roll_out(rng, scene, task.goal, task.camera, attempts)
        slots, ids = observe(scene, task.camera, rng if noise else None)
        columns = {i: float(u) for i, u in zip(ids, slots.uv[:, 0], strict=True)}
        done = [k for k, a in enumerate(history) if a.ok]
        part = None
        if len(task.parts) > 1 and rng.random() < PART_RATE:
            part = int(rng.integers(len(task.parts)))
            for earlier in task.parts[:part]:
                scene, slots, ids = _carried_out(scene, slots, ids, earlier, columns)
        goal = task.goal if part is None else task.parts[part].goal
        assert goal is not None
        columns = {i: float(u) for i, u in zip(ids, slots.uv[:, 0], strict=True)}
        fulfilled = part is not None and goal_satisfied(facts(scene), goal)
        plan = [] if fulfilled else expert_plan(scene, goal, columns)
        answer = plan_json(done, [step_call(s, ids) for s in plan])
    except (NoPlanError, StepError, ValueError):
        return None
    return Example(task, scene, slots, ids, tuple(history), answer, tuple(plan), part)


def _carried_out(
    scene: SymbolicScene, slots: SceneSlots, ids: list[str], part: Part, columns: Mapping[str, float]
) -> tuple[SymbolicScene, SceneSlots, list[str]]:
    """The scene when one more request is carried out, and what the planner will think that it looks like then."""
    assert part.goal is not None
    plan = [] if goal_satisfied(facts(scene), part.goal) else expert_plan(scene, part.goal, columns)
    slots, kept = after_steps(slots, [step_call(s, ids) for s in plan])
    return run(scene, plan), slots, [ids[k] for k in kept]


def step_call(step: SymbolicStep, ids: Sequence[str]) -> dict[str, str]:
    """A symbolic step as the planner writes it, with slots for ids.

    Raises:
        ValueError: it speaks of something that is in no slot.
    """
    thing = f"o{ids.index(step.object)}"
    if step.skill == "place":
        target = step.target if step.target == "table" else f"o{ids.index(step.target)}"
        return {"skill": "place", "object": thing, "relation": step.relation, "target": target}
    name = {"open_drawer": "drawer", "close_drawer": "drawer", "wipe": "surface"}.get(step.skill, "object")
    return {"skill": step.skill, name: thing}


def symbolic_steps(calls: Sequence[dict[str, str]], ids: Sequence[str]) -> list[SymbolicStep]:
    """The planner's steps as symbolic ones, for checking.

    Raises:
        ValueError: a slot that does not exist.
    """

    def resolve(name: str) -> str:
        if not name.startswith("o") or not name[1:].isdigit():
            return name
        if int(name[1:]) >= len(ids):
            raise ValueError(f"there is no slot '{name}'; the scene has {len(ids)}")
        return ids[int(name[1:])]

    steps = []
    for call in calls:
        thing = next((v for k, v in call.items() if k in {"object", "drawer", "surface"}), "")
        target = resolve(call.get("target", ""))
        steps.append(SymbolicStep(call["skill"], resolve(thing), call.get("relation", ""), target))
    return steps
