"""Situations in which a skill can be tried: scenes to learn in and scenes to be measured in, which never meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hiervla.executor.agent import policies
from hiervla.executor.choosing import weights_of
from hiervla.executor.policies.base import SKILLS, Policy
from hiervla.executor.policies.features import FeatureSpec
from hiervla.representations import HiervlaError, UnknownNameError
from hiervla.skills import SkillLibrary
from hiervla.skills.reliability import FILE, Reliability, digest_of
from hiervla.training.arena import Arena
from hiervla.training.experts.state import Task
from hiervla.training.experts.tasks import pick_task
from hiervla.training.handoffs import single
from hiervla.training.improve.experience import ExperienceError, Trail
from hiervla.training.improve.rollouts import Exploration, roll_out
from hiervla.training.reliability import PLACES, measured_pick
from hiervla.training.stories import HOME, approach
from hiervla.training.trials import run_trial, trial_scene, trial_task
from hiervla.worlds.tabletop.sampling import SceneRequestError
from hiervla.worlds.tabletop.specs import SceneSpec

KINDS = ("block", "mug", "can", "sponge")
ANY = "any"


@dataclass(frozen=True)
class Situation:
    """A skill, on a kind of thing, in a place.

    Attributes:
        skill: its name.
        kind: kind of the thing; only picks tell kinds apart.
        where: where it lies; only picks tell places apart.
    """

    skill: str
    kind: str = ANY
    where: str = ANY

    def __post_init__(self) -> None:
        """Check.

        Raises:
            UnknownNameError: there is no such skill, kind or place.
        """
        if self.skill not in SKILLS:
            raise UnknownNameError("skill", self.skill, SKILLS)
        if self.place and self.kind not in KINDS:
            raise UnknownNameError("kind of thing", self.kind, KINDS, place="a pick from a place")
        if self.place and self.where not in PLACES:
            raise UnknownNameError("place", self.where, PLACES, place="a pick")

    @property
    def place(self) -> bool:
        """Whether it is a pick from a place of its own, and not the skill from clean resets."""
        return self.skill == "pick" and (self.kind, self.where) != (ANY, ANY)

    def __str__(self) -> str:
        """``pick block from drawer``, or the skill."""
        return f"{self.skill} {self.kind} from {self.where}" if self.place else self.skill

    def measure(self, seed: int, policy: str, loaded: Policy) -> tuple[bool, str] | None:
        """One trial in a held-out scene, and what went wrong; None where the scene has nothing to try.

        A pick from a place goes through the agent's own loop, as `benchmarks.reliability` measures it; a skill from
        clean resets is tried as `benchmarks.skills` does.

        Args:
            seed: of the scene.
            policy: folder of the weights, or a policy's name.
            loaded: the same, loaded.
        """
        if self.place:
            found = measured_pick(self.kind, self.where, seed)
            if found is None:
                return None
            scene, name = found
            tried = single(scene, lambda a, rng: pick_task(a.truth, a.world, a.state(), name, rng), seed, policy)
            return None if tried is None else (not tried.wrong, tried.wrong)
        episode = run_trial(loaded, self.skill, 2 * seed + 1)
        return episode.success, "" if episode.success else episode.reason

    def roll_out(self, seed: int, policy: Policy, exploration: Exploration, features: FeatureSpec) -> Trail | None:
        """One rollout in a training scene; None where the scene has nothing to try."""
        rng = np.random.default_rng([0xE4, SKILLS.index(self.skill), seed])
        found = self._scene(seed, rng)
        if found is None:
            return None
        scene, name = found
        with Arena(scene) as arena:
            task: Task | None
            if name is not None:
                task = pick_task(arena.truth, arena.world, arena.state(), name, rng)
            else:
                task = trial_task(self.skill, arena, rng)
            if task is None:
                return None
            if arena.state().held is not None:
                arena.go(HOME, 0.0, 0.0)
            if not approach(arena, task, rng):
                return None
            return roll_out(arena, task, policy, seed, f"{self} {seed} {policy.id}", exploration, features)

    def _scene(self, seed: int, rng: np.random.Generator) -> tuple[SceneSpec, str | None] | None:
        # Even seeds, as everything that is trained on; what is measured has odd ones.
        try:
            if self.place:
                return measured_pick(self.kind, self.where, seed, training=True)
            return trial_scene(self.skill, 80_000_000 + 2 * seed, rng), None
        except SceneRequestError:
            return None


def situation_of(weights: Path, skill: str | None, kind: str | None, where: str | None) -> Situation:
    """The situation that is named, or the one in which the weights are known to be weakest.

    Raises:
        UnknownNameError: there is no such skill, kind or place.
        ReliabilityError: the file of measured rates is damaged.
        ExperienceError: nothing is named, and nothing was measured.
    """
    if kind is not None or where is not None:
        if skill not in (None, "pick"):
            problem = f"is not told apart by kind and place for {skill}, but for pick"
            raise ExperienceError(f"{kind or ANY} in {where or ANY}", problem, "Leave out --kind and --where")
        return Situation("pick", kind or "block", where or "table")
    if skill is not None and skill not in SKILLS:
        raise UnknownNameError("skill", skill, SKILLS)
    try:
        return weakest(weights, skill)
    except ExperienceError:
        if skill is None:
            raise
        return Situation(skill)


def weakest(weights: Path, skill: str | None = None) -> Situation:
    """Where a policy is known to be weakest: the lowest of the measured rates beside its weights.

    Args:
        weights: folder of its weights.
        skill: look at this skill only.

    Raises:
        ReliabilityError: the file is damaged.
        ExperienceError: nothing that was measured belongs to these weights.
    """
    file = weights / FILE
    library, digest = SkillLibrary.load(), weights_of(str(weights), policies(str(weights)))
    digests = {s.name: digest_of(s, digest(s.policy)) for s in library if s.policy == "flow"}
    known = [
        r for r in Reliability.read(file).rates
        if digests.get(r.skill) == r.digest and skill in (None, r.skill) and r.skill in SKILLS
    ]  # fmt: skip
    if not known:
        remedy = "Name the situation with --skill, --kind and --where, or measure with benchmarks.reliability --out"
        problem = "holds no measured rate of these weights" + (f" for {skill}" if skill else "")
        raise ExperienceError(file, problem, remedy)
    low = min(known, key=lambda r: (r.successes / r.trials, -r.trials))
    return Situation(low.skill, low.kind, low.where) if low.skill == "pick" else Situation(low.skill)


def require_folder(path: Path) -> Path:
    """A folder of weights.

    Raises:
        WeightsFolderError: it is none.
    """
    if not (path / "config.json").is_file():
        raise WeightsFolderError(path)
    return path


class WeightsFolderError(HiervlaError, ValueError):
    """What should be weights is no folder of them."""

    exit_code = 2

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' is no folder of weights. Name one that `hiervla train policy` wrote.")
        self.path = path


__all__ = ["ANY", "KINDS", "Situation", "require_folder", "situation_of", "weakest"]
