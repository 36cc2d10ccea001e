"""Pointing: a query made of the language model's state attends over the image, and that attention is the answer.

The query of a step is asked at the token of the argument that says where to act. It is made of the hidden state
at that token, of the slot that the token names and of the role that the place plays (the thing itself, on it, in
it, left of it, ...). Keys are projections of the tower's features at stride 4, of what the dense heads say there,
and of the position. The softmax over all cells is the affordance map; its peak, refined, is the keypoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES
from hiervla.planner.embedded.vision import SPOTS, STRIDE, VisionOutput
from hiervla.representations import SkillSignature

ROLES: Final = ("object", "on", "in", "at", "left_of", "right_of")
"""What is pointed at: a thing itself, or a place in relation to it."""
_FREQUENCIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_WAVES: Final = 2 + 4 * len(_FREQUENCIES)
SLOT_WIDTH: Final = len(CATEGORIES) + len(COLOURS) + len(STATES)
_INTO: Final[Mapping[str, str]] = {"throw_away": "bin"}
"""Skills that act at a piece of furniture which is no argument of theirs."""


@dataclass(frozen=True)
class PointRequest:
    """What to point at for one step.

    Attributes:
        role: one of :data:`ROLES`.
        slot: index of the slot that the place has to do with; None for the table.
        argument: name of the argument at whose token the language model is asked.
    """

    role: str
    slot: int | None
    argument: str


@dataclass
class PointBatch:
    """N requests over a batch of images.

    Attributes:
        image: (N,) index of the image.
        role: (N,) index into :data:`ROLES`.
        slot: (N, 29) probabilities of category, colour and state of the slot; zero for the table.
        uv: (N, 2) the slot's centre as fractions of the image; zero for the table.
        table: (N,) bool, no slot but the table.
        hidden: (N, d) the language model's state at the argument's token; zero where it was not asked.
    """

    image: Tensor
    role: Tensor
    slot: Tensor
    uv: Tensor
    table: Tensor
    hidden: Tensor


def request_of(step: Mapping[str, str], signature: SkillSignature, kinds: Sequence[str]) -> PointRequest | None:
    """What to point at for a step that names slots (`o3`); None when nothing in the image has to do with it.

    The place is the argument of type "location" if there is one, else the first of type "object".

    Args:
        step: skill and arguments as the language model wrote them.
        signature: of the step's skill.
        kinds: category of each slot.
    """
    places = [p.name for p in signature.params if p.type == "location" and p.name in step]
    things = [p.name for p in signature.params if p.type == "object" and p.name in step]
    if not places and not things:
        return None
    if not places and signature.name in _INTO:
        furniture = _INTO[signature.name]
        return PointRequest("in", kinds.index(furniture), things[0]) if furniture in kinds else None
    argument = (places or things)[0]
    relation = step.get("relation", "on") if places else "object"
    role = relation if relation in ROLES else "on"
    value = step[argument]
    if value == "table":
        return PointRequest("at", None, argument)
    if not (value.startswith("o") and value[1:].isdigit() and int(value[1:]) < len(kinds)):
        return None
    return PointRequest(role, int(value[1:]), argument)


def waves(uv: Tensor) -> Tensor:
    """Positions (..., 2) in 0..1 with their sines and cosines, (..., 26)."""
    phase = uv[..., None] * (torch.pi * torch.tensor(_FREQUENCIES, dtype=uv.dtype))
    return torch.cat([uv, phase.sin().flatten(-2), phase.cos().flatten(-2)], dim=-1)


class PointingHead(nn.Module):
    """Attention from arguments of steps to the image.

    Args:
        features: channels of the tower's features.
        hidden: width of the language model.
        grid: rows and columns of the feature map.
        width: of the inner layers.
        size: of queries and keys.
    """

    def __init__(
        self, features: int, hidden: int, grid: tuple[int, int], width: int = 96, size: int = 64
    ) -> None:
        super().__init__()
        self.grid, self.size = grid, size
        self.role = nn.Embedding(len(ROLES), width)
        self.table = nn.Parameter(torch.randn(width) * 0.1)
        self.slot = nn.Linear(SLOT_WIDTH + _WAVES, width)
        self.language = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, width, bias=False))
        self.query = nn.Sequential(nn.Linear(width, 192), nn.GELU(), nn.Linear(192, size))
        self.query_skip = nn.Linear(width, size)
        channels = features + len(CATEGORIES) + 2 * len(SPOTS) + _WAVES
        self.key = nn.Sequential(nn.Conv2d(channels, 128, 1), nn.ReLU(inplace=True), nn.Conv2d(128, size, 1))
        self.key_skip = nn.Conv2d(channels, size, 1)
        h, w = grid
        v, u = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
        self.register_buffer("position", waves(torch.stack([u, v], -1)).permute(2, 0, 1)[None], persistent=False)

    def keys(self, seen: VisionOutput) -> Tensor:
        """Keys (B, size, h*w) of the images."""
        position: Tensor = self.position  # type: ignore[assignment]
        b = len(seen.features)
        room = seen.spots.flatten(2).log_softmax(-1).view_as(seen.spots)
        x = torch.cat(
            [
                seen.features,
                seen.centres.clamp(-6.0, 6.0) / 3.0,
                (room + 8.0).clamp(min=0.0) / 4.0,
                room.exp() * 4.0,
                position.expand(b, -1, -1, -1),
            ],
            dim=1,
        )
        return (self.key(x) + self.key_skip(x)).flatten(2)  # type: ignore[no-any-return]

    def queries(self, batch: PointBatch) -> Tensor:
        """Queries (N, size)."""
        known = (~batch.table).to(batch.slot.dtype)[:, None]
        place = self.slot(torch.cat([batch.slot, waves(batch.uv)], dim=-1)) * known + self.table * (1.0 - known)
        asked = (batch.hidden != 0).any(dim=-1, keepdim=True).to(batch.slot.dtype)
        x = place + self.role(batch.role) + self.language(batch.hidden) * asked
        return self.query(x) + self.query_skip(x)  # type: ignore[no-any-return]

    def forward(self, seen: VisionOutput, batch: PointBatch) -> Tensor:
        """Attention logits (N, h*w) of requests over the images that they belong to."""
        keys = self.keys(seen)
        scores = torch.einsum("nd,ndk->nk", self.queries(batch), keys[batch.image])
        return scores * self.size**-0.5


def peak_of(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The keypoint of each affordance map.

    The mean position of the 3 by 3 cells around the highest cell, weighted by the map: finer than a cell, and
    not drawn away by a second peak elsewhere.

    Args:
        maps: (N, h, w), each a distribution.

    Returns:
        (N, 2) pixels (u, v), and (N,) the mass of the window: how sure the map is of this peak.
    """
    n, h, w = maps.shape
    best = maps.flatten(1).argmax(1)
    row, column = torch.div(best, w, rounding_mode="floor"), best % w
    padded = F.pad(maps, (1, 1, 1, 1))
    steps = torch.arange(3)
    window = padded[
        torch.arange(n)[:, None, None], row[:, None, None] + steps[:, None], column[:, None, None] + steps[None]
    ]
    mass = window.sum(dim=(1, 2))
    safe = mass.clamp(min=1e-9)
    dv = (window.sum(2) * (steps - 1)).sum(1) / safe
    du = (window.sum(1) * (steps - 1)).sum(1) / safe
    uv = torch.stack([column + 0.5 + du, row + 0.5 + dv], dim=1) * STRIDE
    limit = torch.tensor([w * STRIDE, h * STRIDE], dtype=uv.dtype)
    return torch.minimum(uv.clamp(min=0.0), limit - 1e-3), mass


