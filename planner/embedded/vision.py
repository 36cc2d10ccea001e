"""The planner's eyes: an image becomes dense features and a short list of slots, one a thing seen.

A convolutional stem keeps small things sharp, a few attention layers at stride 16 let every place know of every
other (a mug is "on the shelf" because of where the shelf is), and the two meet again at stride 4. Heatmaps, one a
category, mark the centres of things; what is read off at a peak (colour, state, box) depends on the category
whose peak it is, so that a block in the middle of a plate and that plate are two slots and not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, LOOSE, MAX_SLOTS, STATES, SceneSlots

SPOTS: Final = ("table", "top_shelf", "bottom_shelf", "drawer")
"""Surfaces for which the tower also learns where there is room."""
STRIDE: Final = 4
"""Image pixels a feature cell, both ways."""
NEIGHBOUR_SCORE: Final = 0.55
"""From here on a cell counts as a centre although a neighbour is surer: the tail of a Gaussian seldom gets so high."""


@dataclass(frozen=True)
class VisionConfig:
    """Size of the tower.

    Attributes:
        height: image height [px], a multiple of 16.
        width: image width [px], a multiple of 16.
        widths: channels at strides 2, 4, 8 and 16.
        out: channels of the fused features at stride 4.
        heads: attention heads at stride 16.
        layers: attention layers at stride 16.
    """

    height: int = 192
    width: int = 256
    widths: tuple[int, int, int, int] = (16, 32, 80, 160)
    out: int = 48
    heads: int = 4
    layers: int = 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint's config holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisionConfig:
        """The inverse of :meth:`to_dict`; JSON's lists become tuples."""
        values = dict(values)
        a, b, c, d = values.pop("widths", (16, 32, 80, 160))
        return cls(widths=(int(a), int(b), int(c), int(d)), **values)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the feature map."""
        return self.height // STRIDE, self.width // STRIDE


@dataclass(frozen=True)
class Slot:
    """One thing that the planner sees.

    Attributes:
        category: probabilities (11,) over :data:`CATEGORIES`.
        colour: probabilities (9,) over :data:`COLOURS`.
        state: probabilities (9,) over :data:`STATES`.
        u: column of its centre [px].
        v: row of its centre [px].
        score: how sure the detector is that it is there, 0..1.
        box: (u_min, v_min, u_max, v_max) [px].
    """

    category: np.ndarray
    colour: np.ndarray
    state: np.ndarray
    u: float
    v: float
    score: float = 1.0
    box: tuple[float, float, float, float] = field(default=(0.0, 0.0, 1.0, 1.0))

    @property
    def category_name(self) -> str:
        """The likeliest category."""
        return CATEGORIES[int(self.category.argmax())]

    @property
    def colour_name(self) -> str:
        """The likeliest colour, "none" for furniture."""
        return COLOURS[int(self.colour.argmax())]

    @property
    def state_name(self) -> str:
        """The likeliest state."""
        return STATES[int(self.state.argmax())]

    @property
    def name(self) -> str:
        """Words for it, such as "red mug" or "top shelf"."""
        kind = self.category_name.replace("_", " ")
        if self.category_name not in LOOSE:
            return kind
        return f"{COLOURS[1 + int(self.colour[1:].argmax())]} {kind}"


@dataclass
class VisionOutput:
    """What the tower and the dense heads say of a batch of images.

    Attributes:
        features: (B, out, H/4, W/4).
        centres: (B, 11, H/4, W/4) logits of centre heatmaps.
        offsets: (B, 2, H/4, W/4) position (u, v) of the centre within its cell, 0..1.
        segments: (B, 12, H/4, W/4) logits of the category shown, 0 for none.
        spots: (B, 4, H/4, W/4) logits of where there is room, one softmax a surface.
    """

    features: Tensor
    centres: Tensor
    offsets: Tensor
    segments: Tensor
    spots: Tensor


def _conv(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Mixer(nn.Module):
    """A pre-norm transformer layer over all cells of stride 16."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTower(nn.Module):
    """Images to slots; about 1 GFLOP an image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        out = config.out
        self.stem = nn.Sequential(_conv(3, a, 2), _conv(a, b, 2), _Residual(b))
        self.down8 = nn.Sequential(_conv(b, c, 2), _Residual(c), _Residual(c))
        self.down16 = _conv(c, d, 2)
        self.position = nn.Parameter(torch.randn(1, config.height * config.width // 256, d) * 0.02)
        self.mixers = nn.ModuleList([_Mixer(d, config.heads) for _ in range(config.layers)])
        self.up16, self.fuse8 = nn.Conv2d(d, c, 1), _conv(c, c)
        self.up8, self.skip4, self.fuse4 = nn.Conv2d(c, out, 1), nn.Conv2d(b, out, 1), _conv(out, out)
        n = len(CATEGORIES)
        self.hidden = nn.Sequential(nn.Conv2d(out, 64, 1), nn.ReLU(inplace=True))
        self.dense = nn.Conv2d(64, n + 2 + (n + 1) + len(SPOTS), 1)
        # A rare positive among 3,072 cells: start from "nothing here", as CenterNet does.
        nn.init.constant_(self.dense.bias[:n], -4.6)  # type: ignore[index]
        self.kind = nn.Embedding(n, 24)
        self.read = nn.Sequential(nn.Linear(9 * out + 24 + 2, 160), nn.ReLU(), nn.Linear(160, 96), nn.ReLU())
        self.colour, self.state = nn.Linear(96, len(COLOURS)), nn.Linear(96, len(STATES))
        self.size = nn.Linear(96, 4)
        near = torch.tensor([(x, y) for y in (-1.25, 0.0, 1.25) for x in (-1.25, 0.0, 1.25)])
        self.register_buffer("near", near, persistent=False)

    def forward(self, images: Tensor) -> VisionOutput:
        """Dense outputs of images (B, 3, H, W) in 0..1."""
        x = ((images - 0.45) * 4.0).contiguous(memory_format=torch.channels_last)
        x4 = self.stem(x)
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        b, d, h, w = x16.shape
        tokens = x16.flatten(2).transpose(1, 2) + self.position
        for mixer in self.mixers:
            tokens = mixer(tokens)
        x16 = tokens.transpose(1, 2).reshape(b, d, h, w)
        x8 = self.fuse8(x8 + F.interpolate(self.up16(x16), scale_factor=2.0, mode="nearest"))
        features = self.fuse4(self.skip4(x4) + F.interpolate(self.up8(x8), scale_factor=2.0, mode="nearest"))
        n = len(CATEGORIES)
        centres, offsets, segments, spots = self.dense(self.hidden(features)).split([n, 2, n + 1, len(SPOTS)], dim=1)
        return VisionOutput(features, centres, offsets.sigmoid(), segments, spots)

    def attributes(
        self, features: Tensor, batch: Tensor, cells: Tensor, category: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read colour, state and box of things at given places.

        Args:
            features: (B, out, h, w) of :meth:`forward`.
            batch: (N,) index of the image of each thing.
            cells: (N, 2) centre (u, v) in cells, that is in pixels / 4.
            category: (N,) category index.

        Returns:
            Logits (N, 9) of colour, logits (N, 9) of state, (N, 4) logarithms of the distances [cells] from the
            centre to the box's left, top, right and bottom edge.
        """
        b, c, h, w = features.shape
        scale = torch.tensor([w, h], dtype=cells.dtype)
        near: Tensor = self.near  # type: ignore[assignment]
        points = cells[:, None] + near  # (N, 9, 2)
        # Bilinear by hand: the places of all images in one gather, whose backward pass is cheap on a CPU.
        xy = (points - 0.5).clamp(min=0.0)
        xy = torch.minimum(xy, scale - 1.001)
        low = xy.floor()
        fx, fy = (xy - low).unbind(-1)
        x0, y0 = low.long().unbind(-1)
        flat = features.permute(0, 2, 3, 1).reshape(b * h * w, c)
        base = (batch[:, None] * h + y0) * w + x0
        weights = ((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy)
        sampled = sum(
            flat[base + step] * weight[..., None] for step, weight in zip((0, 1, w, w + 1), weights, strict=True)
        )
        assert isinstance(sampled, Tensor)
        hidden = self.read(torch.cat([sampled.flatten(1), self.kind(category), cells / scale], dim=1))
        return self.colour(hidden), self.state(hidden), self.size(hidden)


def peaks(centres: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cells that may be centres: local maxima of the heatmaps, and for blocks cells so sure that they need not be one.

    Stacked blocks have their centres in neighbouring cells; both are sure then, and only one is a maximum.

    Args:
        centres: (B, 11, h, w) logits.
        threshold: least score.

    Returns:
        Image index, category index and flat cell index, and score, each (N,), N over all images.
    """
    heat = centres.sigmoid()
    best = F.max_pool2d(heat, 3, 1, 1)
    sure = torch.zeros_like(heat, dtype=torch.bool)
    k = CATEGORIES.index("block")
    sure[:, k] = heat[:, k] > NEIGHBOUR_SCORE
    chosen = ((heat == best) | sure) & (heat > threshold)
    batch, kind, row, column = torch.nonzero(chosen, as_tuple=True)
    return batch, kind, row * heat.shape[-1] + column, heat[batch, kind, row, column]


@torch.no_grad()
def read_cells(
    tower: VisionTower, output: VisionOutput, batch: Tensor, kind: Tensor, cell: Tensor, score: Tensor
) -> list[Slot]:
    """What there is where cells of the heatmaps are taken for centres.

    Args:
        tower: the model, for the attribute heads.
        output: its dense output.
        batch: (N,) index of the image.
        kind: (N,) index of the category.
        cell: (N,) flat index of the cell.
        score: (N,) how sure the detector is.
    """
    w = output.centres.shape[-1]
    offset = output.offsets.permute(0, 2, 3, 1).flatten(1, 2)[batch, cell]
    centre = torch.stack([cell % w, torch.div(cell, w, rounding_mode="floor")], 1) + offset
    colour, state, size = tower.attributes(output.features, batch, centre, kind)
    reach = size.clamp(-3.0, 5.0).exp()
    low, high = (centre - reach[:, :2]) * STRIDE, (centre + reach[:, 2:]) * STRIDE
    limit = torch.tensor([tower.config.width, tower.config.height], dtype=low.dtype)
    low, high = torch.minimum(low.clamp(min=0.0), limit - 1.0), torch.minimum(high.clamp(min=1.0), limit)
    # The heatmaps are not exclusive, but a slot is one thing: its other categories share what is left of the score.
    n = len(CATEGORIES)
    certain = 0.5 + 0.5 * score
    category = ((1 - certain) / (n - 1))[:, None].repeat(1, n)
    category[torch.arange(len(kind)), kind] = certain
    colours, states = colour.softmax(1).numpy(), state.softmax(1).numpy()
    slots = []
    for i in range(len(kind)):
        box = (float(low[i, 0]), float(low[i, 1]), float(high[i, 0]), float(high[i, 1]))
        slots.append(
            Slot(
                category[i].numpy(), colours[i], states[i], float(centre[i, 0]) * STRIDE, float(centre[i, 1]) * STRIDE,
                float(score[i]), box,
            )
        )  # fmt: skip
    return slots


@torch.no_grad()
def decode_slots(
    tower: VisionTower, output: VisionOutput, threshold: float = 0.3, max_slots: int = MAX_SLOTS
) -> list[list[Slot]]:
    """The slots of each image, left to right.

    Args:
        tower: the model, for the attribute heads.
        output: its dense output for B images.
        threshold: least score of a slot.
        max_slots: most slots an image; the surest are kept.

    Returns:
        B lists, each sorted by column.
    """
    b = output.centres.shape[0]
    batch, kind, cell, score = peaks(output.centres, threshold)
    if len(batch) == 0:
        return [[] for _ in range(b)]
    read = read_cells(tower, output, batch, kind, cell, score)
    slots: list[list[Slot]] = [[] for _ in range(b)]
    for i in torch.argsort(score, descending=True, stable=True).tolist():
        kept = slots[int(batch[i])]
        if len(kept) < max_slots and not any(_same(read[i], other) for other in kept):
            kept.append(read[i])
    return [sorted(found, key=lambda s: (s.u, s.v)) for found in slots]


_ONE_OF_A_KIND: Final = frozenset({"spill", "bin", "top_shelf", "bottom_shelf", "drawer"})
SAME_PX: Final = 3.0
"""Two centres of one category that are closer than this are one thing [px]."""
_LOOKALIKE: Final = ({"mug", "can"}, {"block", "sponge"}, {"bowl", "plate"}, {"can", "block"}, {"mug", "block"})


def same_place(slot: Slot, other: Slot) -> bool:
    """Whether two slots of one category are one thing."""
    distance = float(np.hypot(slot.u - other.u, slot.v - other.v))
    return slot.category_name == other.category_name and distance < SAME_PX


def _same(slot: Slot, surer: Slot) -> bool:
    """Whether a slot is but a second, weaker reading of a surer one."""
    if slot.category_name == surer.category_name and slot.category_name in _ONE_OF_A_KIND:
        return True
    distance = float(np.hypot(slot.u - surer.u, slot.v - surer.v))
    if slot.category_name == surer.category_name:
        return same_place(slot, surer)
    # Two different things on one spot are usual (a block on a plate); two readings of one thing look alike.
    pair = {slot.category_name, surer.category_name}
    if slot.colour_name == surer.colour_name and _overlap(slot.box, surer.box) > _TWIN:
        return True
    return distance < 1.2 * STRIDE and slot.score < 0.6 and pair in _LOOKALIKE


_TWIN: Final = 0.6
"""Boxes of one colour that share more than this of their union are one thing, whatever it is taken for."""


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def to_tensor(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """Images (B, H, W, 3) uint8 as a tensor (B, 3, H, W) in 0..1."""
    array = np.ascontiguousarray(np.stack(list(images)) if not isinstance(images, np.ndarray) else images)
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(255.0)


def scene_slots(slots: Sequence[Slot], width: int, height: int) -> SceneSlots:
    """The slots in the form in which the language model reads them.

    Args:
        slots: as :func:`decode_slots` gives them, left to right.
        width: of the image that they were found in [px].
        height: of that image [px].
    """
    n = len(slots)
    return SceneSlots(
        np.array([s.category for s in slots], dtype=np.float32).reshape(n, len(CATEGORIES)),
        np.array([s.colour for s in slots], dtype=np.float32).reshape(n, len(COLOURS)),
        np.array([s.state for s in slots], dtype=np.float32).reshape(n, len(STATES)),
        np.array([(s.u / width, s.v / height) for s in slots], dtype=np.float32).reshape(n, 2),
    )
