"""The planner's output format, and the grammar that keeps generation inside it.

The grammar is made anew for every look at the scene: from the signatures of the skills that are registered
now and the slots that were found now. An unknown skill, a thing that is not there or a thing that does not fit
a parameter cannot be emitted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from hiervla.planner.embedded.slots import LOOSE, SceneSlots
from hiervla.representations.errors import PlanError
from hiervla.representations.signatures import NUMBER, Parameter, SkillSignature

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    from transformers import PreTrainedTokenizerFast

RefusalReason = Literal["not_in_scene", "nothing_to_do", "cannot_do", "not_understood"]
REASONS: Final[tuple[RefusalReason, ...]] = ("not_in_scene", "nothing_to_do", "cannot_do", "not_understood")
TABLE: Final = "table"

RELATION_TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "on": ("plate", "block", "top_shelf", "bottom_shelf"),
    "in": ("bowl", "drawer"),
    "at": (TABLE,),
    "left_of": LOOSE,
    "right_of": LOOSE,
}
"""Categories that a relation can be followed by; a relation that is not listed goes with any."""


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """The model's answer, parsed.

    Attributes:
        done: indices of history lines that count as done.
        remaining: steps to come: skill and arguments; things are slots such as "o3".
        refuse: why there is no plan, or None.
        missing: what is missing, in words.
    """

    done: tuple[int, ...] = ()
    remaining: tuple[Mapping[str, str], ...] = ()
    refuse: RefusalReason | None = None
    missing: str = ""


def plan_json(done: Sequence[int], steps: Sequence[Mapping[str, str]]) -> str:
    """A plan in the compact form that the model writes."""
    plan = {"done": [f"h{k}" for k in done], "remaining": [dict(s) for s in steps]}
    return json.dumps(plan, separators=(",", ":"))


def refusal_json(reason: RefusalReason, missing: str = "") -> str:
    """A refusal in the compact form that the model writes."""
    answer: dict[str, str] = {"refuse": reason}
    if reason == "not_in_scene":
        answer["missing"] = missing
    return json.dumps(answer, separators=(",", ":"))


def parse_answer(text: str) -> PlanDraft:
    """Read what the model wrote.

    Raises:
        PlanError: it is no plan and no refusal.
    """
    remedy = "Decode under the plan grammar"
    try:
        answer = json.loads(text)
        if "refuse" in answer:
            if answer["refuse"] not in REASONS:
                raise PlanError("answer", f"unknown reason '{answer['refuse']}' to refuse", remedy)
            return PlanDraft(refuse=answer["refuse"], missing=str(answer.get("missing", "")))
        done = tuple(int(h[1:]) for h in answer["done"])
        remaining = tuple({str(k): str(v) for k, v in step.items()} for step in answer["remaining"])
        if not all("skill" in step for step in remaining):
            raise PlanError("remaining", "a step without a skill", remedy)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError("answer", f"not readable as a plan ({error}): {text[:80]!r}", remedy) from error
    return PlanDraft(done, remaining)


def plan_schema(
    signatures: Sequence[SkillSignature],
    slots: SceneSlots,
    done: Sequence[int] = (),
    reasons: Sequence[RefusalReason] = REASONS,
) -> dict[str, Any]:
    """JSON schema of every answer that makes sense here.

    Args:
        signatures: the skills that exist.
        slots: the things that were found.
        done: the lines of history with a good outcome. They are what counts as done, whatever the model thinks.
        reasons: the reasons to refuse that are on offer.
    """
    kinds = [slots.category_of(i) for i in range(len(slots))]
    variants = [v for s in signatures for v in _calls(s, kinds)]
    finished = {
        "type": "array",
        "prefixItems": [{"const": f"h{k}"} for k in done],
        "items": False,
        "minItems": len(done),
        "maxItems": len(done),
    }
    remaining: dict[str, Any] = {"type": "array", "maxItems": 24, "items": {"anyOf": variants}}
    if not variants:
        remaining = {"type": "array", "maxItems": 0}
    refusals: list[dict[str, Any]] = [{"refuse": {"const": r}} for r in reasons]
    for refusal, reason in zip(refusals, reasons, strict=True):
        if reason == "not_in_scene":
            refusal["missing"] = {"type": "string", "pattern": "^[a-z]+( [a-z]+){0,4}$"}
    return {"anyOf": [_object({"done": finished, "remaining": remaining}), *(_object(r) for r in refusals)]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _calls(signature: SkillSignature, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The calls of one skill: one variant for each relation, none when a parameter finds nothing that fits."""
    relation = next((p for p in signature.params if p.type == "choice" and p.name == "relation"), None)
    calls = []
    for chosen in relation.choices if relation else (None,):
        properties: dict[str, Any] = {"skill": {"const": signature.name}}
        for p in signature.params:
            values = _values(p, kinds, chosen)
            if values is None and p.type == "number":
                properties[p.name] = {"type": "string", "pattern": NUMBER}
            elif values is None:
                properties[p.name] = {"type": "string", "maxLength": 40}
            elif values:
                properties[p.name] = {"enum": values}
            else:
                break
        else:
            calls.append(_object(properties))
    return calls


