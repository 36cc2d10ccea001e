"""Examples of the language part as batches of tensors, made in this process or in others beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load, save
from tokenizers import Encoding
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hiervla.planner.embedded.generation import batch_slots, pad_left
from hiervla.planner.embedded.language import PlannerLanguage, SlotBatch
from hiervla.planner.embedded.tokenizer import EOS, normalise, prompt_text
from hiervla.training.tasks.examples import Example, sample_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_HINT_WEIGHT = 0.3
_NAMING_WEIGHT = 0.3
_REQUEST_WEIGHT = 0.3


@dataclass(slots=True)
class Encoded:
    """An example in token ids.

    Attributes:
        example: where it comes from.
        prompt: instruction and history.
        answer: what is to be written.
        named: for phrases of the instruction, the index of their last token and the slots that they name.
        requests: for tokens of the instruction, their index and which request they belong to: 0 for none.
    """

    example: Example
    prompt: list[int]
    answer: list[int]
    named: list[tuple[int, list[int]]]
    requests: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def encode(tokenizer: PreTrainedTokenizerFast, example: Example) -> Encoded:
    """Token ids of an example's prompt and answer."""
    texts = [prompt_text(example.text, example.lines()), example.answer + EOS]
    prompt, answer = tokenizer.backend_tokenizer.encode_batch(texts)
    begin = texts[0].index(normalise(example.words))
    named, requests = _named(example, begin, prompt), _requests(example, begin, prompt)
    return Encoded(example, list(prompt.ids), list(answer.ids), named, requests)


def _named(example: Example, begin: int, prompt: Encoding) -> list[tuple[int, list[int]]]:
    start, end = example.span
    named: dict[int, list[int]] = {}
    for mention in example.task.mentions:
        if mention.start < start or mention.end > end:
            continue
        last = begin + len(normalise(example.task.instruction[start : mention.end])) - 1
        slots = [example.ids.index(i) for i in mention.ids if i in example.ids]
        token = prompt.char_to_token(last)
        if slots and token is not None:
            # Of phrases that end together, such as "the block on the plate", the whole one comes last.
            named[token] = slots
    return list(named.items())


