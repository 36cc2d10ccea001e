"""How `push` is tried: the success check looks at ground truth, which the skill itself can never do."""

from __future__ import annotations

import numpy as np

from hiervla.training.arena import Arena
from hiervla.training.experts.state import State
from hiervla.training.skill_trials import Trial, TrialTask, drawn_trial

from . import push

_DRAWN = drawn_trial(push)


def judge(arena: Arena, before: State, task: TrialTask) -> str:
    """The thing stands upright, half of the wanted way or more further from the robot, and nothing else moved."""
    after, thing = arena.state(), str(task.about["object"])
    moved = after.things[thing].position - before.things[thing].position
    wanted = float(task.step.args["distance_m"])
    if not 0.5 * wanted < moved[0] < wanted + 0.05:
        return f"moved {moved[0]:.2f} m where {wanted:.2f} m were wanted"
    if after.things[thing].upright < 0.95:
        return "tipped it"
    others = (n for n in before.things if n != thing)
    if any(np.linalg.norm(after.things[n].position - before.things[n].position) > 0.03 for n in others):
        return "moved something else"
    return ""


PUSH = Trial(_DRAWN.scene, _DRAWN.task, judge)
