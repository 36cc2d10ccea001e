"""The planner from pixels: held-out scenes and held-out wordings, whole plans and every point that they name.

Each scene is built as a world and seen through its front camera; the planner gets that observation, the sentence and
the signatures of the skills, nothing else. Its plan is read back with the ground truth: every image slot that it
speaks of must be the one true thing of that category and colour at that place, and in symbols the steps must be
executable and reach the goal. A plan that is wrong is asked for again with true slots in place of the seen ones:
what becomes right then was a mistake of the eyes, the rest are mistakes of the language model.

Crowded scenes, with as many things as fit and look-alikes among them, are counted apart. From each right plan points
are made up that a model could have hallucinated, and shown to the guard.

    python -m benchmarks.planner --quick     # 81 scenes, and 18 crowded ones
    python -m benchmarks.planner --full      # 500 scenes, and 150 crowded ones
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import arguments, finish, rate
from benchmarks.hallucinations import made_up, name_of, passes

if TYPE_CHECKING:
    from hiervla.planner.embedded.planner import EmbeddedPlanner
    from hiervla.representations import Keypoints, Observation, Plan, SkillSignature
    from hiervla.training.point_targets import Question
    from hiervla.training.render_scenes import RenderedScene
    from hiervla.training.tasks import Task
    from hiervla.worlds.tabletop.scene import SceneSpec

FAMILIES = ("clear_table", "wipe", "shelf", "drawer", "stack", "swap", "rubbish", "multi", "refuse")
FIRST_SEED = 700_000
"""This range is used by this benchmark alone."""
SAME_PX = 8.0
"""A slot that is farther than this from every true thing of its name is none of them [px]."""
EDGE_PX = 1
"""A point this close to a mask is on it: rendering and segmentation may differ by a pixel at the edge."""
CROWDED_SEED = 50_000
"""Crowded scenes have seeds from here on."""
LEAST_PIXELS = 4
"""A thing that shows fewer pixels is hidden; one may well find what shows more, though it is hard below 25."""
MIDDLE = (4, 6)
"""Lengths of the plans that stand for "a plan of five steps" in the latency."""


@dataclass(frozen=True)
class Case:
    """One question with all that is needed to judge the answer; only `observation` and the sentence go in."""

    family: str
    seed: int
    task: Task
    observation: Observation
    truth: RenderedScene
    crowded: bool = False

    @property
    def things(self) -> int:
        """Loose things that can be seen."""
        return sum(t.colour != "none" for t in self.truth.things)


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        problem: what is wrong, "" when all is right.
        blame: "vision" or "language" when there is a problem.
        points: for each judged step, its kind ("pick", "place on", ...) and the problem or "".
        error_px: distances of keypoints from the middle of what they name [px].
        error_mm: the same in the world, in the plane, after lifting [mm].
        ungrounded: judged steps whose point could not be lifted.
        made_up: for each point that was made up, its kind and whether the guard let it pass.
    """

    case: Case
    answer: str
    problem: str
    steps: int
    wall_s: float
    cpu_s: float
    blame: str = ""
    points: list[tuple[str, str]] = field(default_factory=list)
    error_px: list[float] = field(default_factory=list)
    error_mm: list[float] = field(default_factory=list)
    ungrounded: list[str] = field(default_factory=list)
    made_up: list[tuple[str, bool]] = field(default_factory=list)


