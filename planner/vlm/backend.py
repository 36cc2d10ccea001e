"""What a vision-language model is to the planner: text and images in, text that fits a schema out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hiervla.representations import Typed

Image = NDArray[np.uint8]
"""(H, W, 3) sRGB."""

Constrained = Literal["grammar", "json_schema", "none"]
"""How the text was held to the schema: token by token here, by the server, or not at all."""


@dataclass(frozen=True)
class Message:
    """One turn of the conversation. There is no system role: not every model family has one."""

    role: Literal["user", "assistant"]
    text: str


class Sampling(Typed):
    """How tokens are drawn. The default is the likeliest token each time."""

    temperature: float = Field(default=0.0, ge=0.0, description="0: always the likeliest token")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="share of the probability that is drawn from")
    max_tokens: int = Field(default=1536, ge=1, description="longest answer")
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """An answer and how it came about.

    Attributes:
        text: as the model wrote it.
        model: id of the model that wrote it.
        latency_s: wall time [s].
        constrained: how the text was held to the schema.
        complete: False when it was cut off at `Sampling.max_tokens`.
        prompt_tokens: tokens of the question, images included; None where the backend does not say.
        tokens: tokens of the answer; None where the backend does not say.
        forced: tokens of the answer that the grammar left no choice about.
        mask_s: time spent on token masks [s].
        attempts: requests that it took.
        left_out: settings that the backend does not know and that had no effect.
    """

    text: str
    model: str
    latency_s: float
    constrained: Constrained
    complete: bool = True
    prompt_tokens: int | None = None
    tokens: int | None = None
    forced: int = 0
    mask_s: float = 0.0
    attempts: int = 1
    left_out: tuple[str, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """Runs a vision-language model, here or elsewhere. `planner.vlm` ships one for transformers and one for servers.

    One that knows the model's image processor may have a method ``sent_size(image) -> (width, height)``: the size that
    the processor really makes of an image [px], for families that answer in pixels of the resized one.
    """

    @property
    def id(self) -> str:
        """Kind, model and version or place; goes on record, so it contains no secret."""
        ...

    def generate(
        self,
        messages: Sequence[Message],
        images: Sequence[Image],
        schema: Mapping[str, Any] | None,
        sampling: Sampling,
    ) -> Generation:
        """The model's answer.

        Args:
            messages: turns, the first and the last of which are the user's.
            images: shown at the beginning of the first message, in this order.
            schema: JSON Schema of the answer; None for free text. A backend that cannot hold the model to it says so in
                the result; the planner checks every answer in any case.
            sampling: how tokens are drawn.

        Raises:
            BackendError: there is no answer.
        """
        ...
