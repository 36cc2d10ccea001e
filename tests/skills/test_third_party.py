"""A stranger's package, installed by pip: listed, planned, checked, run. And strangers who clash or break."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.skills import packages

USE = """
import json
import numpy as np
from hiervla.executor.policies import make_policy, names
from hiervla.executor.testing import run_skill
from hiervla.planner.embedded.grammar import PlanGrammar, grammar_tokenizer, parse_answer, plan_json, plan_schema
from hiervla.planner.embedded.slots import one_hot_slots
from hiervla.planner.embedded.wording import conditions
from hiervla.representations import PlanError
from hiervla.skills import SkillLibrary
from hiervla.planner.embedded.tokenizer import train_tokenizer

library = SkillLibrary.load()
room = one_hot_slots([("mug", "red", "table", 0.4, 0.5), ("block", "blue", "table", 0.5, 0.6)])


def emitted(text):
    words = train_tokenizer([" push blue block from table ok"] * 3)
    grammar = PlanGrammar(grammar_tokenizer(words), plan_schema(library.signatures(), room))
    try:
        for token in words.backend_tokenizer.encode(text).ids:
            grammar.accept(token)
    except PlanError:
        return False
    return grammar.finished


def push(thing, how_far):
    return plan_json([], [{"skill": "push", "object": thing, "distance_m": how_far}])


def outcome(name, **args):
    result, events, world = run_skill(library.get(name), (0.5, 0.05, 0.05), **args)
    x = max(float(p[0]) for e in events if e.type == "chunk" for p in e.chunk.positions)
    low = min(float(p[2]) for e in events if e.type == "chunk" for p in e.chunk.positions)
    policies = sorted({e.chunk.policy for e in events if e.type == "chunk"})
    return [result.outcome, result.message, policies, round(x, 3), round(low, 3), len(world.commands)]