def make_case(family: str, seed: int, min_steps: int, crowded: bool = False) -> Case:
    """Draw a scene with a task, build the world, and take the picture."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    from hiervla.training.tasks.tabletop import sample_scene_for
    from hiervla.training.tasks.tasks import LONGEST_PLAN, MAX_PLAN
    from hiervla.worlds.tabletop.privileged import GroundTruth
    from hiervla.worlds.tabletop.world import TabletopWorld

    least, most = 0 if family == "refuse" else min_steps, LONGEST_PLAN if crowded else MAX_PLAN
    first = FIRST_SEED + (CROWDED_SEED if crowded else 0)
    scene, task = sample_scene_for(family, first + seed, "test", least, most, crowded=crowded)
    with TabletopWorld(scene) as world:
        observation = world.observe(["front"])
        segmentation = GroundTruth(world).segmentation("front")
    truth = _labelled(observation, scene, segmentation.ids, segmentation.names)
    return Case(family, seed, task, observation, truth, crowded)


def _labelled(observation: Observation, scene: SceneSpec, ids: np.ndarray, names: Sequence[str]) -> RenderedScene:
    """The true labels of the picture, in the form that the pointing head's targets are judged by."""
    from hiervla.training.render_scenes import FIXTURES, RenderedScene, Thing, fixture_point, project_points

    frame = observation.frame("front")
    segments = np.zeros(ids.shape, np.uint8)
    things = []
    hidden = {o.id for o in scene.objects if o.support == "bin"}
    loose = {o.id: o for o in scene.objects}
    for label, name in enumerate(names):
        rows, columns = np.nonzero(ids == label)
        known = name in FIXTURES or name in loose or (scene.spill is not None and name == scene.spill.id)
        if not known or name in hidden or len(rows) < LEAST_PIXELS:
            continue
        segments[rows, columns] = label + 1
        u, v = float(columns.mean() + 0.5), float(rows.mean() + 0.5)
        category, colour, state = name, "none", "none"
        if name in FIXTURES:
            u, v = project_points(frame.K, frame.T_world_camera, fixture_point(scene, name)).tolist()
            if name == "drawer":
                state = "open" if scene.drawer_open > 0.06 else "closed"
        elif name in loose:
            category, colour, state = loose[name].category, loose[name].colour, loose[name].support
            state = "on_object" if state in loose else state
        else:
            category, colour, state = "spill", "none", "table"
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        things.append(Thing(name, category, colour, state, u, v, box, len(rows), label + 1))
    return RenderedScene(frame.rgb, segments, tuple(things), scene, frame.K, frame.T_world_camera)


def true_ids(plan: Plan, truth: RenderedScene) -> list[str]:
    """For each slot of a plan's scene the id of the true thing that it is, or "" when it is none, or not clear."""
    points: Keypoints = next(a for a in plan.scene if a.kind == "keypoints")
    found = []
    for point in points.points:
        name = re.sub(r" \(.*\)$", "", point.label)
        near = [t.id for t in truth.things if name_of(t) == name and np.hypot(t.u - point.u, t.v - point.v) <= SAME_PX]
        found.append(near[0] if len(near) == 1 else "")
    return found


def plan_problem(case: Case, text: str, ids: Sequence[str]) -> str:
    """Why an answer is not right, or "": the right refusal, or an executable plan that reaches the goal."""
    from hiervla.planner.embedded.grammar import parse_answer
    from hiervla.representations.errors import PlanError
    from hiervla.training.tasks.examples import symbolic_steps
    from hiervla.training.tasks.goals import check_plan

    try:
        draft = parse_answer(text)
        reason = draft.refuse or ("" if draft.remaining else "nothing_to_do")
        declined = case.task.declined
        if declined is not None:
            said = f"{reason} {draft.missing}".strip() or "a plan"
            wanted = f"{declined.reason} {declined.missing}".strip()
            return "" if said == wanted else f"said {said}, not {wanted}"
        if reason:
            return f"refused: {reason} {draft.missing}".strip()
        steps = symbolic_steps([dict(s) for s in draft.remaining], ids)
    except (PlanError, ValueError) as error:
        return str(error)
    if any(not s.object or (s.skill == "place" and not s.target) for s in steps):
        return "speaks of a thing that is not there"
    assert case.task.goal is not None
    check = check_plan(case.task.scene, steps, case.task.goal)
    return "" if check.ok else f"{check.reason}: {check.message}"


