"""The planner's words: prompt layout, history lines and a small byte-level tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_HISTORY: Final = 16
PAD, EOS, TASK, HISTORY, PLAN = "<pad>", "<eos>", "<task>", "<history>", "<plan>"
SLOT_TOKENS: Final = tuple(f"o{i}" for i in range(20))
HISTORY_TOKENS: Final = tuple(f"h{i}" for i in range(MAX_HISTORY))

KNOWN_SKILLS: Final = {
    "pick": "object", "place": "object", "open_drawer": "drawer", "close_drawer": "drawer", "wipe": "surface",
    "throw_away": "object",
}  # fmt: skip
"""Skills whose calls have tokens of their own, with the name of their first parameter."""

_CALLS: Final = tuple(f'{skill}","{argument}":"' for skill, argument in KNOWN_SKILLS.items())
_PIECES: Final = (
    *(f'{{"skill":"{c}' for c in _CALLS),
    *(f'"}},{{"skill":"{c}' for c in _CALLS),
    *(f'","relation":"{r}","target":"' for r in ("on", "in", "left_of", "right_of")),
    '","relation":"at","target":"table', '{"done":["', '","', '"],"remaining":[', '{"done":[],"remaining":[',
    '"}]}', "]}", '{"refuse":"not_in_scene","missing":"', '{"refuse":"nothing_to_do"}', '{"refuse":"cannot_do"}',
    '{"refuse":"not_understood"}', '"}',
)  # fmt: skip
"""What a compact plan is mostly made of, one token each; anything else, such as other skills, is spelled out."""


def normalise(instruction: str) -> str:
    """The instruction as the model reads it: lower case, single spaces."""
    return " ".join(instruction.lower().split())


def request_text(words: str, index: int) -> str:
    """One request of several, as the model is asked for it: later ones are told apart from the first.

    Args:
        words: its words in the instruction.
        index: how many come before it.
    """
    return words if index == 0 else f"then {words}"


def step_words(skill: str, thing: str, relation: str = "", target: str = "", source: str = "") -> str:
    """A step for the history, in words.

    Args:
        skill: name of the skill.
        thing: name of the first argument, as `SceneSlots.name` gives it; for an unknown skill, all arguments.
        relation: relation of a placement.
        target: name of the place.
        source: where a picked thing was, as `SceneSlots.source` gives it.
    """
    if skill == "pick":
        return f"pick {thing} from {source}" if source else f"pick {thing}"
    if skill == "place":
        return f"place {thing} {relation.replace('_', ' ')} {target}"
    if skill in {"open_drawer", "close_drawer"}:
        return skill.replace("_", " ")
    return f"{skill.replace('_', ' ')} {thing}"


def history_line(words: str, ok: bool) -> str:
    """A step that was tried, with its outcome."""
    return f"{words} {'ok' if ok else 'failed'}"


def prompt_text(instruction: str, history: Sequence[str] = ()) -> str:
    """What follows the slots in the prefix.

    Args:
        instruction: free text.
        history: lines of `history_line`, oldest first; the last 16 are shown as h0, h1, ...
    """
    lines = "".join(f"h{i} {line}" for i, line in enumerate(history[-MAX_HISTORY:]))
    return f"{TASK} {normalise(instruction)}{HISTORY}{lines}{PLAN}"


def train_tokenizer(corpus: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, in which any text can be encoded.

    Args:
        corpus: texts that say which words deserve a token of their own.
        vocab_size: tokens in all.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = [PAD, EOS, TASK, HISTORY, PLAN]
    added = [AddedToken(t, single_word=True, normalized=False) for t in SLOT_TOKENS]
    added += [AddedToken(t, normalized=False) for t in HISTORY_TOKENS]
    added += [AddedToken(p, normalized=False) for p in _PIECES]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(added),
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    core.add_tokens(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, extra_special_tokens=[TASK, HISTORY, PLAN]
    )