post = conditions("push", {"object": "blue block"}, library.get("push").signature)[1]
print(json.dumps({
    "broken": [str(b) for b in library.broken],
    "emitted": [emitted(push("o1", "0.06")), emitted(push("o0", "0.06")), emitted(push("o1", "far"))],
    "parsed": parse_answer(push("o1", "0.06")).remaining[0]["skill"],
    "postconditions": [str(c) for c in post],
    "policies": list(names()),
    "policy": make_policy("straight-down", above_m=0.05).id,
    "push": outcome("push", object="blue block", distance_m="0.1"),
    "poke": outcome("poke", object="blue block"),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.install(packages.PUSH, tmp_path_factory.mktemp("site"))


def test_it_is_listed_shown_and_checked(site: Path) -> None:
    commands = ("skills list", "skills show push --json", "skills show push", "skills check", "skills show psh")
    listed, shown, told, checked, missed = packages.hiervla(*commands, sites=(site,))
    assert (listed[0], listed[2]) == (0, "")
    lines = {line.split("(")[0]: line for line in listed[1].splitlines()}
    assert lines["push"].split("  ")[0] == "push(object, distance_m)"
    assert "hiervla-push 0.3.0" in lines["push"] and "own:push" in lines["push"]
    assert "straight-down" in lines["poke"]
    assert "hiervla 0.1" in lines["pick"]
    values = json.loads(shown[1])
    assert values["package"] == "hiervla-push"
    assert values["call"]["required"] == ["object"]
    assert values["call"]["properties"]["distance_m"]["default"] == "0.06"
    assert values["recovery"]["retreat_m"] == 0.08
    assert values["signature"]["resources"] == {"arms": [], "cameras": ["front"]}
    for line in (
        "  distance_m: number; how far; from 0.03 to 0.12 m; 0.06 by default",
        "  before: hand_empty()",
        "  after: pushed({object})",
        "  ready: as hiervla_push:<lambda> says",
        "  holds: nothing",
        "  ends: any(done_head(0.5, from 0.6 s), timer(10 s))",
        "  after failure: draw back 0.08 m, try again 1 times at most (failed, timed_out, lost_object, gave_up)",
        "  policy own:push; from hiervla-push 0.3.0 (hiervla_push:push)",
    ):
        assert line in told[1].splitlines()
    assert checked == (0, "8 of 8 skills without findings\n", "")
    assert missed[0] == 2
    assert "unknown skill 'psh'. Did you mean 'push'?" in missed[2]


def test_it_is_planned_and_run(site: Path) -> None:
    done = packages.python("-c", USE, sites=(site,))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["broken"] == []
    assert said["emitted"] == [True, False, False], "a mug cannot be pushed, and 'far' is no number"
    assert said["parsed"] == "push"
    assert said["postconditions"] == ["pushed(blue block)"]
    assert (said["policies"], said["policy"]) == (
        ["act", "diffusion", "fast", "flow", "follow", "straight-down", "tokens"],
        "straight-down-1",
    )
    outcome, message, policies, far, low, commands = said["push"]
    assert (outcome, policies) == ("succeeded", ["push"]), message
    assert far == pytest.approx(0.5 - 0.03 + 0.1)
    assert low == pytest.approx(0.03)
    assert commands > 100
    outcome, message, policies, _, low, _ = said["poke"]
    assert (outcome, policies) == ("succeeded", ["straight-down-1"]), message
    assert low == pytest.approx(0.07, abs=0.005)


# Strangers who clash or break.

THIEF = """
from hiervla.skills import skill
@skill
def push(context):
    "Push things off the table."
    return []
@skill
def tap(context):
    "Tap the table."
    return []
def register(library):
    library.register(push)
    library.register(tap)
"""


BAD = {
    "bad-import": ("import numpy.no_such_thing", "ModuleNotFoundError: No module named 'numpy.no_such_thing'"),
    "bad-exit": ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    "bad-driver": ("def register(library):\n    raise OSError('no driver')", "OSError: no driver"),
    "bad-seven": ("register = 7", "NotASkillError: 7 is no skill. Let the entry point name a Skill, or a function"),
    "bad-entry": ("def register(library):\n    library.register(7)", "NotASkillError: 7 is no skill. Register an"),
    "bad-class": ("register = object", "NotASkillError: <class 'object'> is no skill."),
    "bad-name": ("def other(): pass", "AttributeError: module 'bad_name' has no attribute 'register'"),
}


def test_clashes_and_broken_packages_are_told_once_and_everything_else_works(site: Path, tmp_path: Path) -> None:
    packages.write(tmp_path, "zz-thief", THIEF, {"hiervla.skills": {"thief": "zz_thief:register"}}, "2.1")
    pick = THIEF.replace("def push", "def pick").replace("(push)", "(pick)").replace("tap", "knock")
    packages.write(tmp_path, "aa-thief", pick, {"hiervla.skills": {"builtin": "aa_thief:register"}})
    for name, (module, _) in BAD.items():
        packages.write(tmp_path, name, module, {"hiervla.skills": {"mine": f"{name.replace('-', '_')}:register"}})
    code = "import sys; from hiervla.cli import main; main(['skills', 'list']); sys.exit(main(['skills', 'check']))"
    done = packages.python("-c", code, sites=(site, tmp_path))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    broken = {line.partition(" of ")[2].split()[0]: line for line in lines if line.startswith("broken: ")}
    for name, (_, error) in BAD.items():
        where = f"{name} 1.0 ({name.replace('-', '_')}:register)"
        assert broken[name].startswith(f"broken: 'mine' of {where} was left out: {error}")
        assert sum(f"'mine' of {name} " in line for line in done.stderr.splitlines()) == 1, "two libraries, one warning"
    assert broken["zz-thief"] == (
        "broken: 'thief' of zz-thief 2.1 (zz_thief:register) was left out: skill 'push' of 'zz-thief 2.1 "
        "(zz_thief:register)' is already registered by 'hiervla-push 0.3.0 (hiervla_push:push)'. "
        "Rename one of them, or uninstall one."
    )
    assert (
        "skill 'pick' of 'aa-thief 1.0 (aa_thief:register)' is already registered by 'hiervla 0" in broken["aa-thief"]
    )
    listed = {line.split("(")[0]: line for line in lines if not line.startswith("broken")}
    assert "hiervla-push 0.3.0" in listed["push"]
    assert "hiervla 0.1" in listed["pick"], "an entry point called 'builtin' takes nothing from the built-in skills"
    assert {"tap", "knock"} <= set(listed), "what does not clash of a package is there"


POLICIES = """
import json, sys
from hiervla.executor.policies import make_policy, names, register, unfit
from hiervla.executor.testing import LinePolicy
from hiervla.representations import HiervlaError

def ask(name):
    try:
        return type(make_policy(name)).__name__
    except HiervlaError as error:
        return str(error)

register("ours", LinePolicy)
first, second = sys.argv[1:]
said = {}
sys.path.insert(0, first)
said["first"] = [ask("glide"), ask("ours"), unfit("ours", "wave"), unfit("flow", "wave"), unfit("flow", "pick")]
sys.path.insert(0, second)
said["both"] = [ask("glide"), ask("glid"), list(names()), unfit("glide", "wave"), unfit("glid", "wave")]
sys.path.remove(first)
said["second"] = [ask("glide"), unfit("glide", "wave")]
print(json.dumps(said))
"""


def test_policies_are_refused_suggested_and_reported_in_the_same_manner(tmp_path: Path) -> None:
    for name, module in (("first-one", "def make():\n    return 3"), ("second-one", "import no_such_engine")):
        where = f"{name.replace('-', '_')}:make"
        packages.write(tmp_path / name, name, module, {"hiervla.policies": {"glide": where, "ours": where}})
    done = packages.python("-c", POLICIES, str(tmp_path / "first-one"), str(tmp_path / "second-one"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["first"][:2] == [
        "policy 'glide' of first-one 1.0 (first_one:make): its factory gave 3. A policy has id, reset and act.",
        "LinePolicy",
    ], "what is registered in the process cannot be taken over by a package"
    assert said["first"][2] is None
    assert said["first"][3][0].startswith("the built-in policy 'flow' knows pick, place,")
    assert said["first"][4] is None
    clash = (
        "policy 'glide' is offered by first-one 1.0 (first_one:make) and by second-one 1.0 (second_one:make). "
        "Uninstall one, or have it renamed."
    )
    assert said["both"][:3] == [
        clash,
        "unknown policy 'glid'. Did you mean 'glide'? Known: act, diffusion, fast, flow, follow, glide, ours, tokens.",
        ["act", "diffusion", "fast", "flow", "follow", "glide", "ours", "tokens"],
    ]
    assert ". ".join(said["both"][3]) + "." == clash
    assert said["both"][4][1].startswith("Did you mean 'glide'?")
    broken = (
        "policy 'glide' of second-one 1.0 (second_one:make): its package cannot be imported "
        "(ModuleNotFoundError: No module named 'no_such_engine'). Repair or uninstall that package."
    )
    assert said["second"][0] == broken
    assert ". ".join(said["second"][1]) + "." == broken
