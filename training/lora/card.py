"""What an adapter's folder says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCORES = {
    "loss": "loss a token of the answers [nats]",
    "parses": "answers that the planner can read, no grammar",
    "same": "of all answers: the very steps and arguments",
}


def card(facts: Mapping[str, Any]) -> str:
    """README.md of an adapter.

    Args:
        facts: what hiervla.json holds.
    """
    spec, before, after = facts["spec"], facts["before"], facts["after"]
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {facts['base']}",
        "tags: [lora, robotics, hiervla]",
        "---",
        "",
        "# LoRA adapter for a hiervla planner",
        "",
        f"Base: `{facts['base_id']}` (`{facts['base']}`), vision frozen. Use it as the planner "
        "`transformers:THIS_FOLDER`.",
        "",
        *(["```sh", facts["command"], "```", ""] if facts["command"] else []),
        f"{facts['steps']} optimiser steps of {spec['batch']} samples, rank {spec['rank']}, alpha {spec['alpha']:g}, "
        f"learning rate {spec['lr']:g}, targets {', '.join(spec['targets'])}, seed {spec['seed']}, "
        f"{facts['device']} in {facts['dtype']}.",
        "",
        "| data | learned from | held out |",
        "| --- | --- | --- |",
        *(f"| {n} | {facts['train'].get(n, 0)} | {facts['held_out'].get(n, 0)} |" for n in _names(facts)),
        "",
    ]
    if facts["left_out"]:
        lines += ["Left out: " + "; ".join(f"{why} ({n})" for why, n in facts["left_out"].items()) + ".", ""]
    if after:
        lines += ["| held-out runs and scenes | before | after |", "| --- | --- | --- |"]
        lines += [f"| {_SCORES[n]} | {before[n]:.3f} | {after[n]:.3f} |" for n in after if n in before]
        lines += ["", f"Answers were written to {facts['answered']} of the held-out questions.", ""]
    else:
        lines += ["Nothing was held out, so that there are no scores.", ""]
    return "\n".join(lines)


def _names(facts: Mapping[str, Any]) -> list[str]:
    return sorted({*facts["train"], *facts["held_out"]})
