"""Decoding with the language part: batches without grammar for measurements, one by one under the grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hiervla.planner.embedded.configuration import LanguageConfig
from hiervla.planner.embedded.consistency import Ban, PlanFollower
from hiervla.planner.embedded.foresight import after_steps
from hiervla.planner.embedded.grammar import (
    REASONS,
    PlanDraft,
    PlanGrammar,
    RefusalReason,
    grammar_tokenizer,
    parse_answer,
    plan_json,
    plan_schema,
)
from hiervla.planner.embedded.language import PlannerLanguage, SlotBatch
from hiervla.planner.embedded.requests import best_parting
from hiervla.planner.embedded.slots import SceneSlots, support_links, with_slots
from hiervla.planner.embedded.tokenizer import (
    HISTORY_TOKENS,
    KNOWN_SKILLS,
    MAX_HISTORY,
    SLOT_TOKENS,
    normalise,
    prompt_text,
    request_text,
)
from hiervla.representations.errors import CheckpointError, PlanError
from hiervla.representations.signatures import SkillSignature

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_ANSWER = 256
_PAIR = re.compile(r'"(\w+)":"([^"]*)')
WEIGHTS = "model.safetensors"


def batch_slots(slots: Sequence[SceneSlots]) -> SlotBatch:
    """Slots of several scenes, padded to the same number."""
    most = max(1, *(len(s) for s in slots))

    def padded(arrays: list[np.ndarray], width: int) -> Tensor:
        out = np.zeros((len(arrays), most, width), np.float32)
        for i, a in enumerate(arrays):
            out[i, : len(a), : a.shape[1]] = a
        return torch.from_numpy(out)

    mask = torch.tensor([[i < len(s) for i in range(most)] for s in slots])
    first = slots[0]
    return SlotBatch(
        padded([s.category for s in slots], first.category.shape[1]),
        padded([s.colour for s in slots], first.colour.shape[1]),
        padded([s.state for s in slots], first.state.shape[1]),
        padded([s.uv for s in slots], 2),
        padded([support_links(s) for s in slots], most),
        mask,
    )


def _text(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids (B, P) padded on the left, and the mask (B, P) of real tokens."""
    longest = max(len(r) for r in rows)
    tokens = torch.tensor([[pad] * (longest - len(r)) + list(r) for r in rows])
    mask = torch.tensor([[False] * (longest - len(r)) + [True] * len(r) for r in rows])
    return tokens, mask


