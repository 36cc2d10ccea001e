"""Watch a run while it happens: every decision is a typed event. Watching never steers."""

from __future__ import annotations

import asyncio

from hiervla import Agent
from hiervla.representations import Event
from hiervla.representations.events import ChunkProposed, PlanProposed, StepFinished, VerdictGiven


def show(event: Event) -> None:
    """Print the events that a person cares about."""
    match event:
        case PlanProposed():
            remaining = [str(event.plan.step(i)) for i in event.plan.remaining]
            print(f"{event.time_s:6.2f} s  plan: {remaining}")
        case VerdictGiven() if event.phase != "during":
            print(f"{event.time_s:6.2f} s  {event.phase}? {event.verdict.value} ({event.verdict.name})")
        case ChunkProposed():
            late = f"{event.staleness_s:.2f} s old"
            print(f"{event.time_s:6.2f} s  chunk {event.index}, {late}, done {event.chunk.done_prob}")
        case StepFinished():
            print(f"{event.time_s:6.2f} s  {event.step_id}: {event.outcome}")
        case _:
            pass


async def main() -> None:
    """The async variant; cancelling the task stops the arm safely."""
    agent = Agent.from_preset("tabletop")
    result = await agent.arun("pick up the sponge, wipe the table and throw the sponge away", seed=1, on_event=show)
    print(result.message)


if __name__ == "__main__":
    asyncio.run(main())
