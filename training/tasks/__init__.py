"""Tasks of the tabletop in symbols: scenes, instructions, goals, and the expert that plans them."""

from hiervla.training.tasks.domain import Fact, StepError, SymbolicObject, SymbolicScene, SymbolicStep, apply, facts
from hiervla.training.tasks.expert import NoPlanError, expert_plan
from hiervla.training.tasks.goals import Clause, Goal, PlanCheck, check_plan, goal_satisfied
from hiervla.training.tasks.sampler import sample_symbolic_scene
from hiervla.training.tasks.tasks import FAMILIES, Task, sample_task, task_in

__all__ = [
    "FAMILIES",
    "Clause",
    "Fact",
    "Goal",
    "NoPlanError",
    "PlanCheck",
    "StepError",
    "SymbolicObject",
    "SymbolicScene",
    "SymbolicStep",
    "Task",
    "apply",
    "check_plan",
    "expert_plan",
    "facts",
    "goal_satisfied",
    "sample_symbolic_scene",
    "sample_task",
    "task_in",
]
