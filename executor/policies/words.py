"""What a policy reads: the words of its step, and how they change what the encoder makes of each point.

Words and pairs of neighbouring words are hashed into a table of embeddings (Weinberger et al. 2009, arXiv 0902.2206;
pairs as in fastText, Joulin et al. 2017, arXiv 1607.01759), so there is no vocabulary to ship and any text can be read.
What they say scales and shifts the features of every point before these are pooled (FiLM, Perez et al. 2018, arXiv
1709.07871): which of two things is meant has to be known while they are still apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor, nn

from hiervla.representations import Step

BUCKETS = 4096
"""Size of the table; the words and pairs of `hiervla collect` are a few hundred."""
MOST = 24
"""Words of a text that are read; the rest is left out."""
SLOTS = 2 * MOST - 1
_DIM, _HIDDEN = 32, 64
_WORD = re.compile(r"[^\W_]+")


def words_of(step: Step) -> str:
    """The step in the planner's words: its text, or else its skill and what the arguments name; empty without both."""
    if step.text.strip():
        return step.text
    return " ".join([step.skill, *step.args.values()]) if step.args else ""


def hashed(text: str, buckets: int = BUCKETS) -> list[int]:
    """(SLOTS,) a number in 1..buckets for each word and each pair of neighbours; 0 where nothing is left.

    The same in every process and on every machine, unlike Python's own hash.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())[:MOST]
    pairs = [f"{one} {two}" for one, two in zip(words, words[1:], strict=False)]
    found = [crc32(token.encode("utf-8", "replace")) % buckets + 1 for token in (*words, *pairs)]
    return found + [0] * (SLOTS - len(found))


class WordReader(nn.Module):
    """Scales and shifts for two layers of per-point features; without effect until it has learned something.

    Attributes:
        known: (buckets + 1,) float32, 1 for what training texts held. All else is passed over as if it were not there,
            since its embedding is still what chance made it.
    """

    known: Tensor

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets + 1, _DIM, padding_idx=0)
        self.hidden = nn.Sequential(nn.Linear(_DIM, _HIDDEN), nn.SiLU())
        self.film = nn.Linear(_HIDDEN, 4 * width)
        # Zero, so that weights which learned without words act as before until they have learned with them.
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.register_buffer("known", torch.zeros(buckets + 1))

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Scale and shift of the first layer, scale and shift of the second, (B, 1, width) each, of (B, SLOTS) ids.

        They are zero where nothing known is said.
        """
        told = self.known[ids]
        count = told.sum(dim=1, keepdim=True)
        bag = (self.embedding(ids) * told[..., None]).sum(dim=1) / count.clamp(min=1.0).sqrt()
        out = self.film(self.hidden(bag)) * (count > 0)
        parts: tuple[Tensor, ...] = out[:, None].chunk(4, dim=-1)
        return parts

    def learn(self, ids: Tensor) -> None:
        """Know these from now on, (N, SLOTS)."""
        self.known[ids.flatten()] = 1.0
        self.known[0] = 0.0


def read(texts: Sequence[str], buckets: int) -> Tensor:
    """(B, SLOTS) int64 of :func:`hashed`; (B, 0) where the table has no bucket, and nothing is read."""
    if not buckets:
        return torch.zeros(len(texts), 0, dtype=torch.long)
    return torch.tensor([hashed(text, buckets) for text in texts], dtype=torch.long).view(len(texts), SLOTS)


__all__ = ["BUCKETS", "MOST", "SLOTS", "WordReader", "hashed", "read", "words_of"]