def _values(parameter: Parameter, kinds: Sequence[str], relation: str | None) -> list[str] | None:
    """What a parameter may be; None for free text."""
    if parameter.type == "choice":
        return [relation] if parameter.name == "relation" and relation else list(parameter.choices)
    if parameter.type in {"number", "text"}:
        return None
    wanted = parameter.categories
    if parameter.type == "location" and relation is not None and relation in RELATION_TARGETS:
        able = RELATION_TARGETS[relation]
        beside = relation in {"left_of", "right_of", "at"}
        wanted = able if beside or not wanted else tuple(c for c in able if c in wanted)
    values = [f"o{i}" for i, kind in enumerate(kinds) if not wanted or kind in wanted]
    if parameter.type == "location" and TABLE in (wanted or (TABLE,)):
        values.append(TABLE)
    return values


class PlanGrammar:
    """Token masks for one answer, as llguidance gives them.

    Args:
        tokens: the tokenizer in llguidance's form, from `grammar_tokenizer` (make it once).
        schema: from `plan_schema`.
    """

    def __init__(self, tokens: llguidance.LLTokenizer, schema: Mapping[str, Any]) -> None:
        import llguidance
        import llguidance.numpy as masks

        self._masks = masks
        compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        # Left to itself, llguidance writes forced text in tokens of its own choice: a long merge such as
        # `","relation":"on","target":"` comes out as letters, and a small model loses its thread.
        source = '%llguidance {"no_forcing": true}\nstart: %json ' + json.dumps({**schema, "x-guidance": compact})
        self._matcher = llguidance.LLMatcher(tokens, llguidance.LLMatcher.grammar_from_lark(source))
        self._bits = masks.allocate_token_bitmask(1, tokens.vocab_size)
        self._size = tokens.vocab_size
        self._check()

    def _check(self) -> None:
        error = self._matcher.get_error()
        if error:
            raise PlanError("grammar", str(error), "Report the skills' signatures with this message")

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(vocab,) bool: the tokens that may come next."""
        import numpy as np

        self._masks.fill_next_token_bitmask(self._matcher, self._bits, 0)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._size]
        return bits.astype(bool)

    def accept(self, token: int) -> None:
        """Take a token as read.

        Raises:
            PlanError: the grammar does not allow it.
        """
        self._matcher.consume_token(token)
        self._check()


def grammar_tokenizer(tokenizer: PreTrainedTokenizerFast) -> llguidance.LLTokenizer:
    """The tokenizer as llguidance needs it; keep it.

    llguidance is given the tokens as bytes and not the tokenizer itself: it would take its own spelling of forced
    text for the only right one, and hide tokens that reach beyond what is forced.
    """
    import llguidance

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Vocabulary(tokenizer)))


class _Vocabulary:
    """Token ids and their bytes, as `llguidance.TokenizerWrapper` asks for them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.bos_token_id = None
        added = tokenizer.added_tokens_decoder
        self.special_token_ids = [i for i, t in added.items() if t.special]
        bytes_of = {c: b for b, c in _byte_characters().items()}
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.tokens = [
            name.encode() if i in added else bytes(bytes_of[c] for c in name) for i, name in enumerate(names)
        ]
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("text is wanted, not bytes")
        return list(self._tokenizer.backend_tokenizer.encode(text).ids)


def _byte_characters() -> dict[int, str]:
    """The printable character that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + k) for k, b in enumerate(others)}
