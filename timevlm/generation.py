"""Decoding answers: likelihood of candidates, and generation under a token grammar."""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from timevlm.errors import InputError
from timevlm.model import TimeVLMForConditionalGeneration, TimeVLMOutput
from timevlm.tasks.grammar import AllowedTokens, CaptionGrammar, LineGrammar

Line = TypeVar("Line")

LEAST_SHARE = 1e-3  # of the best answer's probability: answers below it change nothing


def check_beams(num_beams: int) -> None:
    """Raises `InputError` for a number of beams that cannot be searched with."""
    if num_beams < 1:
        raise InputError(f"num_beams is {num_beams}; search with at least 1")


def set_seed(seed: int) -> None:
    """Seed torch's generators. Raises `InputError` for a number that is no 64-bit integer."""
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"seed {seed} does not fit into 64 bits; give a smaller number")
    torch.manual_seed(seed)


class Grammar(Protocol):
    """Which tokens may follow; states are values (see `timevlm.tasks.grammar`)."""

    def start(self) -> object:
        """The state before the first token."""

    def allowed(self, state: object) -> AllowedTokens:
        """Tokens that may come next."""

    def advance(self, state: object, token_id: int) -> object:
        """The state after a token."""

    def finished(self, state: object) -> bool:
        """Whether the answer is complete."""


def read_prompt(
    model: TimeVLMForConditionalGeneration, state: object, prompt_ids: Sequence[int]
) -> TimeVLMOutput:
    """Read a prompt after a watched video: next-token logits, and the state that follows."""
    ids = torch.tensor([list(prompt_ids)], device=model.device)
    return model(input_ids=ids, state=state)


def candidate_log_likelihoods(
    model: TimeVLMForConditionalGeneration,
    prompt: TimeVLMOutput,
    candidates: Sequence[Sequence[int]],
) -> list[float]:
    """Log-probability of each candidate answer, its end token included, after the prompt."""
    return [total for total, _ in score_candidates(model, prompt, candidates)]


def score_candidates(
    model: TimeVLMForConditionalGeneration,
    prompt: TimeVLMOutput,
    candidates: Sequence[Sequence[int]],
) -> list[tuple[float, bool]]:
    """(log-probability, whether it is the greedy answer) of each candidate, end token included.

    Every candidate forks the prompt's state; one after the other, so that a long memory's keys
    are not copied once per candidate.
    """
    first = F.log_softmax(prompt.logits[0, -1], dim=-1)
    results = []
    for candidate in candidates:
        total = float(first[candidate[0]])
        is_greedy = int(first.argmax()) == candidate[0]
        if len(candidate) > 1:
            ids = torch.tensor([list(candidate)], device=model.device)
            out = model(input_ids=ids[:, :-1], state=prompt.state)
            log_probabilities = F.log_softmax(out.logits[0], dim=-1)
            total += float(log_probabilities.gather(1, ids[0, 1:, None]).sum())
            is_greedy = is_greedy and torch.equal(log_probabilities.argmax(dim=-1), ids[0, 1:])
        results.append((total, is_greedy))
    return results


def generate_answer(
    model: TimeVLMForConditionalGeneration,
    prompt_ids: Sequence[int],
    prompt: TimeVLMOutput,
    *,
    end_token_id: int,
    pad_token_id: int,
    max_new_tokens: int,
) -> tuple[list[int], list[float]]:
    """Greedy answer ids without the end token, and the log-probability of every token written.

    The end token's is included.
    """
    ids = torch.tensor([list(prompt_ids)], device=model.device)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        prompt_output=prompt,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_token_id,
        pad_token_id=pad_token_id,
        return_dict_in_generate=True,
        output_scores=True,
    )
    written = out.sequences[0, ids.shape[1] :].tolist()
    log_probabilities = [
        float(F.log_softmax(scores[0].float(), dim=-1)[token])
        for token, scores in zip(written, out.scores, strict=True)
    ]
    if written and written[-1] == end_token_id:
        written = written[:-1]
    return written, log_probabilities


