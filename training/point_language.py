"""Questions to the pointing head as the language model asks them: at the arguments of plans that fit the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hiervla.planner.embedded.generation import LanguageDecoder, batch_slots, load_language
from hiervla.planner.embedded.grammar import plan_json
from hiervla.planner.embedded.pointing import PointRequest, request_of
from hiervla.planner.embedded.tokenizer import EOS, prompt_text
from hiervla.planner.embedded.vision import Slot, scene_slots
from hiervla.skills.registry import SkillLibrary
from hiervla.training.planner_vision import match
from hiervla.training.point_targets import Question, find_thing
from hiervla.training.render_scenes import HEIGHT, WIDTH, RenderedScene
from hiervla.training.tasks.examples import step_call
from hiervla.training.tasks.tabletop import camera_of, symbolic_scene
from hiervla.training.tasks.tasks import FAMILIES, task_in

_FAMILIES: Final = (*FAMILIES, "other")


class Speaker:
    """The frozen language model, as it speaks of pictures.

    Args:
        folder: its checkpoint.
        seed: of tasks and wordings.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.model, self.tokenizer = load_language(folder)
        self.model.requires_grad_(False)
        self.decoder = LanguageDecoder(self.model, self.tokenizer)
        self.signatures = {s.name: s for s in SkillLibrary.load().signatures()}
        self.rng = np.random.default_rng([0x5BEA, seed])

    @torch.no_grad()
    def ask(self, scene: RenderedScene, slots: Sequence[Slot]) -> list[tuple[Question, PointRequest, Tensor | None]]:
        """One question a step of a random task's plan, with the model's state at the argument that says where.

        Returns nothing when the drawn task does not fit the picture, or speaks of what the tower did not find.
        """
        family = _FAMILIES[int(self.rng.integers(len(_FAMILIES)))]
        task = task_in(self.rng, symbolic_scene(scene.spec), family, "train", camera_of(scene.spec), tries=2)
        if task is None:
            return []
        ids = [f"?{i}" for i in range(len(slots))]
        for i, k in match(slots, scene.things):
            ids[i] = scene.things[k].id
        try:
            calls = [step_call(step, ids) for step in task.plan()]
        except ValueError:
            return []
        seen = scene_slots(slots, WIDTH, HEIGHT)
        encode = self.tokenizer.backend_tokenizer.encode
        prompt = torch.tensor([encode(prompt_text(task.instruction)).ids])
        answer = encode(plan_json([], calls) + EOS).ids[:-1]
        plan = torch.tensor([answer])
        _, hidden = self.model(
            batch_slots([seen]), prompt, torch.ones_like(prompt, dtype=torch.bool), plan,
            torch.ones_like(plan, dtype=torch.bool),
        )  # fmt: skip
        places = self.decoder._arguments(answer)
        kinds = [seen.category_of(i) for i in range(len(seen))]
        asked: list[tuple[Question, PointRequest, Tensor | None]] = []
        for call, where in zip(calls, places, strict=True):
            request = request_of(call, self.signatures[call["skill"]], kinds)
            if request is None or request.argument not in where:
                continue
            thing = None if request.slot is None else find_thing(scene.things, ids[request.slot])
            if thing is not None or request.slot is None:
                asked.append((Question(request.role, thing), request, hidden[0, where[request.argument] + 1]))
        return asked
