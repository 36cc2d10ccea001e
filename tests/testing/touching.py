"""A skill and a run of it without physics or weights: two steps, the first of which fails once."""

from __future__ import annotations

from pathlib import Path

from hiervla.executor.agent import Agent
from hiervla.executor.presets import world_preset
from hiervla.executor.testing import KinematicWorld, LinePolicy, ScriptedPlanner, step_at
from hiervla.representations import Plan, SkillSignature, Verdict
from hiervla.skills import Approach, Belief, Skill, SkillContext, SkillLibrary


class Touch(Skill):
    """Fails at its first attempt."""

    signature = SkillSignature(name="touch", doc="touch a spot")
    timeout_s = 3.0
    naive_s = 1.0

    def __init__(self) -> None:
        self.asked = 0

    def approach(self, context: SkillContext) -> Approach:
        return Approach()

    def ready(self, context: SkillContext) -> Verdict:
        return Verdict(name="ready", value="yes")

    def done(self, context: SkillContext) -> Verdict:
        self.asked += 1
        return Verdict(name="touched", value="yes" if self.asked > 1 else "no")

    def effect(self, context: SkillContext) -> Belief:
        return context.belief


def library() -> SkillLibrary:
    return SkillLibrary([Touch()])


def record_run(folder: Path, *, seed: int = 0, spot: tuple[float, float, float] = (0.5, 0.05, 0.0)) -> Path:
    """Records a run in ``folder`` and returns the record."""
    steps = (step_at("a", "touch", spot), step_at("b", "touch", (0.45, -0.1, 0.0)))
    agent = Agent(
        world_preset("tabletop"),
        ScriptedPlanner([Plan(goal="touch", steps=steps, remaining=("a", "b"))]),
        lambda name: LinePolicy(),
        skills=library(),
    )
    result = agent.run("touch them", seed=seed, world=KinematicWorld(), record=folder)
    assert result.outcome == "succeeded", result.message
    assert [r.outcome for r in result.steps] == ["failed", "succeeded", "succeeded"]
    assert result.record is not None
    return result.record