def make_batch(
    requests: Sequence[tuple[int, PointRequest, Any, Tensor | None]], width: int, height: int, hidden: int
) -> PointBatch:
    """Requests as tensors.

    Args:
        requests: for each: index of its image, the request, its image's list of slots, and the language model's
            state (d,) or None.
        width: of the images [px].
        height: of the images [px].
        hidden: width of the language model.
    """
    n = len(requests)
    batch = PointBatch(
        image=torch.tensor([i for i, *_ in requests], dtype=torch.long),
        role=torch.tensor([ROLES.index(r.role) for _, r, _, _ in requests], dtype=torch.long),
        slot=torch.zeros(n, SLOT_WIDTH),
        uv=torch.zeros(n, 2),
        table=torch.tensor([r.slot is None for _, r, _, _ in requests], dtype=torch.bool),
        hidden=torch.zeros(n, hidden),
    )
    for k, (_, request, slots, state) in enumerate(requests):
        if request.slot is not None:
            s = slots[request.slot]
            look = [torch.as_tensor(x, dtype=torch.float32) for x in (s.category, s.colour, s.state)]
            batch.slot[k] = torch.cat(look)
            batch.uv[k] = torch.tensor([s.u / width, s.v / height])
        if state is not None:
            batch.hidden[k] = state
    return batch
