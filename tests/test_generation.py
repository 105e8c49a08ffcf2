"""Likelihood of candidates, and greedy writing under a grammar."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import frames, tiny_vlm
from timevlm.generation import (
    LEAST_SHARE,
    GrammarLogits,
    candidate_log_likelihoods,
    generate_answer,
    likely_answers,
    mean_probability,
    part_probabilities,
    read_prompt,
    score_candidates,
)
from timevlm.tasks.grammar import AllowedTokens

END = 0


class Alternating:
    """Allows 7, then 9, then the end; a state is the number of tokens so far."""

    steps = ((7,), (9, 11), (END,))

    def start(self) -> int:
        return 0

    def allowed(self, state: int) -> AllowedTokens:
        return AllowedTokens(self.steps[state])

    def advance(self, state: int, token_id: int) -> int:
        if token_id not in self.steps[state]:
            raise ValueError(f"{token_id} at {state}")
        return state + 1

    def finished(self, state: int) -> bool:
        return state == len(self.steps)


@pytest.fixture(scope="module")
def asked():
    """A model, a prompt's ids, and what reading them after a video gave."""
    vlm = tiny_vlm()
    memory = vlm.watch(frames(4))
    ids = vlm.processor.prompt_ids("What colour is the circle?")
    with torch.inference_mode():
        return vlm, ids, read_prompt(vlm.model, memory.state, ids), memory


@torch.inference_mode()
def test_likelihood_equals_one_pass_over_prompt_and_answer(asked):
    vlm, ids, prompt, memory = asked
    candidates = [vlm.processor.answer_ids(text) for text in ("red", "the blue star", "")]
    found = candidate_log_likelihoods(vlm.model, prompt, candidates)
    for candidate, value in zip(candidates, found, strict=True):
        rows = torch.tensor([[*ids, *candidate]])
        labels = torch.full_like(rows, -100)
        labels[0, len(ids) :] = rows[0, len(ids) :]
        loss = vlm.model(input_ids=rows, state=memory.state, labels=labels).loss
        assert value == pytest.approx(-float(loss) * len(candidate), abs=1e-4)


@torch.inference_mode()
def test_likelihoods_of_all_single_tokens_are_a_distribution(asked):
    vlm, _, prompt, _ = asked
    vocabulary = prompt.logits.shape[-1]
    found = candidate_log_likelihoods(vlm.model, prompt, [[i] for i in range(vocabulary)])
    assert math.fsum(map(math.exp, found)) == pytest.approx(1.0, abs=1e-4)


@torch.inference_mode()
def test_free_writing_is_greedy(asked):
    vlm, _, prompt, _ = asked
    written, log_probabilities = write(asked, count=5)
    out = prompt
    for token, value in zip(written, log_probabilities, strict=True):
        scores = F.log_softmax(out.logits[0, -1], dim=-1)
        assert token == int(scores.argmax())
        assert value == pytest.approx(float(scores[token]), abs=1e-5)
        out = vlm.model(input_ids=torch.tensor([[token]]), state=out.state)
    assert len(written) == 5


@torch.inference_mode()
def test_only_what_would_be_written_is_the_greedy_answer(asked):
    vlm, _, prompt, _ = asked
    written, log_probabilities = write(asked, count=5)
    others = [[*written[:place], written[place] + 1, *written[place + 1 :]] for place in (0, 2, 4)]
    found = score_candidates(vlm.model, prompt, [written, written[:1], *others])
    assert [is_greedy for _, is_greedy in found] == [True, True, False, False, False]
    assert found[0][0] == pytest.approx(sum(log_probabilities), abs=1e-4)


def write(asked, count: int, end: int = -1, grammar: object = None) -> tuple[list, list]:
    vlm, ids, prompt, _ = asked
    return generate_answer(
        vlm.model,
        ids,
        prompt,
        end_token_id=end,
        pad_token_id=0,
        max_new_tokens=count,
        grammar=grammar,
    )


@torch.inference_mode()
def test_writing_stops_at_the_end_token_and_does_not_return_it(asked):
    free, _ = write(asked, count=4)
    end = free[2]
    stop = free.index(end)
    written, log_probabilities = write(asked, count=4, end=end)
    assert written == free[:stop]
    assert len(log_probabilities) == stop + 1  # the end token's probability counts


