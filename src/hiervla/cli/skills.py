"""``skills``: what plans are made of, from whom it comes, whether it is well-formed, and a package to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hiervla.skills import Skill, SkillLibrary

skills_app = typer.Typer(help="The skills that plans are made of.", rich_markup_mode=None, no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name of a skill.", show_default=False)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Name of a skill; all by default.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(skills_app, name="skills")


@skills_app.command("list")
def skills_list(as_json: AsJson = False) -> int:
    """List the installed skills with their packages, and what is broken."""
    library = _library()
    if as_json:
        values = [{**s.signature.model_dump(mode="json"), **_about(library, s)} for s in library]
        print(json.dumps(values))
        return 0
    lines = [_line(library, s) for s in library]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(3)]
    for line in lines:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line[:3], widths, strict=True)), line[3], sep="  ")
    for broken in library.broken:
        print(f"broken: {broken}")
    return 0


@skills_app.command("show")
def skills_show(name: Name, as_json: AsJson = False) -> int:
    """Show a skill's parameters, contract and origin; with --json also the JSON Schema of a call."""
    from hiervla.skills.saved import ProgramSkill

    library = _library()
    skill = library.get(name)
    signature = skill.signature
    if as_json:
        values = {
            "signature": signature.model_dump(mode="json"),
            "call": signature.call_schema(),
            **_about(library, skill),
            "termination": str(skill.termination),
            "timeout_s": skill.timeout_s,
            "recovery": {**vars(skill.recovery), "after": list(skill.recovery.after)},
        }
        print(json.dumps(values, indent=2))
        return 0
    print(f"{signature.name}({', '.join(p.name for p in signature.params)})")
    print(f"  {signature.doc}")
    for param in signature.params:
        schema = param.argument_schema()
        facts = [schema["description"]] if "description" in schema else []
        facts += [f"one of {', '.join(param.choices)}"] if param.choices else []
        facts += [] if param.default is None else [f"{param.default} by default"]
        print(f"  {param.name}: {param.type}{'; ' if facts else ''}{'; '.join(facts)}")
    print(f"  accepts {', '.join(signature.accepts) or 'no artifacts'}")
    for label, names in (("arms", signature.resources.arms), ("cameras", signature.resources.cameras)):
        if names:
            print(f"  {label}: {', '.join(names)}")
    for label, conditions in (("before", signature.preconditions), ("after", signature.postconditions)):
        if conditions:
            print(f"  {label}: {', '.join(map(str, conditions))}")
    for verb in ("ready", "holds", "done"):
        print(f"  {verb}: {_says(skill, verb)}")
    print(f"  ends: {skill.termination}")
    print(f"  after failure: {_recovery(skill)}")
    print(f"  policy {skill.policy}; from {library.origin(name)}")
    if isinstance(skill, ProgramSkill):
        print(f"  saved from run {skill.file.saved_from.run_id}: {skill.file.saved_from.instruction}")
        print("\n".join(f"    {line}" for line in skill.source.splitlines()))
    return 0


@skills_app.command("check")
def skills_check(name: MaybeName = None, as_json: AsJson = False) -> int:
    """Check contracts without motion: signatures, verdicts, terminations, policies. Exit status 1 on findings."""
    from hiervla.executor.policies import unfit
    from hiervla.skills.lint import check_skill

    library = _library()
    skills = list(library) if name is None else [library.get(name)]
    findings = [finding for skill in skills for finding in check_skill(skill, unfit)]
    broken = library.broken if name is None else ()
    if as_json:
        values = [vars(f) for f in findings]
        values += [{"skill": b.point, "place": str(b.origin), "problem": b.error, "remedy": ""} for b in broken]
        print(json.dumps(values, indent=2))
        return 1 if findings or broken else 0
    for finding in findings:
        print(finding)
    for left_out in broken:
        print(f"broken: {left_out}")
    wrong = {f.skill for f in findings}
    print(f"{len(skills) - len(wrong)} of {len(skills)} skills without findings")
    return 1 if findings or broken else 0


