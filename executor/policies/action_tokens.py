"""Action chunks as short sequences of tokens, and back.

Two tokenisers: 256 uniform bins for each number (RT-2, arXiv 2307.15818; OpenVLA, arXiv 2406.09246), and FAST (Pertsch
et al. 2025, arXiv 2501.09747): a discrete cosine transform over time, rounded, of which byte-pair encoding makes
frequent runs one token. Both are fitted to actions, are plain JSON, and cover every value: what lies outside their
range is clipped to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct

Floats = NDArray[np.floating[Any]]
Tokens = NDArray[np.int64]

PAD = -1
BINS = 256
QUANTILE = 0.002
"""Share of the values below, and above, what is told apart; the papers' is 0.01, which cuts off our lowest grasps."""
MARGIN = 0.1
"""How much wider than between the quantiles the range is, since training turns and shifts the demonstrations."""


class ActionTokeniser(Protocol):
    """Turns chunks (H, D) into sequences of token ids.

    Attributes:
        vocabulary: number of ids.
        values: how many numbers are written of a chunk, such as H * D.
        covers: (vocabulary,) how many of a chunk's numbers each token stands for; a sequence covers all of them.
    """

    vocabulary: int
    values: int
    covers: Tokens

    def encode(self, chunks: Floats) -> Tokens:
        """(B, T) ids of chunks (B, H, D), filled up with `PAD`."""
        ...

    def decode(self, tokens: Sequence[int]) -> Floats:
        """(H, D) chunk of a sequence that covers one exactly; ids below 0 are left out."""
        ...


def make_tokeniser(head: dict[str, Any]) -> ActionTokeniser:
    """The tokeniser that :func:`fit_bins` or :func:`fit_fast` described.

    Raises:
        KeyError: something is missing.
        ValueError: it is of no kind that is known, or the byte pairs do not fit.
    """
    if head["kind"] == "bins":
        return BinTokeniser(head)
    if head["kind"] == "fast":
        return FastTokeniser(head)
    raise ValueError(f"tokeniser kind {head['kind']!r} is neither 'bins' nor 'fast'")


def fit_bins(chunks: Floats, bins: int = BINS, stride: int = 2) -> dict[str, Any]:
    """Describe bins for chunks (N, H, D) like these; only every `stride`-th row is written, to save time."""
    return {"kind": "bins", "bins": bins, "stride": stride, **_range(chunks)}


