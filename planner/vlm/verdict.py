"""A vision-language model as a judge of a step: it sees the picture before and the one now, and says yes or no.

Success detectors of this kind: Du et al. 2023, "Vision-Language Models as Success Detectors" (arXiv 2303.07280). Such
an answer takes seconds, so ask it in doubt only: :func:`hiervla.skills.doubt.in_doubt`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from hiervla.planner.vlm.answers import AnswerError, Sentence, checked, json_object, plain_schema
from hiervla.planner.vlm.backend import Backend, Image, Message, Sampling
from hiervla.planner.vlm.errors import BackendError
from hiervla.representations import ConventionError, Typed, Verdict
from hiervla.skills import SkillContext

NAME: Final = "model"
"""Name of the verdicts."""


class Judgement(Typed):
    """The model's answer."""

    done: Literal["yes", "no", "unsure"]
    why: Sentence


_ADAPTER: Final[TypeAdapter[Judgement]] = TypeAdapter(Judgement)
SCHEMA: Final[Mapping[str, Any]] = plain_schema(_ADAPTER)


@dataclass(frozen=True)
class ModelVerdict:
    """Asks a model whether a step is done; a termination like all others, and the judge of ``Agent(judge=...)``.

    Asked more than once, the answers are drawn with temperature, the majority is the verdict and its share the
    confidence (self-consistency, Wang et al. 2022, arXiv 2203.11171). Asked once, the model's word is taken as it is,
    with a confidence of 1: what it says of its own certainty is not calibrated.

    Attributes:
        backend: runs the model.
        camera: whose pictures it is shown.
        votes: how often it is asked.
        sampling: how it answers; with several votes, seeds follow one another.

    Raises:
        ConventionError: there is no vote.
    """

    backend: Backend
    camera: str = "front"
    votes: int = 1
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=160))

    def __post_init__(self) -> None:
        """Refuse what cannot answer."""
        if self.votes < 1:
            raise ConventionError("ModelVerdict.votes", f"{self.votes} is not positive", "Give 1 or more")

    def __call__(self, context: SkillContext) -> Verdict:
        """The model's verdict; unsure, with the reason in the evidence, where there is no answer that can be taken.

        Raises:
            ConventionError: the camera is not among those that looked.
        """
        images = self._images(context)
        drawn = (
            self.sampling if self.votes == 1 else self.sampling.replace(temperature=self.sampling.temperature or 0.7)
        )
        answers: list[Judgement] = []
        problem = ""
        for number in range(self.votes):
            try:
                reply = self.backend.generate(
                    [judge_prompt(context, len(images))], images, SCHEMA, drawn.replace(seed=drawn.seed + number)
                )
                answers.append(checked(_ADAPTER, json_object(reply.text), "the judgement"))
            except (BackendError, AnswerError) as error:
                # A judge who does not answer must not end a run that can go on without him; the record tells why.
                problem = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        evidence: dict[str, float | str | bool] = {"asked": self.backend.id, "answers": len(answers)}
        if problem:
            evidence["problem"] = problem
        counts = Counter(a.done for a in answers)
        value, share = counts.most_common(1)[0] if counts else ("unsure", 0)
        if value == "unsure" or 2 * share <= self.votes:
            return Verdict(name=NAME, value="unsure", confidence=0.0, evidence=evidence)
        evidence["why"] = next(a.why for a in answers if a.done == value)
        return Verdict(
            name=NAME, value=value, confidence=share / self.votes, evidence=evidence
        )

    def __str__(self) -> str:
        """``model``."""
        return NAME

    def _images(self, context: SkillContext) -> list[Image]:
        """Before, and now."""
        now = context.after or context.now
        return [seen.frame(self.camera).rgb for seen in (context.before, now) if seen is not None]


def judge_prompt(context: SkillContext, images: int) -> Message:
    """The question about a step.

    Args:
        context: the step, and what is believed to be held.
        images: how many pictures are shown: the one before, and the one now.
    """
    step = context.step
    shown = (
        "The first image shows the scene before the step, the second one the scene now."
        if images > 1
        else ("The image shows the scene.")
    )
    fingers = f"The gripper's fingers are {1000 * context.proprio.gripper_width_m:.0f} mm apart"
    held = context.belief.held
    form = json.dumps({"done": "yes", "why": "The red mug stands on the shelf."})
    return Message(
        "user",
        "\n\n".join(
            (
                f"You check the work of a robot arm. {shown}",
                f"Step: {step.text}.",
                f"{fingers}; before the step it held {held or 'nothing'}.",
                "Is the step done? Say what you see, not what should be. Answer with one JSON object and nothing else, "
                f'"done" being "yes", "no" or "unsure": {form}',
            )
        ),
    )
