"""What the embedded planner asks a person: which of several things is meant, and what a word means that it never saw.

The small model answers any instruction with a plan or a refusal; it has no way to ask. So this is found out beside it,
by rules on the words, from what is seen and from the plan that it would make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hiervla.planner.embedded.interjections import NOUNS, plain_noun
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES
from hiervla.representations import Refusal, SeenThing, SkillSignature, Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SINGLED: Final = re.compile(
    r"\b(left|leftmost|right|rightmost|front|back|near|nearest|closest|far|farthest|furthest|other|middle|next|beside|"
    r"between|behind|all|both|every|everything|each|any|one|two|three|on top of|under|under\w*|not|same)\b"
)
"""Words that may single a thing out, or mean several: then nothing is asked."""
_BARE: Final = re.compile(rf"\bthe\s+(?P<noun>{NOUNS})\b", re.IGNORECASE)
_SAME: Final = {"board": "shelf", "upper": "top", "lower": "bottom"}
_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)?")
_ALWAYS: Final = frozenset({"a", "an", "i", "which", "who", "whose", "just", "kindly", "dear"})
_MOST_REQUESTS: Final = 3
"""What a person is asked to confirm is no longer than so many requests."""


@dataclass(frozen=True)
class Unclear:
    """Words that can mean several things.

    Attributes:
        words: as they stand in the instruction, such as "the block".
        candidates: what can be said instead, each of which means one thing: "the red block".
    """

    words: str
    candidates: tuple[str, ...]

    def __str__(self) -> str:
        """The question in a sentence."""
        return f'"{self.words}" can be {listed(self.candidates, "or")}; which one do you mean?'


def question(
    instruction: str,
    things: Sequence[SeenThing],
    plan: Sequence[Step],
    known: frozenset[str],
    skills: Sequence[SkillSignature],
) -> Refusal | None:
    """What a person should be asked before a plan is carried out; None where the instruction leaves nothing open.

    Either a name in it can mean several things, or there are words in it that the planner does not know and that it
    would pass over: the model makes a plan of "frobnicate the block", too.

    Args:
        instruction: free text.
        things: what is seen.
        plan: the steps that the planner would take.
        known: the words that it knows.
        skills: the installed ones.
    """
    open_ = unclear(instruction, things, plan)
    if open_ is not None:
        return Refusal(reason="ambiguous", message=str(open_), words=open_.words, candidates=open_.candidates)
    unknown = unknown_words(instruction, known, skills)
    requests = plainly(plan)
    if not unknown or not 0 < len(requests) <= _MOST_REQUESTS:
        return None
    meaning = " and ".join(requests)
    return Refusal(
        reason="not_understood",
        message=f'I do not know {quoted(unknown)}; do you mean "{meaning}"?',
        unknown=unknown,
        candidates=(meaning,),
    )


def plainly(plan: Sequence[Step]) -> list[str]:
    """What a plan does, one clause a thing that is brought somewhere, in words that the planner knows."""
    clauses = []
    for step, after in zip(plan, (*plan[1:], None), strict=True):
        carried = after is not None and step.skill == "pick" and after.args.get("object") == step.args.get("object")
        if not carried:
            clauses.append(str(step))
    return clauses


def unclear(instruction: str, things: Sequence[SeenThing], plan: Sequence[Step]) -> Unclear | None:
    """The first name in an instruction that can mean several things of different names, one of which the plan handles.

    Things of one name are no question here: which of two red blocks is meant is decided by how reliably each is picked,
    see :mod:`hiervla.executor.choosing`. Where the words may single one out ("on the left"), nothing is asked either.

    Args:
        instruction: free text.
        things: what is seen.
        plan: the steps that the planner would take.
    """
    text = " ".join(instruction.lower().split())
    if SINGLED.search(text):
        return None
    handled = {value for step in plan for value in step.args.values()}
    for named in _BARE.finditer(text):
        kind = plain_noun(named["noun"])
        seen = dict.fromkeys(t.name for t in things if t.kind == kind)
        open_ = [n for n in seen if not _said(n, text)]
        if len(open_) > 1 and len(handled & set(open_)) == 1 and not _placed(text[named.end() :], list(seen), things):
            return Unclear(named[0], tuple(f"the {n}" for n in open_))
    return None


def _said(name: str, text: str) -> bool:
    """Whether the text names a thing with its colour, in whichever word for its kind."""
    colour, _, kind = name.rpartition(" ")
    return any(plain_noun(m["noun"]) == kind for m in re.finditer(rf"\b{colour}\s+(?P<noun>{NOUNS})\b", text))


def _placed(rest: str, names: Sequence[str], things: Sequence[SeenThing]) -> bool:
    """Whether the words behind a name say where the thing is, and exactly one is there: "the block in the drawer"."""
    if re.match(r"\s+(?:that|which)\b", rest):
        return True
    where = re.match(r"\s+(?:on|in|from|inside|off)\s+the\s+(?:dining )?(?P<place>[a-z]+(?: [a-z]+)?)", rest)
    if where is None:
        return False
    place = [_SAME.get(w, plain_noun(w)) for w in where["place"].split()]
    # "the bowl" is any bowl, "the orange bowl" and "the top shelf" are one.
    there = [
        t
        for t in things
        if t.name in names and t.where and (t.where.split() == place or t.where.split()[-1] == place[0])
    ]
    return len(there) == 1


def known_words(tokenizer: PreTrainedTokenizerFast) -> frozenset[str]:
    """The words that a planner was trained on often enough to have a token of their own."""
    words = {token.removeprefix("Ġ") for token in tokenizer.get_vocab() if token[:1] == "Ġ" or token.isalpha()}
    names = " ".join((*CATEGORIES, *COLOURS, *STATES)).replace("_", " ").split()
    return frozenset({w for w in words if len(w) > 1} | set(names) | _ALWAYS)


def unknown_words(instruction: str, known: frozenset[str], skills: Iterable[SkillSignature]) -> tuple[str, ...]:
    """The words of an instruction that a planner does not know, each once.

    Args:
        instruction: free text.
        known: see :func:`known_words`.
        skills: what they and their arguments are called is known, too.
    """
    own = {w for s in skills for w in _WORD.findall(f"{s.name} {s.doc}".lower().replace("_", " "))}
    found = []
    for word in _WORD.findall(instruction.lower()):
        stem = word.partition("'")[0]
        if not {word, stem, stem.removesuffix("s"), stem.removesuffix("es")} & (known | own):
            found.append(word)
    return tuple(dict.fromkeys(found))


def quoted(words: Sequence[str]) -> str:
    """``the word "a"``, or ``the words "a" and "b"``; of many the first few."""
    return f"the word{'s' if len(words) > 1 else ''} " + listed([f'"{w}"' for w in words[:4]])


def listed(parts: Sequence[str], word: str = "and") -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"
