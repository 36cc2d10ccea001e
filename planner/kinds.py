"""Which kind of intermediate a step gets: what was asked for, what its skill takes, what the planner can make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hiervla.representations import ARTIFACT_KINDS, ArtifactKind, HiervlaError, SkillSignature, UnknownNameError

DEFAULT_KINDS: tuple[ArtifactKind, ...] = ("keypoints",)
"""What a planner that says nothing about it makes."""


class EmitError(HiervlaError, ValueError):
    """A kind of intermediate that cannot be had here.

    Attributes:
        kind: what was asked for.
        who: the planner or the skills that cannot.
        can: the kinds that they can.
    """

    exit_code = 2

    def __init__(self, kind: str, who: str, problem: str, can: Iterable[str]) -> None:
        self.kind = kind
        self.who = who
        self.can = tuple(can)
        known = ", ".join(self.can) or "none"
        super().__init__(f"--emit {kind}: {who} {problem}. Ask for one of: {known}.")


def emitted_kind(name: str) -> ArtifactKind:
    """A kind of artifact by name.

    Raises:
        UnknownNameError: there is no such kind.
    """
    for kind in ARTIFACT_KINDS:
        if kind == name:
            return kind
    raise UnknownNameError("kind of intermediate", name, ARTIFACT_KINDS, place="--emit")


def kinds_of(planner: object) -> tuple[ArtifactKind, ...]:
    """The kinds that a planner says that it can make, in its attribute ``kinds``."""
    found: tuple[ArtifactKind, ...] = getattr(planner, "kinds", DEFAULT_KINDS)
    return found


def check_emit(kind: ArtifactKind, planner: object, name: str, signatures: Sequence[SkillSignature]) -> None:
    """See that a kind can be made by the planner and used by a skill; asked before anything moves.

    Raises:
        EmitError: it cannot.
    """
    makes = kinds_of(planner)
    taken = tuple(k for k in ARTIFACT_KINDS if any(k in s.accepts for s in signatures))
    if kind not in makes:
        raise EmitError(kind, f"planner '{name}'", "cannot make this kind", [k for k in makes if k in taken])
    if not _of_use(kind, signatures):
        raise EmitError(kind, "the installed skills", "do not take this kind", [k for k in taken if k in makes])


def _of_use(kind: ArtifactKind, signatures: Sequence[SkillSignature]) -> bool:
    """Whether a skill takes the kind; a program is run by the loop itself, which asks for what its calls need."""
    return kind == "program" or any(kind in s.accepts for s in signatures)


def check_chosen(kind: ArtifactKind | None, chosen: Sequence[SkillSignature]) -> None:
    """See that at least one of the skills that a plan chose takes the kind that was asked for, if one was.

    Raises:
        EmitError: none does.
    """
    if kind is not None and chosen and not _of_use(kind, chosen):
        names = ", ".join(f"'{n}'" for n in dict.fromkeys(s.name for s in chosen))
        can = dict.fromkeys(k for s in chosen for k in s.accepts)
        raise EmitError(kind, f"the skills that this plan needs, {names},", "do not take this kind", can)


def kind_for(signature: SkillSignature, wanted: ArtifactKind | None, makes: Sequence[ArtifactKind]) -> ArtifactKind:
    """The kind that a step of a skill gets: the wanted one where the skill takes it, else the first that it takes."""
    if wanted is not None and wanted in signature.accepts and wanted in makes:
        return wanted
    return next((k for k in _ORDER if k in signature.accepts and k in makes), "keypoints")


_ORDER: tuple[ArtifactKind, ...] = ("keypoints", *(k for k in ARTIFACT_KINDS if k not in ("keypoints", "subtasks")))
"""What a step gets where nothing was asked for, or its skill does not take that: a keypoint before anything else."""
