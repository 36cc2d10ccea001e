"""Steps, conditions and refusals in words that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hiervla.planner.base import Remembered
from hiervla.planner.embedded.asking import quoted
from hiervla.planner.embedded.grammar import PlanDraft
from hiervla.planner.embedded.slots import LOOSE
from hiervla.planner.embedded.tokenizer import history_line, step_words
from hiervla.representations import Condition, SkillSignature, Step

_ABLE = "I can pick and place, open and close the drawer, wipe, and throw things away"
_BESIDE = {"left_of": "to the left of", "right_of": "to the right of", "at": "down on"}


def step_text(skill: str, args: Mapping[str, str]) -> str:
    """A step as a sentence without a full stop."""
    thing, target = _the(args.get("object", "")), args.get("target", "")
    if skill == "pick":
        source = args.get("source", "")
        return f"pick up {thing}" + (f" from {_the(source)}" if source else "")
    if skill == "place":
        relation = args.get("relation", "on")
        return f"put {thing} {_BESIDE.get(relation, relation)} {_the(target)}"
    if skill in ("open_drawer", "close_drawer"):
        return skill.replace("_", " the ")
    if skill == "wipe":
        return f"wipe up {_the(args.get('surface', 'spill'))}"
    if skill == "throw_away":
        return f"throw {thing} away"
    return " ".join([skill.replace("_", " "), *args.values()])


def conditions(
    skill: str, args: Mapping[str, str], signature: SkillSignature | None = None
) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """What has to hold before a step and what holds after it; a third party's skill says so in its signature."""
    thing, target = args.get("object", ""), args.get("target", "")
    holding, empty = Condition(predicate="holding", args=(thing,)), Condition(predicate="hand_empty")
    if skill == "pick":
        return (empty,), (holding,)
    if skill == "place":
        relation = args.get("relation", "on")
        return (holding,), (Condition(predicate=relation, args=(thing, target)), empty)
    if skill == "throw_away":
        return (holding,), (Condition(predicate="in", args=(thing, "bin")), empty)
    if skill in ("open_drawer", "close_drawer"):
        opens = skill == "open_drawer"
        drawer = args.get("drawer", "drawer")
        before = Condition(predicate="open", args=(drawer,), holds=not opens)
        return (empty, before), (before.replace(holds=opens),)
    if skill == "wipe":
        sponge = Condition(predicate="holding", args=("sponge",))
        return (sponge,), (Condition(predicate="clean", args=(args.get("surface", "spill"),)),)
    return ((), ()) if signature is None else signature.conditions(args)


def record_line(step: Step, ok: bool, source: str, signature: SkillSignature | None) -> str:
    """An attempt at a step as the language model's history shows it."""
    args = step.args
    names = [p.name for p in signature.params] if signature is not None else list(args)
    thing = args.get(names[0], "") if names else ""
    words = step_words(
        step.skill, thing, args.get("relation", ""), args.get("target", ""), source or args.get("source", "")
    )
    return history_line(words, ok)


def refusal_message(
    draft: PlanDraft, seen: Sequence[str], hidden: Remembered | None = None, unknown: Sequence[str] = ()
) -> str:
    """One friendly sentence for a refusal.

    Args:
        draft: the refusal.
        seen: names of all that is seen.
        hidden: what is remembered of the thing that is missing.
        unknown: words of the instruction that the planner does not know.
    """
    if unknown and draft.refuse in ("cannot_do", "not_understood"):
        which = f"I do not know {quoted(unknown)}"
        loose = [s for s in seen if s.split()[-1] in LOOSE]
        example = f'"put the {loose[0]} on the top shelf"' if loose else '"open the drawer"'
        if draft.refuse == "cannot_do":
            return f"I cannot do that, as far as I understand it: {which}; {_ABLE}."
        return f"{which}; say it in other words, such as {example}. I see {_listing(loose or seen)}."
    if draft.refuse == "not_in_scene" and hidden is not None:
        where = f"it was last in {_the(hidden.place)}" if hidden.place else f"I last saw it at {hidden.seen_s:.0f} s"
        return f"There is no {hidden.name} in view; {where}. I see {_listing(_related(hidden.name, seen))}."
    if draft.refuse == "not_in_scene":
        missing = draft.missing or "such a thing"
        return f"There is no {missing}; I see {_listing(_related(missing, seen))}."
    if draft.refuse == "nothing_to_do":
        return "There is nothing to do: everything is already as you want it."
    if draft.refuse == "cannot_do":
        return f"I cannot do that here; {_ABLE}."
    return f"I do not understand what to do with that; I see {_listing(seen)}."


def _related(missing: str, seen: Sequence[str]) -> list[str]:
    """What is seen of the same kind as what is missing; everything loose if there is none of that kind."""
    kind = missing.rsplit(maxsplit=1)[-1] if missing else ""
    same = [s for s in seen if s.split()[-1] == kind]
    loose = [s for s in seen if s.split()[-1] in LOOSE or s == "spill"]
    return same or loose or list(seen)


def _listing(names: Sequence[str]) -> str:
    """"a red mug and two blue blocks", in the order of first appearance."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    words = ("", "", "two", "three", "four", "five")
    parts = [
        f"{'an' if n[0] in 'aeiou' else 'a'} {n}" if k == 1 else f"{words[k] if k < 6 else k} {n}s"
        for n, k in counts.items()
    ]
    if not parts:
        return "nothing that I know"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _the(name: str) -> str:
    return f"the {name}" if name else "it"


