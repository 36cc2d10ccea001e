"""One sentence in, robot motion out: the whole line in a few lines of Python.

Run it: python examples/01_run_a_task.py "put the red mug on the top shelf"
"""

from __future__ import annotations

import sys

from hiervla import Agent, Event


def show(event: Event) -> None:
    """Prints each event as it is written to the run record."""
    print(f"{event.time_s:7.2f} s  {event.type}")


def main() -> None:
    """Runs the instruction in the tabletop world and says how it went."""
    instruction = " ".join(sys.argv[1:]) or "put the red mug on the top shelf"
    result = Agent.from_preset("tabletop").run(instruction, seed=7, record="runs", on_event=show)
    print(result.outcome, result.message)
    print("Look at it with: hiervla inspect", result.record)


if __name__ == "__main__":
    main()
