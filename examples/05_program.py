"""A program over the skills, run in the embedded world, and saved as a skill of its own.

    python examples/05_program.py

Its calls are steps of the run: `hiervla inspect RUN` shows the text with what became of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hiervla import Agent
from hiervla.executor.programs.saving import save_skill
from hiervla.executor.record.reader import RunRecord
from hiervla.skills.programs import ProgramError

PROGRAM = """\
# throw every can on the table away
for name in things("can", on="table"):
    grasped = pick(name)
    if grasped.succeeded:
        throw_away(name)
    else:
        print(f"{name}: {grasped.outcome}")
if count("can", on="table") > 0:
    give_up("a can is still on the table")
"""


def main() -> int:
    """Run it, and keep what worked."""
    agent = Agent.from_preset("tabletop")
    try:
        agent.run(program=PROGRAM.replace("pick(name)", "pick(3)"))
    except ProgramError as error:
        print(f"found before anything moves: {error}\n")
    result = agent.run(program=PROGRAM, seed=3, record="runs")
    print(f"{result.outcome}: {result.message}")
    for step in result.steps:
        print(f"  {step.step}: {step.outcome}")
    if not result.succeeded or result.record is None:
        return 1
    path = save_skill(RunRecord.open(result.record), "throw_cans_away", folder=Path("runs") / "skills")
    print(f"saved as a skill: {path}")
    print(f"use it: HIERVLA_SKILLS={path.parents[1]} hiervla skills show throw_cans_away")
    return 0


if __name__ == "__main__":
    sys.exit(main())
