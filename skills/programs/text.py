"""Program texts made from steps, and steps' words in programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hiervla.representations import SkillSignature, Step


def plan_text(steps: Iterable[Step], signatures: Mapping[str, SkillSignature]) -> str:
    """Steps as a program that makes one call for each, in order; a failure that is not retried ends it."""
    return "".join(f"{call_text(step, signatures[step.skill])}\n" for step in steps)


def call_text(step: Step, signature: SkillSignature, names: Mapping[str, str] | None = None) -> str:
    """A step as a call, ``place(object='red mug', relation='on', target='plate')``.

    Args:
        step: the step; arguments that are no parameter of the skill are left out.
        signature: of its skill.
        names: names of a program's own inputs by the words that they stand for.
    """
    parts = []
    for p in signature.params:
        if p.name in step.args:
            word = step.args[p.name]
            literal = word if p.type == "number" else repr(word)
            parts.append(f"{p.name}={(names or {}).get(word, literal) if p.type != 'number' else literal}")
    return f"{step.skill}({', '.join(parts)})"


def title_of(source: str) -> str:
    """What a program is about, in a line: its first comment or docstring, or that it is a program."""
    for line in source.splitlines():
        words = line.strip().strip("#\"'").strip()
        if words:
            return words if line.lstrip()[:1] in {"#", '"', "'"} else "run a program"
    return "run a program"
