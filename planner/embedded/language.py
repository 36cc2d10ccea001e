"""A small prefix language model over object slots: it reads slots, instruction and history, and writes plans.

Attention is bidirectional within the prefix (slots and prompt) and causal in the plan. The token of a slot
(`o3`) is scored by how well the hidden state fits the slot's own final state, so that the model points at
slots instead of learning 20 unrelated words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.slots import CATEGORIES, COLOURS, STATES

_FREQUENCIES = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(slots=True)
class SlotBatch:
    """Slots of a batch, padded to the same number S.

    Attributes:
        category: (B, S, 11) probabilities.
        colour: (B, S, 9) probabilities.
        state: (B, S, 9) probabilities.
        uv: (B, S, 2) fractions 0..1 of the image.
        links: (B, S, S) which slot is underneath which, see `support_links`.
        mask: (B, S) bool, True where there is a slot.
    """

    category: Tensor
    colour: Tensor
    state: Tensor
    uv: Tensor
    links: Tensor
    mask: Tensor


@dataclass(slots=True)
class Cache:
    """Keys and values of what has been read, and what a decoder needs to go on.

    Attributes:
        keys: per layer (B, heads, T, head size).
        values: per layer (B, heads, T, head size).
        mask: (B, T) bool, which positions may be attended to.
        next_position: (B,) position of the next plan token.
        slot_keys: (B, S, width) what slot tokens are scored against.
        slot_mask: (B, S) bool.
    """

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    mask: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))
    next_position: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    slot_keys: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0))
    slot_mask: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))


class Reading(NamedTuple):
    """What the model makes of a whole example, for training.

    Attributes:
        logits: (B, O + 1, vocab) scores of the plan's tokens, each after what stands before it.
        hidden: (B, O + 1, d) states from which they come.
        roles: (B, S, 2) scores of each slot of being picked up and of being a place to go to in the plan.
        named: (B, P, S) how well each slot fits as what the words that end at a prompt token name.
        requests: (B, P, 1 + max_requests) scores of each prompt token of belonging to no request (0) or to the
            first, the second, ... that is to be carried out.
    """

    logits: Tensor
    hidden: Tensor
    roles: Tensor
    named: Tensor
    requests: Tensor


class _Prefix(NamedTuple):
    """Slots and prompt, read: states (B, T, d), keys and values by layer, mask (B, T) of real tokens."""

    hidden: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor


class Block(nn.Module):
    """Pre-norm attention and a gated-free MLP, with rotary positions."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        d, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.heads = config.num_heads
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.up = nn.Linear(d, hidden)
        self.down = nn.Linear(hidden, d)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block.

        Args:
            x: (B, T, d).
            rotary: cosines and sines (B, 1, T, head size / 2).
            bias: (B, 1, T, past + T) float, 0 where attention is allowed and -inf elsewhere.
            past: keys and values (B, heads, past, head size) of what came before.

        Returns:
            The new (B, T, d), and the keys and values of the past and these tokens.
        """
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, rotary), _rotate(k, rotary)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        x = x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return x, k, v


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class PlannerLanguage(nn.Module):
    """Slots and prompt in, plan tokens out."""

    inverse_frequency: Tensor
    fourier: Tensor

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        d = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, d)
        self.category = nn.Linear(len(CATEGORIES), d, bias=False)
        self.colour = nn.Linear(len(COLOURS), d, bias=False)
        self.state = nn.Linear(len(STATES), d, bias=False)
        self.place = nn.Sequential(nn.Linear(2 + 4 * len(_FREQUENCIES), d), nn.GELU(), nn.Linear(d, d))
        self.below = nn.Linear(d, d, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(d)
        self.slot_query = nn.Linear(d, d)
        self.slot_key = nn.Linear(d, d)
        # Read in training only: whether a slot is picked up, and whether it is a place or a target, in the plan.
        self.slot_role = nn.Linear(d, 2)
        if config.max_requests:
            self.request = nn.Linear(d, 1 + config.max_requests)
        half = d // config.num_heads // 2
        self.register_buffer("inverse_frequency", 1000.0 ** (-torch.arange(half) / half), persistent=False)
        self.register_buffer("fourier", torch.pi * torch.tensor(_FREQUENCIES), persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3 * self.config.hidden_size**-0.5 * 4)

    def embed_slots(self, slots: SlotBatch) -> Tensor:
        """Slot embeddings (B, S, d)."""
        phase = slots.uv[..., None] * self.fourier
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)
        look = self.category(slots.category) + self.colour(slots.colour)
        x = look + self.state(slots.state) + self.place(torch.cat([slots.uv, waves], dim=-1))
        names = self.tokens.weight[self.config.slot_token_id :][: slots.uv.shape[1]]
        embedded: Tensor = x + self.below(slots.links @ (look + names)) + names
        return embedded

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angle = positions[:, None, :, None] * self.inverse_frequency
        return angle.cos(), angle.sin()

    def _run(
        self, x: Tensor, positions: Tensor, allowed: Tensor, cache: Cache | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        bias = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device).masked_fill_(~allowed, -1e9)[:, None]
        rotary = self._rotary(positions)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, k, v = block(x, rotary, bias, None if cache is None else (cache.keys[i], cache.values[i]))
            keys.append(k)
            values.append(v)
        return self.norm(x), keys, values

    def logits(self, hidden: Tensor, slot_keys: Tensor, slot_mask: Tensor) -> Tensor:
        """Token scores (B, T, vocab) of hidden states (B, T, d)."""
        scores = hidden @ self.tokens.weight.T
        pointers = self._pointers(hidden, slot_keys, slot_mask)
        first, n = self.config.slot_token_id, slot_mask.shape[1]
        unused = torch.full_like(scores[..., first + n : first + self.config.max_slots], -1e9)
        return torch.cat([scores[..., :first], pointers, unused, scores[..., first + self.config.max_slots :]], dim=-1)

    def _pointers(self, hidden: Tensor, slot_keys: Tensor, slot_mask: Tensor) -> Tensor:
        """How well hidden states (B, T, d) fit each slot, (B, T, S)."""
        fit = self.slot_query(hidden) @ slot_keys.transpose(1, 2) * self.config.hidden_size**-0.5
        return fit.masked_fill(~slot_mask[:, None], -1e9)

    def forward(
        self, slots: SlotBatch, prompt: Tensor, prompt_mask: Tensor, plan: Tensor, plan_mask: Tensor
    ) -> Reading:
        """Scores of the token after each plan position, for training.

        Args:
            slots: the slots.
            prompt: (B, P) token ids.
            prompt_mask: (B, P) bool.
            plan: (B, O) token ids of the plan without its last token.
            plan_mask: (B, O) bool.

        Returns:
            What was read. The first logits follow the prompt's last token, which must be the same position for the
            whole batch or be padded on the left.
        """
        s, p = slots.mask.shape[1], prompt.shape[1]
        x = torch.cat([self.embed_slots(slots), self.tokens(torch.cat([prompt, plan], dim=1))], dim=1)
        key_mask = torch.cat([slots.mask, prompt_mask, plan_mask], dim=1)
        n = x.shape[1]
        index = torch.arange(n, device=x.device)
        causal = (index[None, :] < s + p) | (index[None, :] <= index[:, None])
        allowed = key_mask[:, None, :] & causal[None]
        hidden, _, _ = self._run(x, self._positions(key_mask, s), allowed, None)
        out = hidden[:, s + p - 1 :]
        slot_states = hidden[:, :s]
        keys = self.slot_key(slot_states)
        named = self._pointers(hidden[:, s : s + p], keys, slots.mask)
        requests = self._requests(hidden[:, s : s + p])
        return Reading(self.logits(out, keys, slots.mask), out, self.slot_role(slot_states), named, requests)

    def _requests(self, hidden: Tensor) -> Tensor:
        if self.config.max_requests:
            scores: Tensor = self.request(hidden)
            return scores
        return hidden.new_zeros(*hidden.shape[:2], 1)

    def requests_of(self, slots: SlotBatch, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Log probabilities (B, P, 1 + max_requests) of each prompt token to belong to no request, or to the k-th.

        Args:
            slots: the slots.
            prompt: (B, P) token ids, padded on the left.
            prompt_mask: (B, P) bool.
        """
        read = self._read_prefix(slots, prompt, prompt_mask)
        return self._requests(read.hidden[:, slots.mask.shape[1] :]).log_softmax(dim=-1)

    def _read_prefix(self, slots: SlotBatch, prompt: Tensor, prompt_mask: Tensor) -> _Prefix:
        x = torch.cat([self.embed_slots(slots), self.tokens(prompt)], dim=1)
        mask = torch.cat([slots.mask, prompt_mask], dim=1)
        allowed = mask[:, None, :].expand(-1, x.shape[1], -1)
        return _Prefix(*self._run(x, self._positions(mask, slots.mask.shape[1]), allowed, None), mask)

    def _positions(self, key_mask: Tensor, n_slots: int) -> Tensor:
        """Slots count from 0, text from `max_slots`, padding left out."""
        text = key_mask[:, n_slots:].long().cumsum(dim=1) - 1
        slots = torch.arange(n_slots, device=key_mask.device).expand(len(key_mask), n_slots)
        return torch.cat([slots, self.config.max_slots + text.clamp_min(0)], dim=1)

    def prefill(self, slots: SlotBatch, prompt: Tensor, prompt_mask: Tensor) -> tuple[Tensor, Tensor, Cache]:
        """Read the prefix.

        Args:
            slots: the slots.
            prompt: (B, P) token ids, padded on the left.
            prompt_mask: (B, P) bool.

        Returns:
            Logits (B, vocab) of the first plan token, its hidden state (B, d), and the cache.
        """
        read = self._read_prefix(slots, prompt, prompt_mask)
        slot_keys = self.slot_key(read.hidden[:, : slots.mask.shape[1]])
        following = self.config.max_slots + prompt_mask.long().sum(dim=1)
        cache = Cache(read.keys, read.values, read.mask, following, slot_keys, slots.mask)
        last = read.hidden[:, -1:]
        return self.logits(last, slot_keys, slots.mask)[:, 0], last[:, 0], cache

    def extend(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """Read further plan tokens; the cache grows.

        Args:
            tokens: (B, T) token ids.
            cache: of what was read before.

        Returns:
            Logits (B, T, vocab) after each token, and hidden states (B, T, d).
        """
        b, t = tokens.shape
        past = cache.mask.shape[1]
        index = torch.arange(t, device=tokens.device)
        ones = torch.ones(b, t, dtype=torch.bool, device=tokens.device)
        mask = torch.cat([cache.mask, ones], dim=1)
        causal = torch.cat([ones.new_ones(t, past), index[None, :] <= index[:, None]], dim=1)
        positions = cache.next_position[:, None] + index
        allowed = mask[:, None, :] & causal[None]
        hidden, cache.keys, cache.values = self._run(self.tokens(tokens), positions, allowed, cache)
        cache.mask = mask
        cache.next_position = cache.next_position + t
        return self.logits(hidden, cache.slot_keys, cache.slot_mask), hidden
