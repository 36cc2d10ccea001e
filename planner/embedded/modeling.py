"""The embedded planner as one transformers model: eyes, language and pointing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.generation import batch_slots
from hiervla.planner.embedded.language import PlannerLanguage
from hiervla.planner.embedded.pointing import PointBatch, PointingHead, peak_of, waves
from hiervla.planner.embedded.second_look import both_looks, close_looks, is_surely, moved_down, sought, with_found
from hiervla.planner.embedded.slots import COLOURS, LOOSE, MAX_SLOTS, SceneSlots
from hiervla.planner.embedded.vision import (
    Slot,
    VisionConfig,
    VisionOutput,
    VisionTower,
    decode_slots,
    scene_slots,
)


class HierVLAPlannerConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of the whole planner.

    Attributes:
        vision: fields of :class:`~hiervla.planner.embedded.vision.VisionConfig`.
        language: fields of :class:`~hiervla.planner.embedded.configuration.LanguageConfig`.
        threshold: least score of a slot.
        second_look: look at the image once more, moved by half a cell.
    """

    model_type = "hiervla_planner"

    def __init__(
        self,
        vision: dict[str, Any] | None = None,
        language: dict[str, Any] | None = None,
        threshold: float = 0.3,
        second_look: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vision = VisionConfig.from_dict(vision or {}).to_dict()
        self.language = LanguageConfig(**(language or {})).to_dict()
        self.threshold = threshold
        self.second_look = second_look
        super().__init__(**kwargs)


@dataclass
class HierVLAPlannerOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives.

    Attributes:
        loss: mean cross entropy of `labels`, when there are any.
        logits: (B, T, vocab) scores of the tokens that follow the prompt.
        hidden_states: (B, T, d) states of the language model that the pointing head is asked with.
        features: (B, C, H/4, W/4) fused image features.
        centres: (B, 11, H/4, W/4) logits of the centre heatmaps.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Tensor | None = None
    features: Tensor | None = None
    centres: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """What the model sees in a batch of images.

    Attributes:
        dense: outputs of the tower and its dense heads.
        slots: the things found in each image, left to right, in pixels of the model's image size.
    """

    dense: VisionOutput
    slots: list[list[Slot]]


class HierVLAPlannerForPlanning(PreTrainedModel):  # type: ignore[misc]
    """Image, instruction and history in; plan as compact JSON, and points, out.

    The tower finds slots, the language model reads them before the prompt and writes the plan, and the pointing
    head attends over the image from the plan's arguments. `LanguageDecoder` generates under the grammar.
    """

    config_class = HierVLAPlannerConfig
    main_input_name = "pixel_values"
    config: HierVLAPlannerConfig

    def __init__(self, config: HierVLAPlannerConfig) -> None:
        super().__init__(config)
        vision = VisionConfig.from_dict(config.vision)
        language = LanguageConfig(**config.language)
        self.vision = VisionTower(vision)
        self.language = PlannerLanguage(language)
        self.pointing = PointingHead(vision.out, language.hidden_size, vision.grid)
        self.post_init()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the tower takes [px]."""
        return self.vision.config.height, self.vision.config.width

    def _init_weights(self, module: nn.Module) -> None:
        # transformers makes models without memory first, which loses buffers that are no part of the checkpoint.
        if isinstance(module, PlannerLanguage):
            fresh = PlannerLanguage(LanguageConfig(**{**self.config.language, "num_layers": 0, "slot_token_id": 0}))
            for name in ("inverse_frequency", "fourier"):
                _restore(module, name, getattr(fresh, name))
        elif isinstance(module, PointingHead):
            h, w = module.grid
            v, u = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
            _restore(module, "position", waves(torch.stack([u, v], -1)).permute(2, 0, 1)[None])
        elif isinstance(module, VisionTower):
            steps = (-1.25, 0.0, 1.25)
            _restore(module, "near", torch.tensor([(x, y) for y in steps for x in steps]))

    @torch.no_grad()
    def see(self, pixel_values: Tensor) -> Seen:
        """Find things in images (B, 3, H, W) in 0..1 of the model's own size."""
        dense = self.vision(pixel_values)
        slots = decode_slots(self.vision, dense, self.config.threshold)
        if self.config.second_look:
            again = decode_slots(self.vision, self.vision(moved_down(pixel_values)), self.config.threshold)
            slots = [both_looks(one, two, MAX_SLOTS) for one, two in zip(slots, again, strict=True)]
        return Seen(dense, slots)

    def seek(self, pixel_values: Tensor, seen: Seen, names: Iterable[str]) -> Seen:
        """What was seen of one image, and things that are looked for by name where none surely has that name.

        Args:
            pixel_values: (1, 3, H, W) the image.
            seen: of :meth:`see`.
            names: such as "red block", or "mug" of any colour; other names are left out.
        """
        slots, looks = list(seen.slots[0]), list[VisionOutput]()
        for name in names:
            colour, _, kind = name.rpartition(" ")
            if (
                kind not in LOOSE
                or (colour and colour not in COLOURS)
                or any(is_surely(s, kind, colour) for s in slots)
            ):
                continue
            looks = looks or close_looks(self.vision, pixel_values)
            found = sought(self.vision, looks, kind, colour)
            if found is not None:
                slots = with_found(slots, found, MAX_SLOTS)
        return Seen(seen.dense, [sorted(slots, key=lambda s: (s.u, s.v))])

    def scene_slots(self, slots: Sequence[Slot]) -> SceneSlots:
        """Slots of one image as the language model reads them."""
        return scene_slots(slots, self.vision.config.width, self.vision.config.height)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        plan_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> HierVLAPlannerOutput:
        """Scores of plan tokens for given images and prompts.

        Args:
            pixel_values: (B, 3, H, W) in 0..1.
            input_ids: (B, P) prompts, padded on the left.
            attention_mask: (B, P) 1 for real tokens; all by default.
            plan_ids: (B, O) plan tokens read so far; none by default.
            labels: (B, O + 1) tokens to be predicted, -100 where none is.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        plan = input_ids[:, :0] if plan_ids is None else plan_ids
        seen = self.see(pixel_values)
        slots = batch_slots([self.scene_slots(found) for found in seen.slots])
        read = torch.ones_like(plan, dtype=torch.bool)
        logits, hidden, *_ = self.language(slots, input_ids, mask.bool(), plan, read)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return HierVLAPlannerOutput(loss, logits, hidden, seen.dense.features, seen.dense.centres)

    @torch.no_grad()
    def point(self, dense: VisionOutput, batch: PointBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Answer requests.

        Args:
            dense: of :meth:`see`.
            batch: the requests.

        Returns:
            Affordance maps (N, h, w), keypoints (N, 2) in pixels of the model's image size, and confidences (N,).
        """
        maps = self.pointing(dense, batch).softmax(dim=1).view(-1, *self.pointing.grid)
        points, mass = peak_of(maps)
        return maps, points, mass


def _restore(module: nn.Module, name: str, value: Tensor) -> None:
    buffer = getattr(module, name)
    if buffer.device.type != "meta":
        buffer.copy_(value)


AutoConfig.register(HierVLAPlannerConfig.model_type, HierVLAPlannerConfig, exist_ok=True)
AutoModel.register(HierVLAPlannerConfig, HierVLAPlannerForPlanning, exist_ok=True)
