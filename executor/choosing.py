"""Between things that the instruction does not tell apart, the one that is handled more reliably: by measured rates.

"Put the red block on the plate" with one red block on the table and another in the drawer is right with either. Which
one the planner happens to name is chance; that picks from the drawer fail more often was measured.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from hiervla.executor.policies.base import Policy
from hiervla.executor.policies.families import shipped, shipped_folder
from hiervla.planner.base import Planner, PlannerContext
from hiervla.planner.wrapping import PlannerWrapper
from hiervla.representations import (
    Keypoint,
    Keypoints,
    Observation,
    Plan,
    Provenance,
    Refusal,
    Step,
)
from hiervla.skills import SkillLibrary
from hiervla.skills.reliability import FILE, Rate, Reliability, digest_of, user_file

CHOSEN: Final = "chosen"
"""Key in a plan's provenance (``sampling``) under which it says what was changed for reliability, and why."""
_SINGLED: Final = re.compile(
    r"\b(left|leftmost|right|rightmost|front|back|near|nearest|closest|far|farthest|other|middle|next|beside|between|"
    r"behind|all|both|every|everything|two|three|on top of|under|not)\b"
)
_LABEL: Final = re.compile(r"^(?P<name>.+) \((?P<where>[^()]+)\)$")


@dataclass(frozen=True)
class _Candidate:
    point: Keypoint
    where: str
    rate: Rate | None


class ReliablePlanner(PlannerWrapper):
    """A planner that takes, of several look-alikes, the one whose place has the better measured rate.

    A choice is made only where the instruction singles none of them out, exactly one of them is to be picked up, and
    the two rates' 95 % intervals do not overlap.
    """

    def __init__(
        self, inner: Planner, reliability: Reliability, library: SkillLibrary, weights: Callable[[str], str]
    ) -> None:
        """Stand before a planner.

        Args:
            inner: who plans.
            reliability: what was measured.
            library: the skills.
            weights: gives the version of the policy of a name; see :func:`weights_of`.
        """
        super().__init__(inner)
        self._reliability = reliability
        self._library = library
        self._weights = weights

    def plan(self, observation: Observation, instruction: str, context: PlannerContext) -> Plan | Refusal:
        """The inner planner's answer, with the more reliable thing where the instruction leaves it open."""
        answer = super().plan(observation, instruction, context)
        if isinstance(answer, Refusal):
            return answer
        # Of the answer only: what was chosen stays chosen when the plan is followed.
        return self.choose(answer, " ".join([instruction, *context.said]))

    def choose(self, plan: Plan, instruction: str) -> Plan:
        """A plan with the more reliable thing in each pick that the instruction leaves open."""
        picks = [plan.step(i) for i in plan.remaining if plan.step(i).skill == "pick"]
        for step in picks:
            if sum(p.args.get("object") == step.args.get("object") for p in picks) > 1:
                continue
            better = self._better(plan, step, instruction)
            if better is not None:
                changed, why = better
                told = plan.provenance or Provenance(model=self.id)
                told = told.replace(sampling={**told.sampling, CHOSEN: why})
                steps = tuple(changed if s.id == step.id else s for s in plan.steps)
                plan = plan.replace(steps=steps, provenance=told)
        return plan

    def _better(self, plan: Plan, step: Step, instruction: str) -> tuple[Step, str] | None:
        name = step.args.get("object", "")
        pointed = next((a for a in step.artifacts if isinstance(a, Keypoints)), None)
        candidates = self._candidates(plan.scene, step, name)
        if pointed is None or len(candidates) < 2 or _singled_out(instruction, candidates):
            return None
        at = pointed.points[0]
        now = min(candidates, key=lambda c: float(np.hypot(c.point.u - at.u, c.point.v - at.v)))
        known = [c for c in candidates if c.rate is not None]
        if now.rate is None or not known:
            return None
        best = max(known, key=lambda c: c.rate.interval[0] if c.rate is not None else 0.0)
        assert best.rate is not None, "candidates without a rate were left out"
        if best.where == now.where or best.rate.interval[0] <= now.rate.interval[1]:
            return None
        point = best.point.replace(label=at.label, position_w=None)
        others = tuple(a for a in step.artifacts if a.kind not in ("keypoints", "affordance_map"))
        changed = step.replace(
            args=step.args | ({"source": best.where} if "source" in step.args else {}),
            text=step.text.replace(f"from the {now.where}", f"from the {best.where}"),
            artifacts=(pointed.replace(points=(point,)), *others),
        )
        why = f"the {name} at '{best.where}' ({best.rate} picks worked) and not at '{now.where}' ({now.rate})"
        return changed, why

    def _candidates(self, scene: Sequence[object], step: Step, name: str) -> list[_Candidate]:
        skill = self._library.get(step.skill)
        digest = digest_of(skill, self._weights(skill.policy))
        found = []
        for artifact in scene:
            for point in artifact.points if isinstance(artifact, Keypoints) else ():
                label = _LABEL.match(point.label)
                if label is not None and label["name"] == name:
                    where, kind = label["where"], name.rsplit(maxsplit=1)[-1]
                    rate = self._reliability.rate(step.skill, kind, where.replace(" ", "_"), digest)
                    found.append(_Candidate(point, where, rate))
        return found


def _singled_out(instruction: str, candidates: Sequence[_Candidate]) -> bool:
    """Whether the words may mean one of the candidates in particular; in doubt they do."""
    words = instruction.lower()
    places = {w for c in candidates for w in c.where.split() if w not in ("table", "on", "object")}
    return bool(_SINGLED.search(words)) or any(re.search(rf"\b{w}\b", words) for w in places)


def weights_folder(policy: str) -> Path | None:
    """The folder of a policy's weights: of a checkpoint, or of a shipped family; None for a policy of another make."""
    if Path(policy).is_dir():
        return Path(policy)
    return shipped_folder(policy) if policy in shipped() else None


def weights_of(policy: str, policy_for: Callable[[str], Policy]) -> Callable[[str], str]:
    """What tells the versions of policies apart: the hash of the weights' file, or a policy's own id where it has none.

    Args:
        policy: what runs the built-in skills: a name, or the folder of a checkpoint.
        policy_for: gives the policy of a name.
    """

    @cache
    def version(name: str) -> str:
        folder = weights_folder(policy if name == "flow" else name)
        if folder is None:
            return policy_for(name).id
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    return version


def known_rates(weights_folder: Path | None) -> Reliability:
    """Rates that came with the weights, and those of the user's own runs.

    Raises:
        ReliabilityError: a file is damaged.
    """
    shipped = Reliability() if weights_folder is None else Reliability.read(weights_folder / FILE)
    return shipped.plus(Reliability.read(user_file()).rates)


__all__ = ["CHOSEN", "ReliablePlanner", "known_rates", "weights_folder", "weights_of"]