@torch.inference_mode()
def test_a_grammar_is_obeyed_and_probabilities_are_those_it_leaves(asked):
    vlm, _, prompt, _ = asked
    written, log_probabilities = write(asked, count=10, end=END, grammar=Alternating())
    assert written in ([7, 9], [7, 11])
    assert log_probabilities[0] == log_probabilities[2] == 0.0  # there was no other choice
    out = vlm.model(input_ids=torch.tensor([[7]]), state=prompt.state)
    pair = F.log_softmax(out.logits[0, -1, [9, 11]], dim=-1)
    assert log_probabilities[1] == pytest.approx(float(pair.max()), abs=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("num_beams", [1, 4, 400])
def test_beams_find_the_likeliest_of_all_answers(asked, num_beams):
    vlm, _, prompt, memory = asked
    texts = [f"<{a}.0s> - <{b}.0s>" for a in range(4) for b in range(a, 4)]
    ids = [vlm.processor.answer_ids(text) for text in texts]
    grammar = vlm.processor.span_grammar(memory.frame_seconds.tolist(), max_spans=1)
    probability = {}
    for answer in ids:
        place, state, logits, total = grammar.start(), prompt.state, prompt.logits[:, -1], 0.0
        for token in answer:
            allowed = list(grammar.allowed(place).ids)
            total += float(F.log_softmax(logits[0, allowed], dim=-1)[allowed.index(token)])
            place = grammar.advance(place, token)
            out = vlm.model(input_ids=torch.tensor([[token]]), state=state)
            state, logits = out.state, out.logits[:, -1]
        probability[tuple(answer[:-1])] = math.exp(total)
    assert math.fsum(probability.values()) == pytest.approx(1.0, abs=1e-5)
    found = likely_answers(vlm.model, prompt, grammar, num_beams)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert values == pytest.approx([probability[tuple(answer)] for answer, _ in found], abs=1e-6)
    if num_beams == 400:
        least = LEAST_SHARE * max(probability.values())
        assert len(found) == sum(value >= least for value in probability.values())
    else:
        assert len(found) <= num_beams


@torch.inference_mode()
def test_one_beam_writes_greedily(asked):
    vlm, _, prompt, memory = asked
    grammar = vlm.processor.span_grammar(memory.frame_seconds.tolist(), max_spans=3)
    end = vlm.processor.end_token_id
    written, log_probabilities = write(asked, count=60, end=end, grammar=grammar)
    ((ids, probability),) = likely_answers(vlm.model, prompt, grammar, 1)
    assert ids == written
    assert probability == pytest.approx(math.exp(sum(log_probabilities)), rel=1e-4)


def test_grammar_masks_all_but_the_allowed_and_nothing_when_done():
    processor = GrammarLogits(Alternating(), prompt_length=2)
    scores = torch.arange(15.0)[None]
    ids = [3, 3]
    for step in ((7,), (9, 11), (END,)):
        masked = processor(torch.tensor([ids]), scores)
        assert torch.isfinite(masked[0]).nonzero().flatten().tolist() == sorted(step)
        assert torch.equal(masked[0, list(step)], scores[0, list(step)])
        ids.append(step[0])
    assert torch.equal(processor(torch.tensor([ids]), scores), scores)


def test_mean_probability_is_the_geometric_mean():
    assert mean_probability([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert mean_probability([0.0]) == 1.0
    assert mean_probability([]) == 0.0


def test_parts_of_an_answer_have_probabilities_of_their_own():
    logs = [math.log(p) for p in (0.5, 0.125, 0.9, 1.0, 0.9, 0.1)]
    parts = part_probabilities([4, 5, 7, 8, 6], logs, [7, 8])  # the end token's is left out
    assert parts == pytest.approx([0.25, 0.81 ** (1 / 3)])
    assert part_probabilities([4, 5, 6], logs[:3], [7]) == [mean_probability(logs[:3])]
    assert part_probabilities([7, 5], logs[:2], [7]) == [mean_probability(logs[:2])]
