"""Samples for fine-tuning a planner: the question as it is asked, and the answer as it is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hiervla.planner.base import PlannerContext
from hiervla.planner.embedded.wording import step_text
from hiervla.planner.vlm.answers import Draft, Point, read_answer, read_point
from hiervla.planner.vlm.backend import Image, Message
from hiervla.planner.vlm.prompt import plan_prompt, point_prompt
from hiervla.representations import SkillSignature, Step
from hiervla.training.lora.answers import write_answer, write_point

Origin = Literal["run", "correction", "scene"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One question and the right answer.

    Attributes:
        messages: the conversation, as `VLMPlanner` asks.
        image: (H, W, 3) what the first message shows.
        answer: one JSON object, as `VLMPlanner` reads it.
        kind: whether a plan is asked for, or the point of a step.
        group: the run or scene that it comes from; groups are held out whole.
        origin: a run's own plan, a plan that a person corrected, or the symbolic expert's.
        signatures: the skills that the question names.
    """

    messages: tuple[Message, ...]
    image: Image
    answer: str
    kind: Literal["plan", "point"]
    group: str
    origin: Origin
    signatures: tuple[SkillSignature, ...]

    def read(self, text: str) -> Draft | Point | None:
        """An answer to this question.

        Raises:
            AnswerError: the text is none.
        """
        return read_answer(text, self.signatures) if self.kind == "plan" else read_point(text)

    def same(self, text: str) -> bool:
        """Whether an answer that can be read asks for the same: skills and arguments, or a refusal of that kind.

        For a point it is enough that both have one, or both have none.

        Raises:
            AnswerError: the text is no answer.
        """
        mine, other = self.read(self.answer), self.read(text)
        if not isinstance(mine, Draft) or not isinstance(other, Draft):
            return (mine is None) == (other is None)
        refused = [d.refuse.refuse if d.refuse is not None else None for d in (mine, other)]
        calls = [[(c.skill, dict(c.args)) for c in d.calls] for d in (mine, other)]
        return refused[0] == refused[1] and calls[0] == calls[1]


def samples_of(
    instruction: str,
    context: PlannerContext,
    image: Image,
    draft: Draft,
    *,
    group: str,
    origin: Origin,
) -> list[Sample]:
    """The question for a plan, and the question where its first step's point is, with their answers.

    Args:
        instruction: what was asked.
        context: what the planner was told besides.
        image: (H, W, 3) what it saw.
        draft: the right answer.
        group: run or scene.
        origin: where the answer comes from.

    Raises:
        UnwritableError: the draft is no possible answer.
    """
    skills = tuple(context.skills)
    question = plan_prompt(instruction, context)
    found = [Sample((question,), image, write_answer(draft, skills), "plan", group, origin, skills)]
    if draft.calls and draft.calls[0].point is not None:
        call = draft.calls[0]
        # In the words in which the planner itself will ask about its steps.
        step = Step(id="s1", skill=call.skill, args=dict(call.args), text=step_text(call.skill, call.args))
        where = write_point(call.point)
        found.append(Sample((point_prompt(step),), image, where, "point", group, origin, skills))
    return found


def without_repeats(samples: Iterable[Sample]) -> list[Sample]:
    """Each question once, in order; what a person said counts, and of several corrections the last one.

    A forked run repeats what its parent asked, so that one folder of runs may hold a question twice.
    """
    kept: dict[str, Sample] = {}
    for s in samples:
        key = _key(s)
        if key not in kept or s.origin == "correction":
            kept[key] = s
    return list(kept.values())


def split(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from and samples held out, by whole runs and scenes; one group alone is not held out.

    Args:
        samples: all of them.
        share: about how many of the groups are held out.
        seed: of the choice.
    """
    groups = sorted({s.group for s in samples})
    count = min(round(share * len(groups)), len(groups) - 1)
    if share > 0 and len(groups) > 1:
        count = max(count, 1)
    order = np.random.default_rng([seed, 1]).permutation(len(groups))[: max(count, 0)]
    held = {groups[k] for k in order.tolist()}
    return [s for s in samples if s.group not in held], [s for s in samples if s.group in held]


def counts(samples: Iterable[Sample]) -> dict[str, int]:
    """How many there are by origin and kind, such as "plans of run"."""
    return dict(sorted(Counter(f"{s.kind}s of {s.origin}s" for s in samples).items()))


def digest(samples: Iterable[Sample]) -> str:
    """Tells one set of samples from another."""
    whole = hashlib.sha256()
    for s in samples:
        whole.update(f"{_key(s)} {s.group} {s.answer}\n".encode())
    return whole.hexdigest()


def _key(sample: Sample) -> str:
    image = np.ascontiguousarray(sample.image)
    asked = json.dumps([[m.role, m.text] for m in sample.messages]).encode()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes() + asked).hexdigest()
