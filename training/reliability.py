"""Measured rates from hand-off tests: by skill, kind of thing and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hiervla.executor.agent import policies
from hiervla.executor.choosing import weights_of
from hiervla.skills import SkillLibrary
from hiervla.skills.reliability import Rate, Reliability, digest_of
from hiervla.training.experts.tasks import pick_task
from hiervla.training.handoffs import HandoffReport, Tried, single
from hiervla.worlds.tabletop.sampling import Request, SceneRequestError, sample_scene
from hiervla.worlds.tabletop.specs import SceneSpec

Counts = dict[tuple[str, str, str], tuple[int, int]]
"""(skill, kind, where) to successes and trials."""


def rates_of(reports: Iterable[HandoffReport]) -> Counts:
    """What the tests tell of each skill, from clean states and after another skill together."""
    won: Counter[tuple[str, str, str]] = Counter()
    tried: Counter[tuple[str, str, str]] = Counter()
    for report in reports:
        for key, success in report.tried:
            tried[key] += 1
            won[key] += success
    return {key: (won[key], n) for key, n in tried.items()}


def write_rates(counts: Counts, path: Path, *, policy: str = "flow") -> Reliability:
    """Count trials into a file of rates, and drop what in it belongs to other skills or weights.

    Args:
        counts: what was measured.
        path: the file; it need not exist.
        policy: what ran the skills: a name, or a folder of weights.

    Raises:
        ReliabilityError: the file is damaged, or cannot be written.
    """
    library, weights = SkillLibrary.load(), weights_of(policy, policies(policy))
    digests = {s.name: digest_of(s, weights(s.policy)) for s in library if s.policy == "flow"}
    old = Reliability.read(path)
    kept = tuple(r for r in old.rates if digests.get(r.skill) == r.digest)
    fresh = [
        Rate(skill=skill, kind=kind, where=where, digest=digests[skill], successes=won, trials=n)
        for (skill, kind, where), (won, n) in counts.items()
        if skill in digests
    ]
    result = Reliability(rates=kept).plus(fresh)
    result.write(path)
    return result


PLACES = ("table", "top_shelf", "bottom_shelf", "drawer", "on_object")
"""Places that picks are measured from."""
_CARRIER = {"block": "bowl", "mug": "plate", "can": "plate", "sponge": "plate"}


def measure_picks(
    kinds: Sequence[str], places: Sequence[str], trials: int, *, policy: str = "flow", first_seed: int = 0
) -> Counts:
    """How often things of some kinds are picked up from some places, each trial in a scene of its own.

    Args:
        kinds: kinds of thing.
        places: some of :data:`PLACES`; a kind that does not go there is left out.
        trials: scenes for each.
        policy: a name, or a folder of weights.
        first_seed: of the scenes.
    """
    counts: Counts = {}
    for kind in kinds:
        for place in places:
            tried = [_pick(kind, place, seed, policy) for seed in range(first_seed, first_seed + trials)]
            known = [t for t in tried if t is not None]
            if known:
                counts["pick", kind, place] = (sum(not t.wrong for t in known), len(known))
    return counts


def measured_pick(kind: str, place: str, seed: int, *, training: bool = False) -> tuple[SceneSpec, str] | None:
    """A scene for a pick from a place, and the thing that is meant; None where it cannot be there.

    Args:
        kind: kind of the thing.
        place: one of :data:`PLACES`.
        seed: of the scene.
        training: take it from the scenes to learn in, which measuring never draws.
    """
    carried = place == "on_object"
    need: list[Request] = [(_CARRIER[kind], None, "table"), (kind, None, "#0")] if carried else [(kind, None, place)]  # type: ignore[list-item]  # the sampler's categories
    try:
        scene = sample_scene(
            60_000_000 + 2 * seed + (not training), n_objects=(3, 6), require=need, stacks=0, spill=False,
            drawer_open=place == "drawer",
        )  # fmt: skip
    except SceneRequestError:
        return None
    return scene, scene.objects[len(need) - 1].id


def _pick(kind: str, place: str, seed: int, policy: str) -> Tried | None:
    """One pick; None where the thing cannot be there or is not seen."""
    found = measured_pick(kind, place, seed)
    if found is None:
        return None
    scene, name = found
    return single(scene, lambda arena, rng: pick_task(arena.truth, arena.world, arena.state(), name, rng), seed, policy)


__all__ = ["PLACES", "Counts", "measure_picks", "measured_pick", "rates_of", "write_rates"]
