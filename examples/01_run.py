"""Run one task and look at what came of it."""

from __future__ import annotations

from hiervla import Agent


def main() -> None:
    """From a sentence to motion, with a record."""
    agent = Agent.from_preset("tabletop")
    result = agent.run("put the red mug on the top shelf", seed=3, record="runs")
    print(result.outcome, "-", result.message)
    for attempt in result.steps:
        print(f"  {attempt.step}: {attempt.outcome}")
    print(f"look closer with: hiervla inspect {result.record}")


if __name__ == "__main__":
    main()
