"""The more reliable of two look-alikes, where the words leave it open and the rates differ for certain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hiervla.executor.choosing import CHOSEN, ReliablePlanner, known_rates, weights_folder, weights_of
from hiervla.executor.policies.families import shipped
from hiervla.executor.testing import KinematicWorld, ScriptedPlanner
from hiervla.planner.base import PlannerContext
from hiervla.representations import ImageRef, Keypoint, Keypoints, Plan, Refusal, Step
from hiervla.skills import SkillLibrary
from hiervla.skills.reliability import FILE, Rate, Reliability, digest_of

IMAGE = ImageRef(camera="front", sha256="0" * 64, width=256, height=192, time_s=0.0)
LIBRARY = SkillLibrary.load()
DIGEST = digest_of(LIBRARY.get("pick"), "weights")


def rates(table: tuple[int, int] = (40, 40), drawer: tuple[int, int] = (16, 40), digest: str = DIGEST) -> Reliability:
    measured = {"table": table, "drawer": drawer}
    return Reliability().plus(
        Rate(skill="pick", kind="block", where=w, digest=digest, successes=s, trials=n)
        for w, (s, n) in measured.items()
    )


def points(*labelled: tuple[str, float]) -> Keypoints:
    return Keypoints(image=IMAGE, points=tuple(Keypoint(label=label, u=u, v=90.0) for label, u in labelled))


def plan(at: float = 200.0, *, picks: int = 1) -> Plan:
    steps = tuple(
        Step(
            id=f"s{k + 1}", skill="pick", args={"object": "red block", "source": "drawer"},
            text="pick up the red block from the drawer", artifacts=(points(("red block", at)),),
        )
        for k in range(picks)
    )  # fmt: skip
    scene = points(("red block (table)", 80.0), ("red block (drawer)", 200.0), ("red mug (table)", 20.0))
    return Plan(goal="g", steps=steps, remaining=tuple(s.id for s in steps), scene=(scene,))


def chosen(instruction: str, known: Reliability, given: Plan | None = None) -> tuple[Step, str | None]:
    planner = ReliablePlanner(ScriptedPlanner([given or plan()]), known, LIBRARY, lambda name: "weights")
    answer = planner.plan(KinematicWorld().observe(), instruction, PlannerContext())
    assert isinstance(answer, Plan)
    told = None if answer.provenance is None else answer.provenance.sampling.get(CHOSEN)
    return answer.steps[0], None if told is None else str(told)


def where(step: Step) -> float:
    (pointed,) = step.artifacts
    assert isinstance(pointed, Keypoints)
    return pointed.points[0].u


def test_the_one_that_is_picked_up_more_often_is_chosen_and_the_plan_says_why() -> None:
    step, why = chosen("put the red block on the plate", rates())
    assert where(step) == 80.0
    assert step.args["source"] == "table"
    assert step.text == "pick up the red block from the table"
    assert why == "the red block at 'table' (40 of 40 picks worked) and not at 'drawer' (16 of 40)"


@pytest.mark.parametrize(
    ("instruction", "known", "given"),
    [
        ("put the red block from the drawer on the plate", rates(), None),
        ("put the leftmost red block on the plate", rates(), None),
        ("put all red blocks on the shelf", rates(), None),
        ("put the red block on the plate", rates(drawer=(5, 6), table=(6, 6)), None),
        ("put the red block on the plate", rates(digest="of other weights"), None),
        ("put the red block on the plate", Reliability(), None),
        ("put the red block on the plate", rates(), plan(80.0)),
        ("put the red block on the plate", rates(), plan(picks=2)),
    ],
    ids=["the words name the place", "the words name a side", "all are meant", "the rates may be equal",
         "measured with other weights", "nothing measured", "it is the better one already", "both are picked"],
)  # fmt: skip
def test_everything_else_is_left_as_planned(instruction: str, known: Reliability, given: Plan | None) -> None:
    before = (given or plan()).steps[0]
    step, why = chosen(instruction, known, given)
    assert step == before
    assert why is None


def test_what_a_person_said_since_counts_as_words() -> None:
    planner = ReliablePlanner(ScriptedPlanner([plan()]), rates(), LIBRARY, lambda name: "weights")
    said = PlannerContext(said=("no, the one in the drawer",))
    answer = planner.plan(KinematicWorld().observe(), "put the red block on the plate", said)
    assert isinstance(answer, Plan)
    assert where(answer.steps[0]) == 200.0


def test_everything_else_of_the_planner_shines_through() -> None:
    class Inner(ScriptedPlanner):
        looks_over = True

    no = Refusal(reason="not_in_scene", message="there is none")
    planner = ReliablePlanner(Inner([no]), rates(), LIBRARY, lambda name: "weights")
    observation = KinematicWorld().observe()
    assert (planner.id, planner.looks_over) == ("scripted", True)
    assert planner.plan(observation, "x", PlannerContext()) == no
    assert planner.refresh(observation, plan(), PlannerContext()) == plan()
    assert planner.ground(observation, plan().steps[0]) == plan().steps[0]
    other: Any = ReliablePlanner(ScriptedPlanner([no]), rates(), LIBRARY, lambda name: "weights")
    assert other.looks_over is False


def test_rates_come_with_the_weights_and_from_the_users_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERVLA_RELIABILITY", str(tmp_path / "own.json"))
    rates(table=(3, 4)).write(tmp_path / FILE)
    rates(table=(1, 1)).write(tmp_path / "own.json")
    together = known_rates(tmp_path).rate("pick", "block", "table", DIGEST)
    assert together is not None
    assert (together.successes, together.trials) == (4, 5)
    assert known_rates(None) == Reliability.read(tmp_path / "own.json")


def test_versions_are_told_by_the_weights_themselves(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = weights_of(str(tmp_path), lambda name: ScriptedPlanner([]))("flow")  # type: ignore[arg-type,return-value]
    (tmp_path / "model.safetensors").write_bytes(b"two")
    second = weights_of(str(tmp_path), lambda name: ScriptedPlanner([]))("flow")  # type: ignore[arg-type,return-value]
    assert len({first, second}) == 2
    assert weights_of("mine", lambda name: ScriptedPlanner([]))("mine") == "scripted"  # type: ignore[arg-type,return-value]


def test_every_shipped_family_is_known_by_its_folder(tmp_path: Path) -> None:
    assert {"flow", "act", "diffusion"} <= set(shipped())
    versions = set()
    for family in shipped():
        folder = weights_folder(family)
        assert folder is not None and folder.name == family
        assert json.loads((folder / "config.json").read_text()).get("family", "flow") == family
        versions.add(weights_of("flow", lambda name: pytest.fail("nothing has to be loaded"))(family))
    assert len(versions) == len(shipped())
    assert weights_folder(str(tmp_path)) == tmp_path and weights_folder("openpi:ws://127.0.0.1:8000") is None


def test_recorded_runs_are_counted_once(tmp_path: Path) -> None:
    """The attempts of a record, by the words of its plan; what the skill never got to is left out."""
    from hiervla.executor.agent import Agent
    from hiervla.executor.config import LoopConfig
    from hiervla.executor.presets import world_preset
    from hiervla.executor.rates import count_runs
    from hiervla.executor.testing import LinePolicy, step_at

    near = step_at("s1", "pick", (0.5, 0.05, 0.02), object="red block", source="drawer")
    far = step_at("s2", "pick", (1.6, 0.0, 0.02), object="red block", source="white plate")
    given = Plan(goal="g", steps=(near, far), remaining=("s1", "s2"))
    policy = LinePolicy()
    agent = Agent(
        world_preset("tabletop"), ScriptedPlanner([given]), lambda name: policy, skills=LIBRARY,
        config=LoopConfig(max_retries=1, repeats=1, max_steps=3, screen=False),
    )  # fmt: skip
    result = agent.run("pick it", world=KinematicWorld(), record=tmp_path)
    assert [r.outcome for r in result.steps] == ["failed", "failed"], "there is nothing to grasp"
    assert result.record is not None
    known = count_runs([result.record], Reliability(), LIBRARY, lambda name: "weights", lambda name: "line")
    counted = known.rate("pick", "block", "drawer", DIGEST)
    assert counted is not None
    assert (counted.successes, counted.trials, len(known.rates)) == (0, 2, 1)
    again = count_runs([result.record], known, LIBRARY, lambda name: "weights", lambda name: "line")
    assert again == known
    other = count_runs([result.record], Reliability(), LIBRARY, lambda name: "weights", lambda name: "another")
    assert other.rates == ()


def test_situations_are_read_from_the_words_of_a_plan() -> None:
    from hiervla.executor.rates import situation

    def of(skill: str, **args: str) -> tuple[str, str]:
        return situation(Step(id="s", skill=skill, args=args))

    assert of("pick", object="red block", source="top shelf") == ("block", "top_shelf")
    assert of("pick", object="red block", source="white plate") == ("block", "on_object")
    assert of("place", object="red mug", relation="on", target="white plate") == ("mug", "plate")
    assert of("place", object="red mug", relation="on", target="top shelf") == ("mug", "top_shelf")
    assert of("throw_away", object="red can") == ("can", "bin")
    assert of("wipe", surface="spill") == ("spill", "")
    assert of("open_drawer", drawer="drawer") == ("drawer", "")


def test_rates_are_printed_from_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hiervla.cli import main

    monkeypatch.setenv("HIERVLA_RELIABILITY", str(tmp_path / "own.json"))
    rates(digest="of other weights").write(tmp_path / "own.json")
    assert main(["skills", "rates"]) == 0
    told = capsys.readouterr().out
    assert "2 more were measured with other skills or weights, and count for nothing" in told
    assert str(tmp_path / "own.json") in told
    assert main(["skills", "rates", str(tmp_path)]) != 0
    assert "it is no run record and holds none" in " ".join(capsys.readouterr().err.split())
