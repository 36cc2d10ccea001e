"""Any text can be said to the planner, and what it writes most is one token a piece."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from hiervla.planner.embedded.planner import WEIGHTS
from hiervla.planner.embedded.tokenizer import (
    EOS,
    HISTORY,
    HISTORY_TOKENS,
    MAX_HISTORY,
    PAD,
    PLAN,
    SLOT_TOKENS,
    TASK,
    history_line,
    normalise,
    prompt_text,
    step_words,
)
from tests.planner import tiny


@pytest.fixture(scope="module", params=["tiny", "shipped"])
def words(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "tiny":
        return tiny.tokenizer()
    shipped: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(WEIGHTS, local_files_only=True)
    return shipped


@pytest.mark.parametrize(
    "text",
    [
        "put the red mug on the top shelf",
        "stell die rote Tasse ins Regal, bitte schön",
        "赤いマグカップを棚に置いて",
        "ضع الكوب الأحمر على الرف",
        "👩‍🍳 🤖 \U0001f9fd",
        "tabs\tand\nnew lines \x00 \x7f \u2028",
        'quotes " and \\ braces {"skill":"pick","object":"',
        "o3 o33 foo3 h1 o19",
        " " * 7,
        "é e\u0301 ﬀ Ⅷ ǅ",
    ],
)
def test_any_text_comes_back(words: PreTrainedTokenizerFast, text: str) -> None:
    ids = words.backend_tokenizer.encode(text).ids
    assert ids
    assert all(0 <= i < len(words) for i in ids)
    assert words.decode(ids, clean_up_tokenization_spaces=False) == text
    assert words.decode(ids[:-1], clean_up_tokenization_spaces=False) != text


def test_special_tokens_are_single_and_distinct(words: PreTrainedTokenizerFast) -> None:
    tokens = [PAD, EOS, TASK, HISTORY, PLAN, *SLOT_TOKENS, *HISTORY_TOKENS]
    rows = [words.backend_tokenizer.encode(t).ids for t in tokens]
    assert all(len(r) == 1 for r in rows)
    assert len({r[0] for r in rows}) == len(tokens)
    assert (words.pad_token, words.eos_token) == (PAD, EOS)
    first = rows[tokens.index("o0")][0]
    slots = [r[0] for r in rows[5 : 5 + len(SLOT_TOKENS)]]
    assert slots == list(range(first, first + 20)), "the model finds slot tokens by counting"
    assert len(words.backend_tokenizer.encode("o20").ids) > 1, "there is no such slot"


def test_a_plan_is_short(words: PreTrainedTokenizerFast) -> None:
    steps = '{"skill":"pick","object":"o3"},{"skill":"place","object":"o3","relation":"on","target":"o0"}'
    plan = f'{{"done":[],"remaining":[{steps}]}}'
    strange = plan.replace("pick", "pinch")
    assert len(words.backend_tokenizer.encode(plan).ids) <= 9
    assert len(words.backend_tokenizer.encode(strange).ids) > 9


def test_the_prompt_shows_the_last_lines_of_history() -> None:
    steps = [step_words("pick", f"red mug {k}", source="table") for k in range(MAX_HISTORY + 3)]
    lines = [history_line(step, k % 2 == 0) for k, step in enumerate(steps)]
    text = prompt_text("  Put   the MUG\naway ", lines)
    assert text.startswith(f"{TASK} put the mug away{HISTORY}h0 pick red mug 3 from table failed")
    assert text.endswith(f"h15 pick red mug 18 from table ok{PLAN}")
    assert "red mug 2 " not in text
    assert normalise("A  b\tC") == "a b c"


@pytest.mark.parametrize(
    ("arguments", "words_"),
    [
        (("pick", "red mug", "", "", "top shelf"), "pick red mug from top shelf"),
        (("pick", "red mug"), "pick red mug"),
        (("place", "red mug", "left_of", "blue can"), "place red mug left of blue can"),
        (("open_drawer", "drawer"), "open drawer"),
        (("throw_away", "blue can"), "throw away blue can"),
        (("shake_well", "blue can"), "shake well blue can"),
    ],
)
def test_steps_in_words(arguments: tuple[str, ...], words_: str) -> None:
    assert step_words(*arguments) == words_
