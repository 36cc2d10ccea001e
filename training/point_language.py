"""Questions to the pointing head as they come in use: from plans, with the language model's state behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hiervla.planner.embedded.generation import LanguageDecoder, batch_slots, load_language
from hiervla.planner.embedded.grammar import plan_json
from hiervla.planner.embedded.pointing import PointRequest, request_of
from hiervla.planner.embedded.tokenizer import prompt_text
from hiervla.planner.embedded.vision import Slot, scene_slots
from hiervla.skills import SkillLibrary
from hiervla.training.planner_vision import match
from hiervla.training.point_targets import Question
from hiervla.training.render_scenes import RenderedScene
from hiervla.training.tasks.examples import step_call
from hiervla.training.tasks.tabletop import camera_of, symbolic_scene
from hiervla.training.tasks.tasks import FAMILIES, task_in


class Speaker:
    """A finished language model that reads the right plan for a task in a picture.

    Args:
        folder: of the language model.
        seed: of the tasks.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        model, tokenizer = load_language(folder)
        self._decoder = LanguageDecoder(model, tokenizer)
        self._rng = np.random.default_rng([seed, 0x5EA])
        self._signatures = {s.name: s for s in SkillLibrary.load().signatures()}

    @torch.no_grad()
    def ask(self, scene: RenderedScene, slots: Sequence[Slot]) -> list[tuple[Question, PointRequest, Tensor | None]]:
        """What the steps of one task point at, as far as the picture shows it now; nothing when no task fits.

        Args:
            scene: the picture and what is true in it.
            slots: what the tower found in it, left to right.
        """
        spec = scene.spec
        family = str(self._rng.choice([f for f in FAMILIES if f != "multi"] + ["multi"] * 2))
        task = task_in(self._rng, symbolic_scene(spec), family, "train", camera_of(spec), tries=2)
        if task is None:
            return []
        found = match(slots, scene.things)
        ids = [""] * len(slots)
        for i, k in found:
            ids[i] = scene.things[k].id
        steps = task.plan()
        try:
            calls = [step_call(step, ids) for step in steps]
        except ValueError:  # the tower missed something that the plan needs
            return []
        states, arguments = self._read(scene, slots, task.instruction, plan_json([], calls))
        things = {t.id: t for t in scene.things}
        kinds = [s.category_name for s in slots]
        asked: list[tuple[Question, PointRequest, Tensor | None]] = []
        changed: set[str] = set()
        for step, call, where in zip(steps, calls, arguments, strict=True):
            request = request_of(call, self._signatures[call["skill"]], kinds)
            acts_at = {"place": step.target, "throw_away": "bin"}.get(step.skill, step.object)
            if request is not None and acts_at not in changed and request.argument in where:
                thing = things.get(acts_at) if request.slot is not None else None
                if thing is not None or request.slot is None:
                    asked.append((Question(request.role, thing), request, states[where[request.argument]]))
            changed |= {step.object, acts_at} - ({"bin"} if step.skill == "throw_away" else set())
        return asked

    def _read(
        self, scene: RenderedScene, slots: Sequence[Slot], instruction: str, answer: str
    ) -> tuple[Tensor, list[dict[str, int]]]:
        """The model's states (T, d) as it reads an answer, and where in it the arguments of each step end."""
        model, tokenizer = self._decoder.model, self._decoder.tokenizer
        height, width = scene.segments.shape
        texts = [prompt_text(instruction, []), answer]
        prompt, tokens = (list(e.ids) for e in tokenizer.backend_tokenizer.encode_batch(texts))
        read = torch.tensor([prompt])
        batch = batch_slots([scene_slots(slots, width, height)])
        _, _, cache = model.prefill(batch, read, torch.ones_like(read, dtype=torch.bool))
        _, states = model.extend(torch.tensor([tokens]), cache)
        return states[0], self._decoder._arguments(tokens)