def _requests(example: Example, begin: int, prompt: Encoding) -> list[tuple[int, int]]:
    """Which request each token of a whole instruction belongs to; nothing for a request that is asked by itself."""
    if example.part is not None:
        return []
    text = example.task.instruction
    spans = [
        (begin + len(normalise(text[: p.start])), begin + len(normalise(text[: p.end]))) for p in example.task.parts
    ]
    stop = begin + len(normalise(text))
    labels = []
    for token, (_, b) in enumerate(prompt.offsets):
        if begin < b <= stop:
            # A token begins with the space before its word, so that its end says where it belongs.
            owners = [k for k, (first, last) in enumerate(spans, start=1) if first < b <= last]
            labels.append((token, owners[0] if owners else 0))
    return labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as tensors.

    Attributes:
        slots: what is seen.
        prompt: (B, P) token ids, padded on the left.
        prompt_mask: (B, P) bool.
        answer: (B, A) token ids, padded on the right.
        wanted: (B, S, 2) float, whether the plan picks a slot up, and whether it goes there.
        names: (N, 2) row and prompt token at which a phrase ends.
        meant: (N, S) float, which slots that phrase names, with a sum of 1.
        marks: (M, 3) row, prompt token, and the request to which it belongs, 0 for none.
    """

    slots: SlotBatch
    prompt: Tensor
    prompt_mask: Tensor
    answer: Tensor
    wanted: Tensor
    names: Tensor
    meant: Tensor
    marks: Tensor

    def __len__(self) -> int:
        return len(self.prompt)

    def parts(self) -> dict[str, Tensor]:
        """All tensors by name, those of the slots among them."""
        own = {f.name: getattr(self, f.name) for f in fields(Batch) if f.name != "slots"}
        return own | {f"slots.{f.name}": getattr(self.slots, f.name) for f in fields(SlotBatch)}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Batch:
        """A batch from its parts."""
        slots = SlotBatch(**{f.name: parts[f"slots.{f.name}"] for f in fields(SlotBatch)})
        return cls(slots=slots, **{f.name: parts[f.name] for f in fields(cls) if f.name != "slots"})

    def to(self, device: torch.device) -> Batch:
        """The same elsewhere."""
        return Batch.of({name: part.to(device, non_blocking=True) for name, part in self.parts().items()})


def collate(examples: Sequence[Encoded], pad: int) -> Batch:
    """A batch of examples, filled up with the token `pad`."""
    prompt, prompt_mask = pad_left([e.prompt for e in examples], pad)
    longest = max(len(e.answer) for e in examples)
    answer = torch.tensor([e.answer + [pad] * (longest - len(e.answer)) for e in examples])
    slots = batch_slots([e.example.slots for e in examples])
    wanted = torch.zeros(*slots.mask.shape, 2)
    for i, e in enumerate(examples):
        for step in e.example.plan:
            wanted[i, e.example.ids.index(step.object), int(step.skill not in {"pick", "place"})] = 1.0
            if step.target in e.example.ids:
                wanted[i, e.example.ids.index(step.target), 1] = 1.0
    shift = [prompt.shape[1] - len(e.prompt) for e in examples]
    names = [(i, shift[i] + token, ids) for i, e in enumerate(examples) for token, ids in e.named]
    meant = torch.zeros(len(names), slots.mask.shape[1])
    for k, (_, _, ids) in enumerate(names):
        meant[k, ids] = 1.0 / len(ids)
    marks = [(i, shift[i] + token, k) for i, e in enumerate(examples) for token, k in e.requests]
    places = torch.tensor([(i, t) for i, t, _ in names], dtype=torch.long).view(-1, 2)
    return Batch(
        slots, prompt, prompt_mask, answer, wanted, places, meant, torch.tensor(marks, dtype=torch.long).view(-1, 3)
    )


def draw(tokenizer: PreTrainedTokenizerFast, seed: Sequence[int], size: int, pool: int = 12) -> Iterator[Batch]:
    """Endless batches of similar length: `pool` batches are drawn and sorted at a time."""
    rng = np.random.default_rng(list(seed))
    pad = int(tokenizer.pad_token_id)
    while True:
        drawn = sorted((encode(tokenizer, sample_example(rng)) for _ in range(pool * size)), key=len)
        for k in rng.permutation(pool):
            yield collate(drawn[k * size : (k + 1) * size], pad)


class _Drawn(IterableDataset[bytes]):
    """What one worker process draws: each has chance of its own.

    Batches travel as bytes. As tensors, each of their parts would keep a file open, and a queue of them comes to more
    than a process may have.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: Sequence[int], size: int) -> None:
        self.tokenizer, self.seed, self.size = tokenizer, tuple(seed), size

    def __iter__(self) -> Iterator[bytes]:
        worker = get_worker_info()
        own = () if worker is None else (1 + worker.id,)
        for batch in draw(self.tokenizer, (*self.seed, *own), self.size):
            yield save(batch.parts())


def batches(tokenizer: PreTrainedTokenizerFast, seed: Sequence[int], size: int, workers: int = 0) -> Iterator[Batch]:
    """Endless batches, drawn here or, with `workers`, in so many processes; their number is part of the seed."""
    if not workers:
        return draw(tokenizer, seed, size)
    loader = DataLoader(
        _Drawn(tokenizer, seed, size), batch_size=None, num_workers=workers, prefetch_factor=24,
        multiprocessing_context="spawn",
    )  # fmt: skip
    return (Batch.of(load(sent)) for sent in loader)


def loss_of(model: PlannerLanguage, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy of the answers, and the share of answers in which every token is right, a scalar each."""
    pad = model.config.pad_token_id
    inputs = batch.answer[:, :-1]
    logits, _, roles, fits, requests = model(batch.slots, batch.prompt, batch.prompt_mask, inputs, inputs != pad)
    real = batch.answer != pad
    loss = functional.cross_entropy(logits.flatten(0, 1), batch.answer.flatten(), ignore_index=pad)
    seen = batch.slots.mask
    hint = functional.binary_cross_entropy_with_logits(roles[seen], batch.wanted[seen])
    naming = parting = loss.new_zeros(())
    if len(batch.names):
        naming = functional.cross_entropy(fits[batch.names[:, 0], batch.names[:, 1]], batch.meant)
    if len(batch.marks) and model.config.max_requests:
        rows, columns, kinds = batch.marks.unbind(dim=1)
        parting = functional.cross_entropy(requests[rows, columns], kinds)
    right = ((logits.detach().argmax(dim=-1) == batch.answer) | ~real).all(dim=1).float().mean()
    return loss + _HINT_WEIGHT * hint + _NAMING_WEIGHT * naming + _REQUEST_WEIGHT * parting, right
