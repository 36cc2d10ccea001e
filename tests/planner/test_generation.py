"""Reading token by token is the same as reading at once, and answers know where their arguments are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hiervla.planner.embedded.consistency import Ban
from hiervla.planner.embedded.generation import LanguageDecoder, batch_slots, generate_batch, load_language, pad_left
from hiervla.planner.embedded.generation import save_language as save
from hiervla.planner.embedded.slots import one_hot_slots
from hiervla.planner.embedded.tokenizer import prompt_text
from hiervla.representations import CheckpointError, PlanError
from tests.planner import tiny

SLOTS = one_hot_slots(
    [
        ("top_shelf", "none", "none", 0.10, 0.33),
        ("mug", "red", "table", 0.40, 0.50),
        ("block", "blue", "table", 0.60, 0.60),
        ("drawer", "none", "closed", 0.77, 0.51),
    ]
)


@torch.inference_mode()
def test_the_cache_changes_nothing() -> None:
    model = tiny.language(1)
    prompt = torch.tensor([tiny.tokenizer().backend_tokenizer.encode(prompt_text("clear the table")).ids])
    plan = torch.tensor([[7, 300, 5, 41, 260, 9]])
    slots, ones = batch_slots([SLOTS]), torch.ones_like
    whole, hidden, *_ = model(slots, prompt, ones(prompt, dtype=torch.bool), plan, ones(plan, dtype=torch.bool))

    def step_by_step(tokens: Tensor, pieces: list[int]) -> tuple[Tensor, Tensor]:
        logits, state, cache = model.prefill(slots, prompt, ones(prompt, dtype=torch.bool))
        found, states = [logits[:, None]], [state[:, None]]
        for piece in tokens.split(pieces, dim=1):
            further, more = model.extend(piece, cache)
            found.append(further)
            states.append(more)
        return torch.cat(found, dim=1), torch.cat(states, dim=1)

    for pieces in ([1] * 6, [6], [2, 1, 3]):
        logits, states = step_by_step(plan, pieces)
        torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(states, hidden, atol=1e-4, rtol=1e-4)
    swapped, _ = step_by_step(plan[:, [1, 0, 2, 3, 4, 5]], [1] * 6)
    assert not torch.allclose(swapped[:, -1], whole[:, -1], atol=1e-3), "the order of what was read matters"
    torch.testing.assert_close(swapped[:, 0], whole[:, 0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_padding_changes_nothing() -> None:
    model, words = tiny.language(2), tiny.tokenizer()
    rng = np.random.default_rng(0)
    scenes = [SLOTS, tiny.scene(rng), one_hot_slots([("can", "green", "table", 0.5, 0.5)])]
    texts = ("hi", "put the red mug away", "tidy up now")
    prompts = [words.backend_tokenizer.encode(prompt_text(t)).ids for t in texts]
    tokens, mask = pad_left(prompts, words.pad_token_id)
    together, _, _ = model.prefill(batch_slots(scenes), tokens, mask)
    for row, (slots, prompt) in enumerate(zip(scenes, prompts, strict=True)):
        ids = torch.tensor([prompt])
        alone, _, _ = model.prefill(batch_slots([slots]), ids, torch.ones_like(ids, dtype=torch.bool))
        real = alone[0] > -1e8
        torch.testing.assert_close(together[row][real], alone[0][real], atol=1e-4, rtol=1e-4)
        assert bool((together[row][~real] < -1e8).all()), "slots of other rows cannot be named"
    wrong, _, _ = model.prefill(batch_slots(scenes), tokens, torch.ones_like(mask))
    assert not torch.allclose(wrong[0], together[0], atol=1e-3), "without the mask, padding would be read"


def test_what_succeeded_is_done_and_what_failed_is_not() -> None:
    decoder = LanguageDecoder(tiny.talker(0), tiny.tokenizer())
    lines = ["pick red mug from table failed", "pick red mug from table ok", "place red mug on top shelf ok"]
    for history, done in ((lines, (1, 2)), (lines[:1], ()), (lines[::-1], (0, 1)), ([], ())):
        answer = decoder.answer(SLOTS, "put the red mug on the top shelf", history, tiny.signatures())
        assert answer.draft.refuse is None
        assert answer.draft.done == done
    long = ["pick red mug from table failed"] * 9 + ["pick red mug from table ok"] + ["open drawer failed"] * 15
    answer = decoder.answer(SLOTS, "clear the table", long, tiny.signatures())
    assert answer.draft.done == (0,), "lines count from the first one that is shown"


def test_arguments_are_found_in_the_tokens() -> None:
    words, found = tiny.tokenizer(), 0
    decoder = LanguageDecoder(tiny.talker(1), words)
    for instruction in ("put the red mug on the top shelf", "tidy up", "throw the blue block away"):
        answer = decoder.answer(SLOTS, instruction, [], tiny.signatures())
        assert words.decode(answer.tokens, clean_up_tokenization_spaces=False) == answer.text
        assert answer.hidden.shape == (len(answer.tokens), decoder.model.config.hidden_size)
        assert answer.logprob <= 0.0
        assert len(answer.argument_tokens) == len(answer.draft.remaining)
        for call, where in zip(answer.draft.remaining, answer.argument_tokens, strict=True):
            assert set(where) == set(call) - {"skill"}
            for name, index in where.items():
                if call[name].startswith("o"):
                    assert words.decode([answer.tokens[index]]) == call[name]
                    found += 1
    assert found


def test_too_long_an_answer_is_a_plan_error() -> None:
    decoder = LanguageDecoder(tiny.talker(0), tiny.tokenizer())
    with pytest.raises(PlanError, match="longer than 2 tokens"):
        decoder.answer(SLOTS, "tidy up", [], tiny.signatures(), max_tokens=2)


def test_free_answers_end_at_the_end_token_or_the_limit() -> None:
    model, words = tiny.language(4), tiny.tokenizer()
    prompts = [words.backend_tokenizer.encode(prompt_text(t)).ids for t in ("tidy up", "wipe the table")]
    texts = generate_batch(model, words, [SLOTS, SLOTS], prompts, max_tokens=5)
    assert len(texts) == 2
    with torch.no_grad():
        model.tokens.weight[model.config.eos_token_id] = (
            1e4
            * model.prefill(
                batch_slots([SLOTS]), torch.tensor(prompts[:1]), torch.ones(1, len(prompts[0]), dtype=torch.bool)
            )[1][0]
        )
    assert generate_batch(model, words, [SLOTS], prompts[:1], max_tokens=5) == [""]


def test_a_saved_language_part_answers_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("language")
    model = tiny.language(0)
    save(model, tiny.tokenizer(), folder)
    again, words = load_language(folder)
    answers = [
        LanguageDecoder(m, w).answer(SLOTS, "tidy up", [], tiny.signatures())
        for m, w in ((model, tiny.tokenizer()), (again, words))
    ]
    assert answers[0].tokens == answers[1].tokens
    torch.testing.assert_close(answers[0].hidden, answers[1].hidden)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(CheckpointError, match=str(folder)):
        load_language(folder)


def test_what_was_objected_to_does_not_come_again() -> None:
    decoder = LanguageDecoder(tiny.talker(0), tiny.tokenizer())
    first = decoder.answer(SLOTS, "put the red mug on the top shelf", [], tiny.signatures())
    call = first.draft.remaining[0]
    again = decoder.answer(SLOTS, "put the red mug on the top shelf", [], tiny.signatures(), banned=[Ban(0, call)])
    assert again.draft.remaining[:1] != (call,)
    elsewhere = decoder.answer(SLOTS, "put the red mug on the top shelf", [], tiny.signatures(), banned=[Ban(9, call)])
    assert elsewhere.draft == first.draft