@torch.inference_mode()
def generate_batch(
    model: PlannerLanguage,
    tokenizer: PreTrainedTokenizerFast,
    slots: Sequence[SceneSlots],
    prompts: Sequence[Sequence[int]],
    max_tokens: int = 90,
) -> list[str]:
    """Greedy answers without a grammar; a malformed one is the model's own fault and left as it is."""
    prompt, mask = pad_left(prompts, model.config.pad_token_id)
    logits, _, cache = model.prefill(batch_slots(slots), prompt, mask)
    eos = model.config.eos_token_id
    rows: list[list[int]] = [[] for _ in slots]
    open_rows = np.ones(len(rows), bool)
    for _ in range(max_tokens):
        token = logits.argmax(dim=-1)
        for i, t in enumerate(token.tolist()):
            if open_rows[i]:
                open_rows[i] = t != eos
                if t != eos:
                    rows[i].append(t)
        if not open_rows.any():
            break
        steps, _ = model.extend(token[:, None], cache)
        logits = steps[:, 0]
    return [_text(tokenizer, r) for r in rows]


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer and how it came about.

    Attributes:
        draft: the parsed answer.
        text: as written.
        tokens: token ids.
        hidden: (T, d) hidden state at each token, after the model read it; what the pointing head is asked with.
        argument_tokens: for each remaining step, by argument name, the index into `tokens` of its value's last token.
        logprob: sum of the log probabilities of the tokens that were not forced.
        requests: what the instruction was taken apart into, empty when it was not; then `tokens` and `hidden` are
            those of the answers to all requests, one after the other.
    """

    draft: PlanDraft
    text: str
    tokens: list[int]
    hidden: Tensor
    argument_tokens: list[dict[str, int]]
    logprob: float
    requests: tuple[str, ...] = ()


def _in_slots(answer: Generated, origin: Sequence[int]) -> Generated:
    """The answer with its slots counted as they are now, where it was asked for slots to come."""
    steps = tuple(with_slots(s, dict(enumerate(origin))) for s in answer.draft.remaining)
    return replace(answer, draft=replace(answer.draft, remaining=steps))


def _undone(answers: Sequence[Generated]) -> bool:
    """Whether a later request moves what an earlier one has put in its place."""
    moved: set[str] = set()
    for answer in answers:
        own = {s["object"] for s in answer.draft.remaining if s.get("skill") == "place" and "object" in s}
        if own & moved:
            return True
        moved |= own
    return False


def _banned_here(banned: Sequence[Ban], first: int, origin: Sequence[int]) -> list[Ban]:
    """Bans for a request whose steps are counted from `first`, in the slots that it is asked for."""
    here = {slot: k for k, slot in enumerate(origin)}
    return [Ban(b.step - first, with_slots(b.call, here)) for b in banned if b.step >= first]


class LanguageDecoder:
    """Answers one question at a time, under the grammar of the skills and the scene.

    Args:
        model: the language part.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: PlannerLanguage, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._grammar_tokens = grammar_tokenizer(tokenizer)
        ids = tokenizer.convert_tokens_to_ids([*SLOT_TOKENS, *HISTORY_TOKENS])
        self._names = frozenset(ids if isinstance(ids, list) else [ids])
        texts = {i: _text(tokenizer, [i]) for i in range(len(tokenizer))}
        self._texts = texts
        added = [i for i, t in tokenizer.added_tokens_decoder.items() if not t.special]
        self._beginnings = {
            i: [k for k, t in texts.items() if t and t != texts[i] and texts[i].startswith(t) and k not in self._names]
            for i in added
        }

    @torch.inference_mode()
    def answer(
        self,
        slots: SceneSlots,
        instruction: str,
        history: Sequence[str],
        signatures: Sequence[SkillSignature],
        max_tokens: int = MAX_ANSWER,
        banned: Sequence[Ban] = (),
    ) -> Generated:
        """The likeliest answer without the banned calls, token by token.

        An instruction of several requests is taken apart, and planned request by request. A refusal that names as
        missing what is in a slot contradicts what was seen; then that refusal is taken from the grammar and the
        question asked once more.

        Raises:
            PlanError: no complete answer within `max_tokens`.
        """
        requests = self.requests(slots, instruction)
        if len(requests) < 2:
            return self._answer(slots, instruction, history, signatures, max_tokens, banned)
        first = self._one_by_one(slots, requests, history, signatures, max_tokens, banned)
        if isinstance(first, Generated):
            return self._or_whole(first, slots, instruction, history, signatures, max_tokens, banned)
        if not _undone(first):
            return self._together(first, requests)
        # "The red block on the blue one and the blue one on the white one": what is named first comes last.
        other = self._one_by_one(slots, requests[::-1], history, signatures, max_tokens, banned)
        if isinstance(other, Generated) or _undone(other):
            return self._together(first, requests)
        return self._together(other, requests[::-1])

    def _or_whole(
        self,
        refused: Generated,
        slots: SceneSlots,
        instruction: str,
        history: Sequence[str],
        signatures: Sequence[SkillSignature],
        max_tokens: int,
        banned: Sequence[Ban],
    ) -> Generated:
        """The refusal of a request, unless that makes no sense by itself and the instruction as a whole does."""
        if refused.draft.refuse == "not_in_scene":
            return refused
        whole = self._answer(slots, instruction, history, signatures, max_tokens, banned)
        return whole if whole.draft.refuse is None else refused

    def _one_by_one(
        self,
        slots: SceneSlots,
        requests: tuple[str, ...],
        history: Sequence[str],
        signatures: Sequence[SkillSignature],
        max_tokens: int,
        banned: Sequence[Ban],
    ) -> list[Generated] | Generated:
        """The answers to requests, each for what the ones before it will leave behind; or the refusal of one."""
        answers: list[Generated] = []
        now, origin = slots, list(range(len(slots)))
        for k, request in enumerate(requests):
            known = _banned_here(banned, sum(len(a.draft.remaining) for a in answers), origin)
            answer = self._answer(now, request_text(request, k), history, signatures, max_tokens, known)
            if answer.draft.refuse is not None and answer.draft.refuse != "nothing_to_do":
                return replace(answer, requests=requests)
            answers.append(_in_slots(answer, origin))
            now, kept = after_steps(now, answer.draft.remaining)
            origin = [origin[k] for k in kept]
        return answers

    @torch.inference_mode()
    def requests(self, slots: SceneSlots, instruction: str) -> tuple[str, ...]:
        """The requests that an instruction is made of, as it words them, in the order in which they are to be done.

        One that holds the whole instruction where there is only one, or where the model was not trained to tell.
        """
        if not self.model.config.max_requests:
            return (instruction,)
        text = prompt_text(instruction)
        words = self.tokenizer.backend_tokenizer.encode(text)
        tokens = torch.tensor([words.ids])
        scores = self.model.requests_of(batch_slots([slots]), tokens, torch.ones_like(tokens, dtype=torch.bool))[0]
        begin = text.index(normalise(instruction))
        end = begin + len(normalise(instruction))
        # A token begins with the space before its word, so that its end says where it belongs.
        inside = [t for t, (_, b) in enumerate(words.offsets) if begin < b <= end]
        spans = best_parting(scores[inside].numpy()) if inside else []
        if len(spans) < 2:
            return (instruction,)
        offsets = [words.offsets[t] for t in inside]
        return tuple(text[offsets[a][0] : offsets[b - 1][1]].strip(" ,.;") for a, b in spans)

    def _together(self, answers: Sequence[Generated], requests: tuple[str, ...]) -> Generated:
        """The answers to the requests as one answer; a request that is fulfilled already adds nothing."""
        steps = [step for a in answers for step in a.draft.remaining]
        refused = all(a.draft.refuse is not None for a in answers)
        draft = replace(answers[0].draft if refused else PlanDraft(answers[-1].draft.done), remaining=tuple(steps))
        arguments: list[dict[str, int]] = []
        tokens: list[int] = []
        for a in answers:
            arguments += [{name: at + len(tokens) for name, at in where.items()} for where in a.argument_tokens]
            tokens += a.tokens
        text = answers[0].text if refused else plan_json(draft.done, steps)
        hidden, logprob = torch.cat([a.hidden for a in answers]), sum(a.logprob for a in answers)
        return Generated(draft, text, tokens, hidden, arguments, logprob, requests)

    def _answer(
        self,
        slots: SceneSlots,
        instruction: str,
        history: Sequence[str],
        signatures: Sequence[SkillSignature],
        max_tokens: int,
        banned: Sequence[Ban],
    ) -> Generated:
        answer = self._decode(slots, instruction, history, signatures, max_tokens, REASONS, banned)
        if answer.draft.refuse == "not_in_scene" and answer.draft.missing in slots.names():
            others = tuple(r for r in REASONS if r != "not_in_scene")
            return self._decode(slots, instruction, history, signatures, max_tokens, others, banned)
        return answer

    def _decode(
        self,
        slots: SceneSlots,
        instruction: str,
        history: Sequence[str],
        signatures: Sequence[SkillSignature],
        max_tokens: int,
        reasons: Sequence[RefusalReason],
        banned: Sequence[Ban],
    ) -> Generated:
        history = history[-MAX_HISTORY:]
        done = [k for k, line in enumerate(history) if line.endswith(" ok")]
        grammar = PlanGrammar(self._grammar_tokens, plan_schema(signatures, slots, done, reasons))
        prompt = self.tokenizer.backend_tokenizer.encode(prompt_text(instruction, history)).ids
        tokens = torch.tensor([prompt])
        scores, _, cache = self.model.prefill(batch_slots([slots]), tokens, torch.ones_like(tokens, dtype=torch.bool))
        out: list[int] = []
        hidden: list[Tensor] = []
        logprob = 0.0
        follower = PlanFollower(slots, banned)
        spelled = any(k.name not in KNOWN_SKILLS for k in signatures)
        while len(out) < max_tokens:
            token, gain = self._choose(scores[0], grammar, spelled, follower)
            chunk: list[int] = []
            logprob += gain
            while token != self.model.config.eos_token_id:
                chunk.append(token)
                grammar.accept(token)
                follower.read(self._texts[token])
                if grammar.finished:
                    break
                following = np.flatnonzero(self._allowed(grammar, spelled, follower))
                if len(following) != 1:
                    break
                token = int(following[0])  # what is forced is read along with what was chosen
            if not chunk:
                break
            steps, states = self.model.extend(torch.tensor([chunk]), cache)
            scores = steps[:, -1]
            out += chunk
            hidden.append(states[0])
            if grammar.finished or token == self.model.config.eos_token_id:
                break
        else:
            raise PlanError("answer", f"longer than {max_tokens} tokens", "Ask for less at once")
        text = _text(self.tokenizer, out)
        states_all = torch.cat(hidden) if hidden else torch.zeros(0, self.model.config.hidden_size)
        return Generated(parse_answer(text), text, out, states_all, self._arguments(out), logprob)

    def _allowed(self, grammar: PlanGrammar, spelled: bool, follower: PlanFollower) -> np.ndarray:
        """Tokens that may come next, in the spelling that the model was trained on.

        A string can be cut into tokens in many ways. The beginning of a longer token that fits is not on offer,
        unless there are skills (`spelled`) whose names the tokenizer has no token for.
        """
        allowed = grammar.allowed()[: self.model.config.vocab_size]
        for token, beginnings in self._beginnings.items():
            if allowed[token] and (not spelled or token in self._names):
                allowed[beginnings] = False
        sensible = allowed.copy()
        for candidate in np.flatnonzero(allowed).tolist():
            sensible[candidate] = follower.fits(self._texts[candidate])
        # Where nothing would make sense the slots are wrong somewhere: better a plan than none.
        return sensible if sensible.any() else allowed

    def _choose(self, scores: Tensor, grammar: PlanGrammar, spelled: bool, follower: PlanFollower) -> tuple[int, float]:
        allowed = torch.from_numpy(self._allowed(grammar, spelled, follower))
        masked = scores.masked_fill(~allowed, -torch.inf)
        token = int(masked.argmax())
        return token, float(torch.log_softmax(masked, dim=-1)[token])

    def _arguments(self, tokens: Sequence[int]) -> list[dict[str, int]]:
        """Where in `tokens` each argument of each step ends."""
        pieces = [self._texts[t] for t in tokens]
        ends = np.cumsum([len(p) for p in pieces])
        text = "".join(pieces)
        found: list[dict[str, int]] = []
        for match in _PAIR.finditer(text, text.find('"remaining"') + 1 or len(text)):
            if match[1] == "skill":
                found.append({})
            elif found:
                found[-1][match[1]] = int(np.searchsorted(ends, match.end(2)))
        return found


def save_language(model: PlannerLanguage, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write configuration, weights (safetensors) and tokenizer."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)


def load_language(folder: Path) -> tuple[PlannerLanguage, PreTrainedTokenizerFast]:
    """Read what `save_language` wrote.

    Raises:
        CheckpointError: the folder holds no such checkpoint, or one that does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import PreTrainedTokenizerFast

    try:
        config = LanguageConfig.from_pretrained(str(folder))
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(folder))
        model = PlannerLanguage(config)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        remedy = "Train one with `python -m hiervla.training.planner_language`, or point to another folder"
        raise CheckpointError(str(folder), str(error).splitlines()[0], remedy) from error
    return model.eval(), tokenizer
