"""Your own vision-language model as the planner, behind any OpenAI-compatible server.

    vllm serve Qwen/Qwen2.5-VL-7B-Instruct          # or llama-server, SGLang, Ollama, a hosted service
    python examples/04_your_own_vlm.py Qwen/Qwen2.5-VL-7B-Instruct http://127.0.0.1:8000/v1

A key, where the server wants one, is taken from HIERVLA_API_KEY.
"""

from __future__ import annotations

import sys

from hiervla import Agent
from hiervla.planner.base import make_planner
from hiervla.planner.vlm import BackendError, Message, Sampling, VLMPlanner


def main() -> int:
    """Ask whether the server is there, then run a task with it."""
    model, url = (*sys.argv[1:3], *("my-model", "http://127.0.0.1:8000/v1")[len(sys.argv[1:3]) :])
    name = f"openai:{model}@{url}"
    planner = make_planner(name)
    assert isinstance(planner, VLMPlanner)
    try:
        planner.backend.generate([Message("user", "Answer with {}.")], [], {"type": "object"}, Sampling(max_tokens=16))
    except BackendError as error:
        print(f"No model to plan with: {error}")
        return 1
    result = Agent.from_preset("tabletop", planner=name).run("put the red mug on the top shelf", seed=7, record="runs")
    print(result.outcome, result.message)
    print("What it was asked, answered and pointed at: hiervla inspect", result.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
