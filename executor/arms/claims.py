"""Who may do what now: claims of the arms' steps on what they share, and steps that wait for another arm's.

An arm is claimed by each of its own steps, the space between the arms by steps that reach into it, and the whole cell
by every step where arms are to move one after the other. A step gets all that it needs at once or nothing, and keeps it
until the arm has left the shared space again, which is measured and not believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hiervla.representations import Plan, Step

Key = tuple[str, tuple[tuple[str, str], ...]]
"""What a step does, whatever its id and wherever its thing is taken from: plans made anew number steps otherwise."""
CELL = "cell"


def key_of(step: Step) -> Key:
    """What a step does."""
    return step.skill, tuple(sorted((n, w) for n, w in step.args.items() if n != "source"))


def words_of(key: Key) -> str:
    """What a step does, for people."""
    skill, args = key
    return " ".join([skill.replace("_", " "), *(word for _, word in args)])


@dataclass(frozen=True)
class Holder:
    """An arm's step that has a resource."""

    arm: str
    step_id: str


@dataclass
class Claims:
    """What the arms of one run hold, and which of the steps that others wait for are done.

    Attributes:
        needs: by arm and what a step does: the steps of other arms that have to be done before.
        live: arms whose loops are running.
    """

    needs: Mapping[tuple[str, Key], frozenset[tuple[str, Key]]]
    live: set[str]
    _held: dict[str, Holder] = field(default_factory=dict)
    _done: set[tuple[str, Key]] = field(default_factory=set)
    _dropped: set[tuple[str, Key]] = field(default_factory=set)
    _waiting: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, arms: Iterable[str]) -> Claims:
        """The claims of a plan whose steps say which arm carries them out; nothing is held at first."""
        of_step = {s.id: (s.arm or "", key_of(s)) for s in plan.steps}
        needs: dict[tuple[str, Key], frozenset[tuple[str, Key]]] = {}
        for step in plan.steps:
            foreign = frozenset(of_step[n] for n in step.depends_on if of_step[n][0] != step.arm)
            mine = of_step[step.id]
            if foreign:
                needs[mine] = needs.get(mine, frozenset()) | foreign
        return cls(needs, set(arms))

    def blockers(self, arm: str, resources: Iterable[str]) -> tuple[Holder, ...]:
        """Who else has something of what a step needs, or has waited longer for it."""
        wanted = set(resources)
        found = {self._held[r] for r in wanted if r in self._held and self._held[r].arm != arm}
        for other, awaited in self._waiting.items():
            if other == arm:
                break
            if wanted & awaited:
                found.add(Holder(other, ""))
        return tuple(sorted(found, key=lambda h: h.arm))

    def take(self, arm: str, step: Step, resources: Iterable[str]) -> None:
        """A step gets what it needs; nobody else has any of it."""
        assert not self.blockers(arm, resources := tuple(resources)), "asked for only when it is free"
        self._waiting.pop(arm, None)
        self._held |= {r: Holder(arm, step.id) for r in resources}

    def let_go(self, arm: str) -> tuple[str, ...]:
        """An arm gives back all that it has; returns what that was."""
        own = tuple(sorted(r for r, holder in self._held.items() if holder.arm == arm))
        for resource in own:
            del self._held[resource]
        return own

    def has(self, arm: str) -> tuple[str, ...]:
        """What an arm has."""
        return tuple(sorted(r for r, holder in self._held.items() if holder.arm == arm))

    def unmet(self, arm: str, step: Step) -> frozenset[tuple[str, Key]]:
        """Steps of other arms that have to be done before this one and are not."""
        return self.needs.get((arm, key_of(step)), frozenset()) - self._done

    def hopeless(self, unmet: Iterable[tuple[str, Key]]) -> tuple[tuple[str, Key], ...]:
        """Those of them that nobody will do any more."""
        return tuple(sorted(u for u in unmet if u[0] not in self.live or u in self._dropped))

    def did(self, arm: str, step: Step) -> None:
        """A step worked."""
        self._done.add((arm, key_of(step)))

    def undone(self, plan: Plan) -> tuple[str, ...]:
        """Ids of the plan's steps that did not work, in its order."""
        return tuple(s.id for s in plan.steps if (s.arm or "", key_of(s)) not in self._done)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was dropped and did not work later after all, in words."""
        return tuple(f"{arm}: {words_of(key)}" for arm, key in sorted(self._dropped - self._done))

    def drop(self, arm: str, step: Step) -> None:
        """A step is left out."""
        self._dropped.add((arm, key_of(step)))

    def wait(self, arm: str, resources: Iterable[str]) -> None:
        """An arm has nothing that it could do now; what it waits for goes to those first who came first.

        Args:
            arm: which.
            resources: what it would take if it were free; none while it waits for another arm's step.
        """
        self._waiting.setdefault(arm, frozenset(resources))

    def go(self, arm: str) -> None:
        """An arm goes on."""
        self._waiting.pop(arm, None)

    def leave(self, arm: str) -> None:
        """An arm's loop has ended."""
        self.live.discard(arm)
        self._waiting.pop(arm, None)

    @property
    def stuck(self) -> bool:
        """Whether every arm that still runs waits for another one."""
        return bool(self.live) and self.live <= self._waiting.keys()