def fit_fast(chunks: Floats, vocabulary: int = 1024, scale: float = 20.0, limit: int = 127) -> dict[str, Any]:
    """Describe a FAST tokeniser for chunks (N, H, D) like these.

    Args:
        chunks: what to fit.
        vocabulary: number of tokens, 2 * limit + 1 single coefficients among them.
        scale: rounding of the coefficients: steps for each unit of the range -1..1.
        limit: largest rounded coefficient.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    head = {"kind": "fast", "scale": scale, "limit": limit, **_range(chunks)}
    alphabet = [_symbol(v) for v in range(2 * limit + 1)]
    tokeniser = Tokenizer(BPE())
    trainer = BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    texts: Iterator[str] = (_text(row) for row in _rounded(chunks, head))
    tokeniser.train_from_iterator(texts, trainer)
    model = json.loads(tokeniser.to_str())["model"]
    return {**head, "vocab": model["vocab"], "merges": model["merges"]}


class BinTokeniser:
    """One token for each number of every second row of a chunk, or as often as `stride` says."""

    def __init__(self, head: dict[str, Any]) -> None:
        self._low, self._high = np.array(head["low"]), np.array(head["high"])
        self._rows, self._stride = int(head["rows"]), int(head["stride"])
        self._written = np.arange(0, self._rows, self._stride)
        self.vocabulary = int(head["bins"])
        self.values = len(self._written) * len(self._low)
        self.covers = np.ones(self.vocabulary, dtype=np.int64)

    def encode(self, chunks: Floats) -> Tokens:
        """See :class:`ActionTokeniser`."""
        share = (chunks[:, self._written] - self._low) / (self._high - self._low)
        bins = np.clip(np.floor(share * self.vocabulary), 0, self.vocabulary - 1)
        return bins.reshape(len(chunks), -1).astype(np.int64)

    def decode(self, tokens: Sequence[int]) -> Floats:
        """The middles of the bins, straight lines between the rows; see :class:`ActionTokeniser`."""
        bins = np.array([t for t in tokens if t >= 0], dtype=np.float64).reshape(len(self._written), -1)
        rows = self._low + (bins + 0.5) / self.vocabulary * (self._high - self._low)
        every = np.arange(self._rows)
        return np.stack([np.interp(every, self._written, column) for column in rows.T], axis=1)


class FastTokeniser:
    """Byte pairs of rounded cosine coefficients, slow ones first."""

    def __init__(self, head: dict[str, Any]) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE

        self._head = head
        self._low, self._high = np.array(head["low"]), np.array(head["high"])
        self._rows, self._limit = int(head["rows"]), int(head["limit"])
        vocab = {str(k): int(v) for k, v in head["vocab"].items()}
        self._bpe = Tokenizer(BPE(vocab=vocab, merges=[(str(a), str(b)) for a, b in head["merges"]]))
        self._runs: list[list[int]] = [[]] * len(vocab)
        for text, number in vocab.items():
            self._runs[number] = [_value(c) - self._limit for c in text]
        self.vocabulary = len(vocab)
        self.values = self._rows * len(self._low)
        self.covers = np.array([len(run) for run in self._runs], dtype=np.int64)

    def encode(self, chunks: Floats) -> Tokens:
        """See :class:`ActionTokeniser`."""
        found = [e.ids for e in self._bpe.encode_batch([_text(row) for row in _rounded(chunks, self._head)])]
        out = np.full((len(found), max(map(len, found))), PAD, dtype=np.int64)
        for row, ids in zip(out, found, strict=True):
            row[: len(ids)] = ids
        return out

    def decode(self, tokens: Sequence[int]) -> Floats:
        """See :class:`ActionTokeniser`."""
        rounded = np.array([v for t in tokens if t >= 0 for v in self._runs[t]], dtype=np.float64)
        unit = idct(rounded.reshape(self._rows, -1) / float(self._head["scale"]), axis=0, norm="ortho")
        return np.asarray(self._low + (unit + 1.0) / 2.0 * (self._high - self._low))


def _range(chunks: Floats) -> dict[str, Any]:
    flat = chunks.reshape(-1, chunks.shape[-1])
    low, high = np.quantile(flat, QUANTILE, axis=0), np.quantile(flat, 1.0 - QUANTILE, axis=0)
    # An action that never changes still needs a range.
    room = np.maximum(MARGIN * (high - low) / 2, 1e-3)
    return {"low": (low - room).tolist(), "high": (high + room).tolist(), "rows": int(chunks.shape[1])}


def _rounded(chunks: Floats, head: dict[str, Any]) -> Tokens:
    """(B, H * D) coefficients as whole numbers from 0, all of one frequency together."""
    low, high, limit = np.array(head["low"]), np.array(head["high"]), int(head["limit"])
    unit = np.clip(2.0 * (chunks - low) / (high - low) - 1.0, -1.0, 1.0)
    waves = np.round(dct(unit, axis=1, norm="ortho") * float(head["scale"]))
    return np.asarray(np.clip(waves, -limit, limit) + limit, dtype=np.int64).reshape(len(chunks), -1)


# Byte-pair encoding works on text. Any block of letters without case or composition serves to spell numbers.
_FIRST = 0x4E00


def _symbol(value: int) -> str:
    return chr(_FIRST + value)


def _value(symbol: str) -> int:
    return ord(symbol) - _FIRST


def _text(values: Tokens) -> str:
    return "".join(map(_symbol, values.tolist()))
