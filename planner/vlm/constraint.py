"""Token masks that keep a model's text inside a JSON Schema, for the tokenizer of any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hiervla.representations import CheckpointError, ConventionError

if TYPE_CHECKING:
    import llguidance
    from numpy.typing import NDArray


def token_table(tokenizer: Any, vocabulary: int, place: str) -> llguidance.LLTokenizer:
    """The tokenizer as llguidance needs it. Takes about a second for a large vocabulary: make it once.

    Args:
        tokenizer: a fast tokenizer of transformers.
        vocabulary: number of scores that the model gives; may be larger than the number of tokens.
        place: the checkpoint, for the error message.

    Raises:
        CheckpointError: the tokenizer is of a kind that cannot be constrained.
    """
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=max(vocabulary, len(tokenizer)))
    except (ValueError, TypeError, RuntimeError) as error:
        problem = f"its tokenizer cannot be held to a grammar ({str(error).splitlines()[0]})"
        remedy = "Serve the model and name it as openai:MODEL@http://host:port/v1, or use another checkpoint"
        raise CheckpointError(place, problem, remedy) from error


_FREE = r"start: /(.|\n)*/"
"""Any text, ended by the model's own end token; special tokens are no text."""


class Constraint:
    """What may come next in one answer.

    Args:
        tokens: from :func:`token_table`.
        schema: JSON Schema of the answer; it is written without spaces. None allows any text.

    Raises:
        ConventionError: llguidance cannot make a grammar of the schema.
    """

    def __init__(self, tokens: llguidance.LLTokenizer, schema: Mapping[str, Any] | None) -> None:
        import llguidance
        import llguidance.numpy as masks

        self._fill = masks.fill_next_token_bitmask
        compact: Any = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        if schema is None:
            grammar = llguidance.LLMatcher.grammar_from_lark(_FREE)
        else:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(dict(schema), overrides=compact)
        self._matcher = llguidance.LLMatcher(tokens, grammar)
        self._bits = masks.allocate_token_bitmask(1, tokens.vocab_size)
        self._size = tokens.vocab_size
        self._check()

    @property
    def finished(self) -> bool:
        """Whether the answer is whole and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """(vocabulary,) bool: the tokens that may come next."""
        self._fill(self._matcher, self._bits, 0)
        self._check()
        return np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._size].astype(bool)

    def forced(self) -> list[int]:
        """The tokens that come next in any case, spelled as the tokenizer itself spells text; often none."""
        return [int(t) for t in self._matcher.compute_ff_tokens()]

    def accept(self, tokens: Sequence[int]) -> None:
        """Take tokens as written.

        Raises:
            ConventionError: the schema does not allow them.
        """
        self._matcher.consume_tokens(list(tokens))
        self._check()

    def _check(self) -> None:
        error = self._matcher.get_error()
        if error:
            problem = " ".join(str(error).split())
            raise ConventionError("answer schema", problem, "Report the skills' signatures with this message")


def json_text(tokens: llguidance.LLTokenizer, written: Sequence[int]) -> str:
    """The text of tokens, exactly; a tokenizer's own `decode` may clean up spaces.

    Bytes that are no UTF-8 can only stand at the end of a text that was cut off, and are left out.
    """
    return bytes(tokens.decode_bytes(list(written))).decode(errors="ignore")
