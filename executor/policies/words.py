"""What a policy reads: the words of its step, and how they choose among the points that it sees.

Words and pairs of neighbouring words are hashed into a table of embeddings (Weinberger et al. 2009, arXiv 0902.2206;
pairs as in fastText, Joulin et al. 2017, arXiv 1607.01759), so there is no vocabulary to ship and any text can be read.
What they say is the query of an attention that pools the points (as in Perceiver IO, Jaegle et al. 2022, arXiv
2107.14795): which of two things is meant has to be known while they are still apart. Scaling and shifting the features
of each point by it instead (FiLM, Perez et al. 2018, arXiv 1709.07871) left a small network guessing after 440 steps
where this took 160 to 240: that, zero at the start, has nothing to choose by until both sides have learned.
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
_HEADS = 4
_DIM, _KEY = 32, 16
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
    """Attention over the points that asks for what the words say; without effect until it has learned something.

    Attributes:
        known: (buckets + 1,) float32, 1 for what training texts held. All else is passed over as if it were not there,
            since its embedding is still what chance made it.
    """

    known: Tensor

    def __init__(self, buckets: int, width: int, place: int, context: int) -> None:
        """Make the layers.

        Args:
            buckets: size of the table.
            width: of a point's features.
            place: numbers that say where a point is.
            context: width of what is made of it.
        """
        super().__init__()
        self.embedding = nn.Embedding(buckets + 1, _DIM, padding_idx=0)
        self.query = nn.Linear(_DIM, _HEADS * _KEY)
        self.key = nn.Linear(width + 3, _HEADS * _KEY)
        self.out = nn.Linear(_HEADS * (width + place), context)
        # Zero, so that weights which learned without words act as before until they have learned with them.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("known", torch.zeros(buckets + 1))

    def forward(self, ids: Tensor, h: Tensor, colour: Tensor, place: Tensor, holes: Tensor) -> Tensor:
        """What there is where the words lead, (B, context); zero where nothing known is said.

        Args:
            ids: (B, SLOTS) of :func:`hashed`.
            h: (B, N, width) features of the points.
            colour: (B, N, 3) in -0.5..0.5.
            place: (B, N, place) where they are.
            holes: (B, N, 1) bool, which are none.
        """
        told = self.known[ids]
        count = told.sum(dim=1, keepdim=True)
        bag = (self.embedding(ids) * told[..., None]).sum(dim=1) / count.clamp(min=1.0).sqrt()
        query = self.query(bag).unflatten(-1, (_HEADS, _KEY))
        key = self.key(torch.cat([h, colour * 4.0], dim=-1)).unflatten(-1, (_HEADS, _KEY))
        # Not divided by the root of the width: a query that hardly tells points apart at the start is slow to learn.
        match = torch.einsum("bkc,bnkc->bnk", query, key)
        weights = torch.softmax(match.masked_fill(holes, -1e4), dim=1)
        found = torch.einsum("bnk,bnc->bkc", weights, torch.cat([place, h], dim=-1)).flatten(1)
        out: Tensor = self.out(found) * (count > 0)
        return out

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