def judge(planner: EmbeddedPlanner, skills: Sequence[SkillSignature], case: Case) -> Outcome:
    """Ask the planner and hold its answer against the truth."""
    from hiervla.planner.base import PlannerContext
    from hiervla.representations import Plan

    wall, cpu = time.perf_counter(), time.process_time()
    answer = planner.plan(case.observation, case.task.instruction, PlannerContext(skills=tuple(skills)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert answer.provenance is not None
    text = answer.provenance.raw_text or json.dumps({"refuse": answer.reason} if answer.kind == "refusal" else {})
    if not isinstance(answer, Plan):
        outcome = Outcome(case, text, plan_problem(case, text, []), 0, wall, cpu)
    else:
        ids = true_ids(answer, case.truth)
        outcome = Outcome(case, text, plan_problem(case, text, ids), len(answer.remaining), wall, cpu)
        _judge_points(planner, case, answer, ids, outcome)
        if not outcome.problem:
            rng = np.random.default_rng([0x6A11, case.seed])
            tried = made_up(answer, case.truth, rng)
            outcome.made_up = [(kind, passes(planner, case.observation, step)) for kind, step in tried]
    if outcome.problem:
        outcome.blame = "language" if _wrong_with_true_slots(planner, skills, case) else "vision"
    return outcome


def _wrong_with_true_slots(planner: EmbeddedPlanner, skills: Sequence[SkillSignature], case: Case) -> bool:
    from hiervla.planner.embedded.slots import one_hot_slots
    from hiervla.representations.errors import PlanError

    things = sorted(case.truth.things, key=lambda t: t.u)
    height, width = case.truth.segments.shape
    slots = one_hot_slots([(t.category, t.colour, t.state, t.u / width, t.v / height) for t in things])
    try:
        text = planner._decoder.answer(slots, case.task.instruction, [], skills).text
    except PlanError:
        return True
    return bool(plan_problem(case, text, [t.id for t in things]))


def _judge_points(planner: EmbeddedPlanner, case: Case, plan: Plan, ids: Sequence[str], outcome: Outcome) -> None:
    """Every keypoint that can be judged in the picture of now: nothing that it depends on is changed before."""
    from hiervla.planner.base import GroundingError
    from hiervla.planner.embedded.grammar import parse_answer
    from hiervla.training.tasks.examples import symbolic_steps

    assert plan.provenance is not None
    calls = parse_answer(plan.provenance.raw_text or "").remaining
    symbols = symbolic_steps([dict(c) for c in calls], ids)
    changed: set[str] = set()
    for step, symbol in zip(plan.steps, symbols, strict=True):
        kind = symbol.skill if symbol.skill != "place" else f"place {symbol.relation}"
        acts_at = {"place": symbol.target, "throw_away": "bin"}.get(symbol.skill, symbol.object)
        if acts_at not in changed:
            asked = _question(case, symbol.skill, symbol.relation, acts_at)
            points = [p for a in step.artifacts if a.kind == "keypoints" for p in a.points]
            if not acts_at:
                outcome.points.append((kind, "names a thing that is not there"))
            elif asked is not None and not points:
                outcome.points.append((kind, "has no point"))
            elif asked is not None:
                u, v = points[0].u, points[0].v
                outcome.points.append((kind, _point_problem(case.truth, asked, u, v, symbol.object)))
                middle = _middle(case.truth, asked)
                if middle is not None:
                    uv, xy = middle
                    outcome.error_px.append(float(np.hypot(u - uv[0], v - uv[1])))
                try:
                    lifted = planner.ground(case.observation, step)
                    at = next(p for a in lifted.artifacts if a.kind == "keypoints" for p in a.points).position_w
                    if middle is not None and at is not None:
                        outcome.error_mm.append(1e3 * float(np.hypot(at[0] - xy[0], at[1] - xy[1])))
                except GroundingError as error:
                    outcome.ungrounded.append(str(error))
        changed.add(symbol.object)
        changed.add(acts_at if symbol.skill in ("place", "open_drawer", "close_drawer") else symbol.object)


def _question(case: Case, skill: str, relation: str, acts_at: str) -> Question | None:
    """What the step points at, where that can be told now."""
    from hiervla.training.point_targets import Question, find_thing

    if skill == "place" and acts_at == "table":
        return Question("at", None)
    thing = find_thing(case.truth.things, acts_at)
    if thing is None:
        return None
    if skill == "throw_away":
        return Question("in", thing)
    if skill != "place":
        return Question("object", thing)
    covered = bool(case.truth.spec.carried_by(thing.id)) and thing.category in ("block", "plate", "bowl")
    if covered and relation in ("on", "in"):
        return None
    return None if thing.category == "drawer" and thing.state == "closed" else Question(relation, thing)


def _point_problem(truth: RenderedScene, asked: Question, u: float, v: float, carried: str) -> str:
    """What is wrong with a point; for places, what is in the hand by then is in nobody's way."""
    from dataclasses import replace

    from hiervla.training.point_targets import point_problem

    shifts = [(du, dv) for du in (0, -EDGE_PX, EDGE_PX) for dv in (0, -EDGE_PX, EDGE_PX)]
    masked = asked.role == "object" and asked.thing is not None and asked.thing.category != "drawer"
    problems = [point_problem(truth, asked, u + du, v + dv) for du, dv in (shifts if masked else shifts[:1])]
    if all(problems) and asked.role != "object":
        rest = truth.spec.replace(objects=tuple(o for o in truth.spec.objects if o.id != carried))
        problems.append(point_problem(replace(truth, spec=rest), asked, u, v))
    return problems[0] if all(problems) else ""


def _middle(truth: RenderedScene, asked: Question) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Middle of the thing that is pointed at, in the image [px] and on the table [m]; none for free spots."""
    from hiervla.training.render_scenes import FIXTURES, fixture_point

    t, spec = asked.thing, truth.spec
    if t is None or (asked.role != "object" and t.category != "bin"):
        return None
    if t.category in FIXTURES:
        x, y, _ = fixture_point(spec, t.id)
    elif t.category == "spill":
        assert spec.spill is not None
        x, y = spec.spill.centre
    else:
        x, y, _ = spec.object(t.id).position
    return (t.u, t.v), (x, y)


def _table(done: Sequence[Outcome]) -> None:
    print("\nplan correct (refuse: the right refusal, naming the right thing)")
    for family in FAMILIES:
        group = [o for o in done if o.case.family == family]
        print(f"  {family:12} {rate(sum(not o.problem for o in group), len(group))}")
    planned = [o for o in done if o.case.task.goal is not None]
    for low, high in ((0, 4), (5, 6), (7, 9), (10, 15)):
        group = [o for o in planned if low <= o.case.things <= high]
        if group:
            print(f"  {low}..{high} loose things in view: {rate(sum(not o.problem for o in group), len(group))}")
    for low, high in ((1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 8), (9, 12)):
        group = [o for o in planned if low <= len(o.case.task.plan()) <= high]
        if group:
            print(f"  expert's plan has {low}..{high} steps: {rate(sum(not o.problem for o in group), len(group))}")
    wrong = [o for o in done if o.problem]
    for blame, n in Counter(o.blame for o in wrong).most_common():
        print(f"  {n} of {len(wrong)} wrong answers: {blame}")
    for problem, n in Counter(f"{o.blame}: {_kind(o.problem)}" for o in wrong).most_common(12):
        print(f"  {n} x {problem}")
    print("\npoint hits by kind of step")
    hits: dict[str, list[str]] = defaultdict(list)
    for o in done:
        for kind, problem in o.points:
            hits[kind].append(problem)
    for kind, problems in sorted(hits.items()):
        print(f"  {kind:14} {rate(problems.count(''), len(problems))}")
    for problem, n in Counter(f"{k}: {_kind(p)}" for k, ps in hits.items() for p in ps if p).most_common(8):
        print(f"  {n} x {problem}")
    for problem, n in Counter(_kind(u.split(":", 1)[-1]) for o in done for u in o.ungrounded).most_common(5):
        print(f"  {n} points could not be lifted:{problem}")


def _right(group: Sequence[Outcome]) -> float:
    return sum(not o.problem for o in group) / max(len(group), 1)


def _kind(problem: str) -> str:
    """A problem without the names in it, so that the same ones count together."""
    return re.sub(r"\d+\.\d+", "#", re.sub(r"(_|\bo)\d+\b", "", problem))[:110]


def main() -> None:
    """Command line."""
    parser = arguments(__doc__)
    parser.add_argument("--scenes", type=int, help="number of scenes, instead of 81 (quick) or 500 (full)")
    parser.add_argument("--crowded", type=int, help="number of crowded scenes, instead of 18 (quick) or 150 (full)")
    parser.add_argument("--planner", type=Path, help="folder of a checkpoint; the one that ships by default")
    parser.add_argument("--min-steps", type=int, default=3, help="fewest steps of the expert's plan")
    parser.add_argument("--workers", type=int, default=2, help="processes that make scenes")
    parser.add_argument("--threads", type=int, default=1, help="torch threads while planning")
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers in full")
    args = parser.parse_args()
    count = args.scenes or (500 if args.full else 81)
    crowded = args.crowded if args.crowded is not None else (150 if args.full else 18)
    wanted = [(FAMILIES[k % len(FAMILIES)], k, args.min_steps, False) for k in range(count)]
    wanted += [(FAMILIES[k % len(FAMILIES)], k, args.min_steps, True) for k in range(crowded)]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        cases = list(pool.map(make_case, *zip(*wanted, strict=True), chunksize=4))
    print(f"{len(cases)} scenes are made; planning in one process", file=sys.stderr, flush=True)

    import torch

    from hiervla.planner.embedded.planner import EmbeddedPlanner
    from hiervla.skills import SkillLibrary

    torch.set_num_threads(args.threads)
    planner, skills = EmbeddedPlanner(args.planner), SkillLibrary.load().signatures()
    judge(planner, skills, cases[0])  # the first call loads and warms up what later calls share
    done = []
    for n, case in enumerate(cases):
        done.append(judge(planner, skills, case))
        if (n + 1) % 50 == 0:
            right = sum(not o.problem for o in done)
            print(f"{n + 1} planned, {right} right", file=sys.stderr, flush=True)
    for o in [o for o in done if o.problem][: args.show]:
        print(f"{o.case.family} {o.case.seed} [{o.blame}] {o.case.task.instruction!r}\n    {o.answer}\n    {o.problem}")
    crowd, done = [o for o in done if o.case.crowded], [o for o in done if not o.case.crowded]
    guarded = [m for o in [*done, *crowd] for m in o.made_up]
    if crowd:
        counts = [o.case.things for o in crowd]
        print(f"\n== crowded: {min(counts)} to {max(counts)} loose things in view")
        _table(crowd)
    print("\n== usual scenes" if crowd else "")
    _table(done)
    print("\npoints that were made up and passed the guard")
    for kind in dict.fromkeys(k for k, _ in guarded):
        of_kind = [passed for k, passed in guarded if k == kind]
        print(f"  {kind:14} {rate(sum(of_kind), len(of_kind))}")
    planned = [o for o in done if o.case.task.goal is not None]
    refused = [o for o in done if o.case.task.goal is None]
    points = [p for o in done for _, p in o.points]
    middle = [o for o in done if MIDDLE[0] <= o.steps <= MIDDLE[1]]
    wall = [o.wall_s for o in middle] or [float("nan")]
    five = [o.wall_s for o in done if o.steps == 5]
    errors_px, errors_mm = [e for o in done for e in o.error_px], [e for o in done for e in o.error_mm]
    print(f"\nplans         {rate(sum(not o.problem for o in planned), len(planned))}")
    print(f"refusals      {rate(sum(not o.problem for o in refused), len(refused))}")
    print(f"points        {rate(points.count(''), len(points))}")
    if errors_px and errors_mm:
        print(f"point error   median {median(errors_px):.1f} px, {median(errors_mm):.1f} mm after lifting")
    print(f"latency       of {len(middle)} plans of {MIDDLE[0]} to {MIDDLE[1]} steps, {args.threads} torch thread(s)")
    if five:
        print(f"              of {len(five)} plans of exactly 5 steps: median {median(five):.2f} s")
    finish(
        {
            "plan_correct": _right(planned),
            "point_hit": points.count("") / max(len(points), 1),
            "refusal_correct": _right(refused),
            "latency_p50_s": float(np.quantile(wall, 0.5)),
            "latency_p95_s": float(np.quantile(wall, 0.95)),
            "cpu_p50_s": median([o.cpu_s for o in middle] or [float("nan")]),
            "point_error_px": median(errors_px or [float("nan")]),
            "point_error_mm": median(errors_mm or [float("nan")]),
            "points": len(points),
            "points_not_lifted": sum(len(o.ungrounded) for o in done),
            "wrong_by_vision": sum(o.blame == "vision" for o in done),
            "wrong_by_language": sum(o.blame == "language" for o in done),
            "scenes": len(done),
            "hallucination_passed": sum(passed for _, passed in guarded) / max(len(guarded), 1),
            "hallucinations": len(guarded),
            "crowded_plan_correct": _right([o for o in crowd if o.case.task.goal is not None]),
            "crowded_refusal_correct": _right([o for o in crowd if o.case.task.goal is None]),
            "crowded_scenes": len(crowd),
        }
    )


if __name__ == "__main__":
    main()