class _Beam(NamedTuple):
    """An answer in work; row: that of the batch which it goes on from."""

    log_probability: float
    ids: tuple[int, ...]
    place: object  # state of the grammar
    row: int


def likely_answers(
    model: TimeVLMForConditionalGeneration, prompt: TimeVLMOutput, grammar: Grammar, num_beams: int
) -> list[tuple[list[int], float]]:
    """Ids and log-probability of the likeliest whole answers, at most `num_beams`, best first.

    Found by a beam search that gives nothing for length. Probabilities are those after the grammar,
    among allowed tokens; answers with less than LEAST_SHARE of the best one's are left out. The
    token that ends an answer is its last. Beams share what was read of the video.
    """
    beams, live = [], [_Beam(0.0, (), grammar.start(), 0)]
    state, logits = prompt.state, prompt.logits[:, -1]
    while True:
        done = [beam for beam in beams if grammar.finished(beam.place)]
        beams = [*done, *_grown(live, logits, grammar, num_beams)]
        beams = heapq.nlargest(num_beams, beams, key=lambda beam: beam.log_probability)
        least = beams[0].log_probability + math.log(LEAST_SHARE)
        beams = [beam for beam in beams if beam.log_probability >= least]
        live = [beam for beam in beams if not grammar.finished(beam.place)]
        if not live:
            return [(list(beam.ids), beam.log_probability) for beam in beams]
        if state.batch_size == 1:
            state = state.shared_by(len(live))
        else:
            state = state.select_rows(torch.tensor([b.row for b in live], device=logits.device))
        last = torch.tensor([beam.ids[-1:] for beam in live], device=logits.device)
        out = model(input_ids=last, state=state)
        state, logits = out.state, out.logits[:, -1]


def write_lines(
    model: TimeVLMForConditionalGeneration,
    prompt: TimeVLMOutput,
    grammar: CaptionGrammar,
    choose: Callable[[Sequence[tuple[list[int], float]]], tuple[int, Line]],
    *,
    num_beams: int,
    max_tokens: int,
) -> list[Line]:
    """Every line of an answer, chosen of those that are likely after the last one.

    choose gives the index of the best of `likely_answers` and what it makes of it. The last token
    of a line is the one that ends it. No line is begun after `max_tokens`.
    """
    lines, place, num_tokens = [], grammar.start(), 0
    while num_tokens < max_tokens:
        found = likely_answers(model, prompt, LineGrammar(grammar, place), num_beams)
        best, line = choose(found)
        ids, _ = found[best]
        lines.append(line)
        num_tokens += len(ids)
        for token in ids:
            place = grammar.advance(place, token)
        if grammar.finished(place):
            break
        prompt = model(input_ids=torch.tensor([ids], device=model.device), state=prompt.state)
    return lines


def _grown(live: Sequence[_Beam], logits: Tensor, grammar: Grammar, num_beams: int) -> list[_Beam]:
    """The likeliest answers that are one token longer than those of the rows of logits (B, V)."""
    rows_that_allow = defaultdict(list)  # most stand inside words, where the same is allowed
    for row, beam in enumerate(live):
        rows_that_allow[grammar.allowed(beam.place).ids].append(row)
    forbidden = torch.full(logits.shape, -torch.inf)
    for ids, rows in rows_that_allow.items():
        forbidden[torch.tensor(rows)[:, None], torch.tensor(ids)] = 0.0
    scores = F.log_softmax(logits.float() + forbidden.to(logits.device), dim=-1)
    scores += scores.new_tensor([[beam.log_probability] for beam in live])
    best = scores.flatten().topk(min(num_beams, scores.numel()))
    grown = []
    for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row, token = divmod(index, logits.shape[1])
        if score > -math.inf:
            place = grammar.advance(live[row].place, token)
            grown.append(_Beam(score, (*live[row].ids, token), place, row))
    return grown


def mean_probability(log_probabilities: Sequence[float]) -> float:
    """Geometric mean of token probabilities, 0..1: the confidence of a written answer."""
    if not log_probabilities:
        return 0.0
    return math.exp(sum(log_probabilities) / len(log_probabilities))
