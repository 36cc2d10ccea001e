"""Points that a planner could have made up, and whether the guard lets them pass; used by `benchmarks.planner`.

Four kinds, made from right steps of right plans: the point moved off its thing, the point on another thing, the name of
a thing that is not there, the point of another image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hiervla.planner.base import Planner
    from hiervla.representations import Keypoints, Observation, Plan, Step
    from hiervla.training.render_scenes import RenderedScene, Thing

AWAY_PX = 25.0
"""A made-up point is at least this far outside of everything that has the name [px]."""


def name_of(t: Thing) -> str:
    """What the planner calls a thing."""
    from hiervla.planner.embedded.slots import LOOSE

    return f"{t.colour} {t.category}" if t.category in LOOSE else t.category.replace("_", " ")


def made_up(plan: Plan, truth: RenderedScene, rng: np.random.Generator) -> Iterator[tuple[str, Step]]:
    """Hallucinated versions of a plan's first pick whose point is right: what kind it is, and the step."""
    for step in (plan.step(i) for i in plan.remaining):
        points = next((a for a in step.artifacts if a.kind == "keypoints"), None)
        named = [t for t in truth.things if name_of(t) == step.args.get("object")]
        if step.skill != "pick" or points is None or not named:
            continue
        height, width = truth.segments.shape
        free = [
            (u, v)
            for u, v in zip(rng.uniform(20, width - 20, 40), rng.uniform(70, height - 20, 40), strict=True)
            if all(_outside(t, u, v) > AWAY_PX for t in named)
        ]
        if free:
            yield "elsewhere", _pointed(step, points, *free[0])
        others = [t for t in truth.things if _loose(t) and all(_outside(n, t.u, t.v) > AWAY_PX for n in named)]
        if others:
            t = others[int(rng.integers(len(others)))]
            yield "another thing", _pointed(step, points, t.u, t.v)
        absent = _absent(truth, rng)
        yield "not there", step.replace(args={**step.args, "object": absent})
        image = points.image.replace(sha256="0" * 64)
        yield "another image", step.replace(artifacts=(points.replace(image=image),))
        return


def passes(planner: Planner, observation: Observation, step: Step) -> bool:
    """Whether the planner would let the arm act upon a step."""
    from hiervla.planner.base import GroundingError

    try:
        planner.ground(observation, step)
    except GroundingError:
        return False
    return True


def _pointed(step: Step, points: Keypoints, u: float, v: float) -> Step:
    moved = points.points[0].replace(u=float(u), v=float(v))
    return step.replace(artifacts=(points.replace(points=(moved,)),))


def _outside(t: Thing, u: float, v: float) -> float:
    a, b, c, d = t.box
    return max(a - u, u - c, b - v, v - d)


def _loose(t: Thing) -> bool:
    from hiervla.planner.embedded.slots import LOOSE

    return t.category in LOOSE


def _absent(truth: RenderedScene, rng: np.random.Generator) -> str:
    """The name of a thing that could be there and is not."""
    from hiervla.planner.embedded.slots import COLOURS

    there: set[Any] = {name_of(t) for t in truth.things}
    names = [f"{c} {k}" for c in COLOURS[1:] for k in ("block", "mug", "can", "sponge") if f"{c} {k}" not in there]
    return names[int(rng.integers(len(names)))]
