"""Configuration of the embedded planner in transformers form."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class LanguageConfig(PretrainedConfig):
    """Sizes of the prefix language model.

    Attributes:
        vocab_size: tokens.
        hidden_size: width of the residual stream.
        num_layers: transformer blocks.
        num_heads: attention heads.
        mlp_ratio: width of a block's hidden layer in units of `hidden_size`.
        max_positions: longest sequence: slots, prompt and plan.
        max_slots: most object slots.
        slot_token_id: id of `o0`; the ids of `o1`... follow.
        max_requests: most requests that an instruction is taken apart into; 0: it is never taken apart.
    """

    model_type = "hiervla_planner_language"

    def __init__(
        self,
        vocab_size: int = 1024,
        hidden_size: int = 128,
        num_layers: int = 5,
        num_heads: int = 4,
        mlp_ratio: float = 3.0,
        max_positions: int = 448,
        max_slots: int = 20,
        slot_token_id: int = 0,
        max_requests: int = 0,
        dropout: float = 0.0,
        pad_token_id: int = 0,
        eos_token_id: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.max_positions = max_positions
        self.max_slots = max_slots
        self.slot_token_id = slot_token_id
        self.max_requests = max_requests
        self.dropout = dropout
        super().__init__(**{"pad_token_id": pad_token_id, "eos_token_id": eos_token_id, **kwargs})
