"""Batches of the planner's language training: what is in them, and that other processes make the same."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hiervla.planner.embedded.modeling import HierVLAPlannerForPlanning
from hiervla.planner.embedded.planner import WEIGHTS
from hiervla.training.language_batches import Batch, batches, collate, draw, encode, loss_of
from hiervla.training.tasks.examples import sample_example


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(WEIGHTS))
    return found


def same(a: Batch, b: Batch) -> bool:
    first, second = a.parts(), b.parts()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_batch_holds_every_example_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = np.random.default_rng(2)
    examples = [encode(tokenizer, sample_example(rng, family="multi", middle=False)) for _ in range(8)]
    batch = collate(examples, int(tokenizer.pad_token_id))
    assert len(batch) == 8
    for i, e in enumerate(examples):
        assert batch.prompt[i][batch.prompt_mask[i]].tolist() == e.prompt
        assert batch.answer[i].tolist()[: len(e.answer)] == e.answer
        assert int(batch.slots.mask[i].sum()) == len(e.example.slots)
        picked = {e.example.ids.index(s.object) for s in e.example.plan if s.skill == "pick"}
        assert set(torch.nonzero(batch.wanted[i, :, 0]).flatten().tolist()) == {
            *picked,
            *(e.example.ids.index(s.object) for s in e.example.plan if s.skill == "place"),
        }
    whole = [i for i, e in enumerate(examples) if e.example.part is None]
    assert whole
    for i in whole:
        marks = batch.marks[batch.marks[:, 0] == i]
        asked = {int(k) for k in marks[:, 2]} - {0}
        assert asked == set(range(1, 1 + len(examples[i].example.task.parts)))
    assert torch.allclose(batch.meant.sum(dim=1), torch.ones(len(batch.meant)))
    assert same(Batch.of(batch.parts()), batch)
    assert same(batch.to(torch.device("cpu")), batch)


def test_other_processes_draw_what_this_one_would(tokenizer: PreTrainedTokenizerFast) -> None:
    found = list(islice(batches(tokenizer, (5, 2, 0), 3, workers=2), 4))
    alone = [draw(tokenizer, (5, 2, 0, worker), 3) for worker in (1, 2)]
    wanted = [next(alone[0]), next(alone[1]), next(alone[0]), next(alone[1])]
    assert all(map(same, found, wanted))
    assert not same(wanted[0], wanted[1])


def test_the_shipped_words_are_better_at_a_batch_than_fresh_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = next(draw(tokenizer, (9,), 6))
    model = HierVLAPlannerForPlanning.from_pretrained(str(WEIGHTS)).language.eval()
    with torch.inference_mode():
        loss, right = loss_of(model, batch)
        torch.manual_seed(0)
        fresh, wrong = loss_of(type(model)(model.config), batch)
    assert float(loss) < 0.5
    assert float(fresh) > 3.0
    assert float(right) > 0.6
    assert float(wrong) == 0.0