@skills_app.command("test")
def skills_test(
    name: MaybeName = None,
    trials: Annotated[int, typer.Option(min=1, help="Scenes, each from a clean reset.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first scene.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Run a skill in the tabletop world through the agent's own loop, one step at a time, and count successes."""
    from hiervla.skills.saved import ProgramSkill
    from hiervla.training.skill_trials import TrialReport, trial_of, try_skill

    library = _library()
    steps = (s for s in library if not isinstance(s, ProgramSkill))
    skills = list(steps) if name is None else [library.get(name)]
    reports: list[TrialReport] = []
    for skill in skills:
        trial = trial_of(skill)
        reports.append(try_skill(library, skill, trial, trials, seed))
        if not as_json:
            print(reports[-1], flush=True)
    if as_json:
        print(json.dumps([r.to_json() for r in reports], indent=2))
    return 0 if all(r.successes == r.trials for r in reports) else 1


@skills_app.command("handoff")
def skills_handoff(
    first: Annotated[
        str | None, typer.Argument(metavar="[A]", help="The skill that comes first.", show_default=False)
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The skill that follows it.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every pair that occurs in the task families.")] = False,
    trials: Annotated[int, typer.Option(min=1, help="Scenes for each pair.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first scene.")] = 0,
    policy: Annotated[str, typer.Option(help="Policy, or a folder of weights.")] = "flow",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    states: Annotated[
        Path | None, typer.Option(help="Keep the moments where B failed, for `collect --from-states`.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run skill B from clean states and from where skill A really left the world, and print both rates and the gap."""
    from hiervla.cli.handing import pairs, run_handoffs

    return run_handoffs(
        pairs(first, second, every), trials, seed, policy=policy, workers=workers, states=states, as_json=as_json
    )


@skills_app.command("rates")
def skills_rates(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUNS...]", help="Run records, or folders of them, to count in.", show_default=False),
    ] = None,
    policy: Annotated[str, typer.Option(help="Policy, or a folder of weights.")] = "flow",
    as_json: AsJson = False,
) -> int:
    """Show measured success by skill, kind and place, which planning goes by; with RUNS, count those in first."""
    from hiervla.cli.handing import print_rates

    return print_rates(runs or [], policy, as_json=as_json)


@skills_app.command("new")
def skills_new(
    name: Annotated[str, typer.Argument(help="Name of the new skill.", show_default=False)],
    folder: Annotated[Path, typer.Option("--dir", help="Folder in which the package is made.")] = Path("."),
) -> int:
    """Make an installable package with one working skill and its test."""
    import shlex

    from hiervla.cli.scaffold import scaffold

    made = scaffold(name, folder)
    print(made)
    print(f"next: pip install -e {shlex.quote(str(made))} && hiervla skills list")
    return 0


@skills_app.command("save")
def skills_save(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Record of a run that succeeded.", show_default=False)],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Name of the skill.", show_default=False)],
    doc: Annotated[
        str, typer.Option(metavar="TEXT", help="What planners read; the run's instruction by default.")
    ] = "",
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WORDS",
            help="Words in what was done that become an argument: object='red mug'. May be given again.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--skills",
            metavar="DIR",
            help="Folder of saved skills; the first in HIERVLA_SKILLS, or ~/.hiervla/skills, by default.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Save what a run did as a skill, with its contract and its test; never over an older version."""
    from hiervla.executor.programs.saving import save_skill
    from hiervla.executor.record.reader import RunRecord
    from hiervla.skills.saved import load_saved, skill_folders

    words = dict(part.partition("=")[::2] for part in param or ())
    if not all(words.values()):
        raise typer.BadParameter("write it as NAME=WORDS, such as object='red mug'", param_hint="--param")
    path = save_skill(RunRecord.open(run), name, folder=folder, doc=doc, params=words)
    signature = load_saved(path).signature
    print(path)
    print(f"  {signature}")
    for label, conditions in (("before", signature.preconditions), ("after", signature.postconditions)):
        print(f"  {label}: {', '.join(map(str, conditions)) or 'nothing'}")
    if path.parents[1].resolve() not in {f.resolve() for f in skill_folders()}:
        print(f"next: set HIERVLA_SKILLS to {path.parents[1]}, so that it is found")
    return 0


@skills_app.command("stubs")
def skills_stubs() -> int:
    """Print what a program may call, as Python type stubs, for your editor and for `hiervla run --program`."""
    from hiervla.skills.programs import Vocabulary

    print(Vocabulary(_library().signatures()).stubs(), end="")
    return 0


def _library() -> SkillLibrary:
    from hiervla.skills import SkillLibrary

    return SkillLibrary.load()


def _about(library: SkillLibrary, skill: Skill) -> dict[str, Any]:
    origin = library.origin(skill.name)
    return {"package": origin.package, "package_version": origin.version, "from": origin.where, "policy": skill.policy}


def _line(library: SkillLibrary, skill: Skill) -> tuple[str, str, str, str]:
    origin = library.origin(skill.name)
    call = f"{skill.name}({', '.join(p.name for p in skill.signature.params)})"
    return call, f"{origin.package} {origin.version}".strip() or origin.where, skill.policy, skill.signature.doc


def _says(skill: Skill, verb: str) -> str:
    """A verb of the contract in words: its docstring, or the names of the checks that were given."""
    from hiervla.skills import FunctionSkill, Skill

    if isinstance(skill, FunctionSkill):
        return skill.describe(verb)
    method = getattr(type(skill), verb)
    if verb == "holds" and method is Skill.holds:
        return "nothing"
    return (method.__doc__ or "not described").strip().splitlines()[0].rstrip(".")


def _recovery(skill: Skill) -> str:
    recovery = skill.recovery
    parts = ["open the gripper"] if recovery.open_gripper else []
    parts += [f"draw back {recovery.retreat_m:g} m"] if recovery.retreat_m else []
    parts += [] if recovery.retries is None else [f"try again {recovery.retries} times at most"]
    return f"{', '.join(parts)} ({', '.join(recovery.after)})" if parts else "nothing of its own"
