"""What the embedded planner asks back: which of several things, and which words it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from hiervla.executor.control import meant
from hiervla.planner.base import PlannerContext, Remembered
from hiervla.planner.embedded.asking import known_words, question, unclear, unknown_words
from hiervla.planner.embedded.grammar import PlanDraft, parse_answer
from hiervla.planner.embedded.interjections import amended
from hiervla.planner.embedded.planner import EmbeddedPlanner
from hiervla.planner.embedded.wording import refusal_message
from hiervla.representations import Plan, Refusal, SeenThing, Step
from hiervla.skills import SkillLibrary
from hiervla.training.tasks.examples import sample_example
from hiervla.worlds.tabletop.sampling import sample_scene
from hiervla.worlds.tabletop.world import TabletopWorld

SKILLS = SkillLibrary.load().signatures()


def thing(name: str, where: str = "table") -> SeenThing:
    return SeenThing(name=name, kind=name.rpartition(" ")[2], where=where)


BLOCKS = (thing("red block"), thing("blue block", "orange bowl"), thing("green block", "top shelf"), thing("red mug"))


def steps(thing: str, target: str = "") -> list[Step]:
    pick = Step(id="s1", skill="pick", args={"object": thing})
    place = Step(id="s2", skill="place", args={"object": thing, "relation": "on", "target": target})
    return [pick, place] if target else [pick]


@pytest.mark.parametrize(
    ("instruction", "plan", "words"),
    [
        ("pick up the block", steps("red block"), "the block"),
        ("Put the  CUBE on the plate", steps("red block", "plate"), "the cube"),
        ("put the block in the drawer and wipe", steps("blue block", "drawer"), "the block"),
    ],
)
def test_a_name_that_can_mean_several_things(instruction: str, plan: list[Step], words: str) -> None:
    found = unclear(instruction, BLOCKS, plan)
    assert found is not None and found.words == words
    assert found.candidates == ("the red block", "the blue block", "the green block")
    asked = "can be the red block, the blue block or the green block; which one do you mean?"
    assert str(found) == f'"{words}" {asked}'


def test_what_was_named_before_is_no_candidate() -> None:
    found = unclear("put the red block on the block", BLOCKS, steps("red block", "blue block"))
    assert found is not None and found.candidates == ("the blue block", "the green block")
    assert unclear("put the red block on the block", BLOCKS[:2], steps("red block", "blue block")) is None
    assert unclear("pick up the red block and put the block on the plate", BLOCKS, steps("red block", "plate")) is None


@pytest.mark.parametrize(
    "instruction",
    [
        "pick up the red block",
        "pick up the mug",
        "pick up a block",
        "pick up the block on the left",
        "pick up the block in the orange bowl",
        "pick up the cube on the upper board",
        "pick up the block that lies there",
        "put all the blocks away",
        "pick up any of the blocks",
        "clear the table",
    ],
)
def test_what_is_clear_is_not_asked(instruction: str) -> None:
    assert unclear(instruction, BLOCKS, steps("red block")) is None


def test_a_plan_for_several_of_them_is_no_guess() -> None:
    both = [*steps("red block"), *steps("blue block")]
    assert unclear("pick up the block", BLOCKS, both) is None and unclear("pick up the block", BLOCKS, []) is None


def test_the_training_tasks_which_name_one_thing_each_are_never_asked_about() -> None:
    rng = np.random.default_rng(5)
    asked = []
    for number in range(400):
        example = sample_example(rng, "test" if number % 2 else "train", middle=False)
        seen, draft = example.slots, parse_answer(example.answer)
        if draft.refuse is not None or example.part is not None:
            continue
        things = [thing(seen.name(i), seen.source(i)) for i in range(len(seen))]

        def word(value: str, names: list[str] = seen.names()) -> str:  # noqa: B008  bound for this turn of the loop
            return names[int(value[1:])] if value[1:].isdigit() else value

        calls = [
            Step(id=f"s{k}", skill=c["skill"], args={n: word(v) for n, v in c.items() if n != "skill"})
            for k, c in enumerate(draft.remaining)
        ]
        if unclear(example.text, things, calls) is not None:
            asked.append(example.text)
    assert asked == []


def test_words_that_would_be_passed_over_are_asked_about_with_what_would_be_done() -> None:
    known = frozenset("pick up put the red block on plate from table and a".split())

    def asked(text: str, plan: list[Step]) -> Refusal | None:
        named = [s.replace(text=f"{s.skill} {s.args['object']}") for s in plan]
        return question(text, BLOCKS, named, known, ())

    found = asked("gently frobnicate the red block", steps("red block"))
    assert found is not None and found.reason == "not_understood" and found.unknown == ("gently", "frobnicate")
    assert found.message == 'I do not know the words "gently" and "frobnicate"; do you mean "pick red block"?'
    assert found.candidates == ("pick red block",) and meant(found, "1") == "pick red block"
    carried = asked("frobnicate the red block on the plate", steps("red block", "plate"))
    assert carried is not None and carried.candidates == ("place red block",)
    assert asked("pick up the red block", steps("red block")) is None
    many = [s.replace(id=f"s{k}") for k in range(8) for s in steps("red block", "plate")]
    assert asked("frobnicate the red block", many) is None, "nobody reads eight steps to confirm them"
    ambiguous = asked("frobnicate the block", steps("red block"))
    assert ambiguous is not None and ambiguous.reason == "ambiguous", "one question at a time"


@pytest.mark.parametrize(
    ("instruction", "said", "wanted"),
    [
        ("put the block on the plate", "the blue block", "put the blue block on the plate"),
        ("put the red block on the block", "the blue block", "put the red block on the blue block"),
        ("put the cup on the block", "the blue block", "put the cup on the blue block"),
        ("put the red block on the blue plate", "no, the green block", "put the green block on the blue plate"),
    ],
)
def test_the_answer_takes_the_place_of_what_was_open(instruction: str, said: str, wanted: str) -> None:
    assert amended(instruction, [said]) == wanted


@pytest.fixture(scope="module")
def planner() -> EmbeddedPlanner:
    return EmbeddedPlanner()


def test_words_that_have_no_token_are_unknown(planner: EmbeddedPlanner) -> None:
    known = known_words(planner._decoder.tokenizer)
    assert unknown_words("please frobnicate the red mugs and the Gizmo's lid", known, SKILLS) == (
        "frobnicate",
        "gizmo's",
        "lid",
    )
    assert unknown_words("put the black cube onto the upper shelf, please", known, SKILLS) == ()
    assert unknown_words("throw away wipe sponge dishes", known, SKILLS) == ()


def test_a_refusal_names_the_unknown_words_and_how_to_say_it() -> None:
    seen = ["red mug", "bin"]
    no = PlanDraft(refuse="not_understood")
    assert refusal_message(no, seen, unknown=("gizmo",)) == (
        'I do not know the word "gizmo"; say it in other words, such as "put the red mug on the top shelf". '
        "I see a red mug."
    )
    cannot = refusal_message(PlanDraft(refuse="cannot_do"), seen, unknown=("a", "b"))
    assert cannot.startswith('I cannot do that, as far as I understand it: I do not know the words "a" and "b"; I can')
    # What adapters are trained on stays as it was.
    assert refusal_message(no, seen) == "I do not understand what to do with that; I see a red mug and a bin."


def test_the_shipped_planner_asks_where_somebody_can_answer_and_says_its_guess_where_nobody_can(
    planner: EmbeddedPlanner,
) -> None:
    wishes = [("block", c, "table") for c in ("red", "blue", "green")]
    scene = sample_scene(
        11, require=[*wishes, ("plate", "white", "table")], n_objects=4, spill=False, drawer_open=False, stacks=0
    )
    with TabletopWorld(scene) as world:
        observation = world.observe(["front"])
    quiet, asking = PlannerContext(skills=SKILLS), PlannerContext(skills=SKILLS, may_ask=True)
    guess = planner.plan(observation, "put the block on the plate", quiet)
    assert isinstance(guess, Plan) and guess.provenance is not None
    assert '"the block" can be' in str(guess.provenance.sampling["guessed"])
    asked = planner.plan(observation, "put the block on the plate", asking)
    assert isinstance(asked, Refusal) and asked.reason == "ambiguous" and not asked.judged
    assert asked.words == "the block" and set(asked.candidates) == {f"the {c} block" for c in ("red", "blue", "green")}
    told = PlannerContext(skills=SKILLS, may_ask=True, said=("the green block",))
    plan = planner.plan(observation, "put the block on the plate", told)
    assert isinstance(plan, Plan) and plan.steps[0].args["object"] == "green block"
    # A thing in the closed drawer is one slot more than what is seen.
    hidden = PlannerContext(skills=SKILLS, may_ask=True, unseen=(Remembered("purple block", "drawer", 1.0),))
    drawer = planner.plan(observation, "put the purple block on the plate", hidden)
    assert isinstance(drawer, Plan) and [s.skill for s in drawer.steps][:2] == ["open_drawer", "pick"]
    doubtful = planner.plan(observation, "fetch me the green block wuzzlewise", asking)
    assert isinstance(doubtful, Refusal) and doubtful.reason == "not_understood" and "wuzzlewise" in doubtful.unknown
    no = planner.plan(observation, "flombify wuzzle", quiet)
    assert isinstance(no, Refusal) and no.reason == "not_understood" and no.unknown == ("flombify", "wuzzle")
    assert no.can_be_said_otherwise and 'the words "flombify" and "wuzzle"' in no.message
