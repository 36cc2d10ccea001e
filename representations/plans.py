"""Plans: ordered, typed steps with dependencies, and which of them are done."""

# Without `from __future__ import annotations`: pydantic would compile and evaluate every annotation once more.
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from hiervla.representations._base import SCHEMA_VERSION, Fraction, Typed
from hiervla.representations.artifacts import Artifact, Program, Provenance

if TYPE_CHECKING:
    import networkx as nx

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]


class Condition(Typed):
    """A relation that has to hold before or after a step, such as ``on(red mug, top shelf)``."""

    predicate: str
    args: tuple[str, ...] = ()
    holds: bool = Field(default=True, description="False for a negated condition")

    def __str__(self) -> str:
        """``not on(a, b)`` or ``on(a, b)``."""
        return f"{'' if self.holds else 'not '}{self.predicate}({', '.join(self.args)})"


class Step(Typed):
    """One call of a skill."""

    id: Identifier
    skill: str
    args: dict[str, str] = Field(
        default_factory=dict, description="by parameter name; objects as the planner names them"
    )
    text: str = Field(default="", description="the step in words")
    artifacts: tuple[Artifact, ...] = ()
    depends_on: tuple[Identifier, ...] = ()
    preconditions: tuple[Condition, ...] = ()
    postconditions: tuple[Condition, ...] = ()
    arm: str | None = Field(default=None, description="which arm carries it out, where there are several")

    def __str__(self) -> str:
        """The words of the step, or ``skill(arg, arg)``."""
        return self.text or f"{self.skill}({', '.join(self.args.values())})"


class Plan(Typed):
    """A goal in words and the steps to it; every replan re-emits the done and the remaining ones."""

    kind: Literal["plan"] = "plan"
    version: Literal[1] = SCHEMA_VERSION
    goal: str
    steps: tuple[Step, ...]
    done: tuple[Identifier, ...] = Field(default=(), description="ids of finished steps, in order")
    remaining: tuple[Identifier, ...] = Field(description="ids of steps to come, in order")
    scene: tuple[Artifact, ...] = Field(default=(), description="what the planner saw: boxes, keypoints")
    program: Program | None = Field(
        default=None, description="what makes the steps, one after the other, while they are carried out"
    )
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [s.id for s in self.steps]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two steps have the same id: {ids}")
        if sorted([*self.done, *self.remaining]) != sorted(ids):
            raise ValueError(f"done {list(self.done)} and remaining {list(self.remaining)} do not part the steps {ids}")
        order = {s: i for i, s in enumerate([*self.done, *self.remaining])}
        for step in self.steps:
            for needed in step.depends_on:
                if needed not in order:
                    raise ValueError(f"step {step.id} depends on '{needed}', which is not in the plan")
        late = [
            (needed, step.id) for step in self.steps for needed in step.depends_on if order[needed] >= order[step.id]
        ]
        if late:
            # An order that keeps every dependency proves that there is no circle: networkx is only needed without one.
            import networkx as nx

            graph = self.graph()
            if not nx.is_directed_acyclic_graph(graph):
                raise ValueError(f"steps depend on each other in a circle: {nx.find_cycle(graph)}")
            before, after = late[0]
            raise ValueError(f"step {after} is ordered before {before}, on which it depends")
        return self

    def graph(self) -> "nx.DiGraph[str]":
        """Dependencies as a directed graph; an edge leads from a step to one that needs it."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(s.id for s in self.steps)
        graph.add_edges_from((needed, s.id) for s in self.steps for needed in s.depends_on)
        return graph

    def step(self, step_id: str) -> Step:
        """The step of that id.

        Raises:
            KeyError: there is none.
        """
        for s in self.steps:
            if s.id == step_id:
                return s
        raise KeyError(f"no step '{step_id}' in the plan; it has {[s.id for s in self.steps]}")


class Refusal(Typed):
    """The planner's polite no: that it does not understand, that it cannot tell what is meant, or that it will not."""

    kind: Literal["refusal"] = "refusal"
    version: Literal[1] = SCHEMA_VERSION
    reason: Literal["not_in_scene", "nothing_to_do", "cannot_do", "not_understood", "empty_instruction", "ambiguous"]
    message: str = Field(description="one sentence for the person who asked")
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = Field(default=(), description="words of the instruction that the planner does not know")
    words: str = Field(default="", description="what can mean several things, such as 'the block'")
    candidates: tuple[str, ...] = Field(default=(), description="what can be said instead, such as 'the red block'")
    seen: tuple[str, ...] = Field(default=(), description="what the planner does see")
    provenance: Provenance | None = None

    @property
    def judged(self) -> bool:
        """Whether it is about the task: it was understood, and it is impossible, unsafe or done already."""
        return self.reason in ("cannot_do", "nothing_to_do", "not_in_scene")

    @property
    def can_be_said_otherwise(self) -> bool:
        """Whether it is worth asking back: another word, or one of the candidates, may lead to a plan."""
        return self.reason not in ("cannot_do", "nothing_to_do")


PlannerAnswer = Annotated[Plan | Refusal, Field(discriminator="kind")]


class Verdict(Typed):
    """An answer to a question about the world, from observations only."""

    name: str = Field(description="the check, such as 'grasped'")
    value: Literal["yes", "no", "unsure"]
    confidence: Fraction = 1.0
    evidence: dict[str, float | str | bool] = Field(default_factory=dict)

    @property
    def yes(self) -> bool:
        """True when the answer is yes."""
        return self.value == "yes"


StepOutcome = Literal[
    "succeeded",
    "precondition_failed",
    "lost_object",
    "unreachable",
    "not_found",
    "timed_out",
    "blocked",
    "envelope_stop",
    "cancelled",
    "gave_up",
    "failed",
]
"""How one attempt at a step ended."""

RunOutcome = Literal[
    "succeeded",
    "failed",
    "gave_up",
    "refused",
    "nothing_to_do",
    "planner_failed",
    "cancelled",
    "envelope_stop",
    "error",
]
"""How a run ended; it gives up when its retries, or its steps, are used up.

Where the planner gives no answer any more, nothing was judged, and the run can be resumed.
"""
