"""The card of a generation: what it is of, from what it came, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hiervla.executor.policies.chunks import read_config
from hiervla.training.improve.measuring import Comparison, Scores
from hiervla.training.rates import rate


def write_card(
    weights: Path, situation: str, scores: Scores, against_last: Comparison, against_first: Comparison
) -> None:
    """Put what was measured into a generation's `config.json`, and write its `README.md`."""
    config = read_config(weights)
    mine: dict[str, Any] = config["improved"][-1]
    won, trials = scores.rate
    mine["measured"] = {
        "situation": situation,
        "first_seed": scores.first_seed,
        "successes": won,
        "trials": trials,
        "against_last": against_last.to_json(),
        "against_first": against_first.to_json(),
    }
    partial = weights / "config.partial"
    partial.write_text(json.dumps(config, indent=1) + "\n")
    partial.replace(weights / "config.json")
    (weights / "README.md").write_text(card(config))


def card(config: dict[str, Any]) -> str:
    """The card as Markdown, from a generation's config."""
    lines = [
        f"# {config['version']}: a flow-matching policy made better by experience",
        "",
        "Trained from its parent's weights on all that was lived through, and told of each moment whether it was",
        f"better than expected ({config['improved'][-1]['method']}; docs/improving.md).",
        "At run time it is told to be good.",
        "",
    ]
    for entry in config["improved"]:
        lines += _entry(entry)
    return "\n".join(lines)


def _entry(entry: dict[str, Any]) -> list[str]:
    seen, told, settings = entry["experience"], entry["advantages"], entry["settings"]
    value = ", ".join(f"{k} {v:g}" for k, v in entry["value"].items())
    lines = [
        f"## {entry['generation']}: {entry['situation']}",
        "",
        f"- Parent: {entry['parent']['version']}, sha256 `{entry['parent']['sha256']}`.",
        f"- Command: `{entry['command'] or 'from Python'}`; seed {settings['seed']}.",
        f"- Experience: {seen['trails']} attempts, {seen['moments']} moments, of which {seen['human']} were a person's "
        f"or an expert's in a person's place; {entry['expert_demonstrations']} moments of demonstrations beside them.",
        f"- Value function: {value}.",
        f"- Told: {told['positive']} good, {told['negative']} poor, {told['unadvised']} neither.",
        f"- Training: {settings['train']['steps']} steps of {settings['train']['batch']}.",
    ]
    measured = entry.get("measured")
    if measured:
        last, first = Comparison(**_plain(measured["against_last"])), Comparison(**_plain(measured["against_first"]))
        lines += [
            f"- Measured on held-out seeds from {measured['first_seed']}: {measured['situation']}, "
            f"{rate(measured['successes'], measured['trials'])}.",
            f"- Against its parent: {last}.",
            f"- Against what the improvement began with: {first}.",
        ]
    return [*lines, ""]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in ("gain", "better")}


__all__ = ["card", "write_card"]
