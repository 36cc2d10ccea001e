"""Learned parts see observations and nothing else: proved by running them where no world exists.

Each part answers twice to the same recorded observation: here, beside the live simulator, and in a process that cannot
import any world at all and gets the observation as JSON. A part that peeks at ground truth cannot give the same answer
there; a cheat in this file shows that the check catches one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hiervla.executor.policies.base import make_policy
from hiervla.planner.base import PlannerContext, make_planner
from hiervla.representations import ActionChunk, Observation, Plan, Refusal, Step
from hiervla.skills import SkillLibrary

INSTRUCTION = "put the red mug on the top shelf"
WORLDLESS = """
import json, sys
for name in ("hiervla.worlds", "hiervla.worlds.base", "hiervla.worlds.tabletop"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import test_no_peeking as t
given = json.load(sys.stdin)
print(json.dumps(getattr(t, given["part"])(given["observation"], given["extra"])))
"""


def planner_says(observation: str, extra: str) -> Any:
    """The embedded planner's answer without wall-clock times."""
    context = PlannerContext(skills=SkillLibrary.load().signatures())
    answer = make_planner("embedded").plan(Observation.from_json(observation), INSTRUCTION, context)
    return _without_times(json.loads(answer.to_json()))


def policy_says(observation: str, extra: str) -> Any:
    """The flow policy's first chunk for a grounded step."""
    step = Step.from_json(extra)
    policy = make_policy("flow")
    policy.reset(step, seed=5)
    return json.loads(policy.act(Observation.from_json(observation), step).to_json())


def cheat_says(observation: str, extra: str) -> Any:
    """A "policy" that finds the simulator's state in memory instead of looking at the images."""
    import gc

    seen = Observation.from_json(observation)
    worlds = [o for o in gc.get_objects() if type(o).__name__ == "TabletopWorld"]
    goal = np.array(worlds[0]._data.qpos[-7:-4]) if worlds else seen.proprio.ee_position
    chunk = ActionChunk(
        positions=goal[None], yaws=np.zeros(1), gripper=np.ones(1), rate_hz=10.0, observed_at_s=seen.time_s
    )
    return json.loads(chunk.to_json())


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k != "latency_s"}
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    return value


def answers(part: str, observation: str, extra: str = "") -> tuple[Any, Any]:
    """(what the part says here, what it says where there is no world)."""
    done = subprocess.run(
        [sys.executable, "-c", WORLDLESS, str(Path(__file__).parent)],
        input=json.dumps({"part": part, "observation": observation, "extra": extra}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return globals()[part](observation, extra), json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def live() -> Any:
    """A live world, whose state is there to be peeked at, and an observation of it."""
    from hiervla.executor.presets import world_preset

    preset = world_preset("tabletop")
    world = preset.build(preset.scene(3))
    yield world, world.observe().to_json()
    world.close()


def test_the_planner_needs_no_world(live: Any) -> None:
    here, there = answers("planner_says", live[1])
    assert here == there
    kind = Plan if here["kind"] == "plan" else Refusal
    assert kind.model_validate_json(json.dumps(here))


def test_the_policy_needs_no_world(live: Any) -> None:
    step = _grounded(live[1])
    here, there = answers("policy_says", live[1], step.to_json())
    assert here == there
    assert ActionChunk.from_json(json.dumps(here)).horizon > 1


def test_a_cheat_is_caught(live: Any) -> None:
    here, there = answers("cheat_says", live[1])
    assert here != there


def test_the_worlds_public_surface_holds_no_ground_truth(live: Any) -> None:
    import mujoco

    world, _ = live
    for name in (n for n in dir(world) if not n.startswith("_")):
        value = getattr(world, name)
        assert not isinstance(value, mujoco.MjData | mujoco.MjModel), f"world.{name} hands out the simulator"
        assert "privileged" not in (getattr(type(value), "__module__", "") or ""), f"world.{name} is privileged"


def _grounded(observation: str) -> Step:
    from hiervla.executor.testing import step_at

    assert Observation.from_json(observation).frames
    return step_at("s1", "pick", (0.5, 0.0, 0.05), object="red mug")
