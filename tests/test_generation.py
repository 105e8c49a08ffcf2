"""Likelihood of candidates, greedy writing, and beams under a grammar."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import frames, tiny_vlm
from timevlm.generation import (
    LEAST_SHARE,
    candidate_log_likelihoods,
    generate_answer,
    likely_answers,
    mean_probability,
    read_prompt,
    score_candidates,
    write_lines,
)
from timevlm.tasks.grammar import CaptionLimits, LineGrammar


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


def write(asked, count: int, end: int = -1) -> tuple[list, list]:
    vlm, ids, prompt, _ = asked
    return generate_answer(
        vlm.model,
        ids,
        prompt,
        end_token_id=end,
        pad_token_id=0,
        max_new_tokens=count,
    )


@torch.inference_mode()
def test_writing_stops_at_the_end_token_and_does_not_return_it(asked):
    free, _ = write(asked, count=4)
    end = free[2]
    stop = free.index(end)
    written, log_probabilities = write(asked, count=4, end=end)
    assert written == free[:stop]
    assert len(log_probabilities) == stop + 1  # the end token's probability counts


def log_probability_of(asked, grammar, answer: list[int]) -> float:
    """That of an answer whose every token the grammar allows, read one by one."""
    vlm, _, prompt, _ = asked
    place, state, logits, total = grammar.start(), prompt.state, prompt.logits[:, -1], 0.0
    for token in answer:
        allowed = list(grammar.allowed(place).ids)
        total += float(F.log_softmax(logits[0, allowed], dim=-1)[allowed.index(token)])
        place = grammar.advance(place, token)
        out = vlm.model(input_ids=torch.tensor([[token]]), state=state)
        state, logits = out.state, out.logits[:, -1]
    assert grammar.finished(place)
    return total


@torch.inference_mode()
@pytest.mark.parametrize("num_beams", [1, 4, 400])
def test_beams_find_the_likeliest_of_all_answers(asked, num_beams):
    vlm, _, prompt, memory = asked
    texts = [f"<{a}.0s> - <{b}.0s>" for a in range(4) for b in range(a, 4)]
    grammar = vlm.processor.span_grammar(memory.frame_seconds.tolist(), max_spans=1)
    answers = [tuple(vlm.processor.answer_ids(text)) for text in texts]
    expected = {answer: log_probability_of(asked, grammar, answer) for answer in answers}
    assert math.fsum(map(math.exp, expected.values())) == pytest.approx(1.0, abs=1e-5)
    found = likely_answers(vlm.model, prompt, grammar, num_beams)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert values == pytest.approx([expected[tuple(ids)] for ids, _ in found], abs=1e-5)
    if num_beams == 400:
        least = max(expected.values()) + math.log(LEAST_SHARE)
        assert len(found) == sum(value >= least for value in expected.values())
    else:
        assert len(found) <= num_beams


@torch.inference_mode()
def test_one_beam_takes_the_likeliest_token_that_is_allowed(asked):
    vlm, _, prompt, memory = asked
    grammar = vlm.processor.span_grammar(memory.frame_seconds.tolist(), max_spans=3)
    ((ids, log_probability),) = likely_answers(vlm.model, prompt, grammar, 1)
    assert log_probability == pytest.approx(log_probability_of(asked, grammar, ids), abs=1e-4)
    place, out = grammar.start(), prompt
    for token in ids:
        allowed = list(grammar.allowed(place).ids)
        assert token == allowed[int(out.logits[0, -1, allowed].argmax())]
        place = grammar.advance(place, token)
        out = vlm.model(input_ids=torch.tensor([[token]]), state=out.state)


@torch.inference_mode()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_lines_are_chosen_of_those_likely_after_the_last_one(asked, num_beams):
    vlm, _, prompt, memory = asked
    limits = CaptionLimits(max_lines=3, max_words=2, max_word_tokens=2)
    grammar = vlm.processor.caption_grammar(memory.frame_seconds.tolist(), limits=limits)

    def last(found: list[tuple[list[int], float]]) -> tuple[int, list[int]]:
        return len(found) - 1, found[-1][0]

    settings = {"num_beams": num_beams, "max_tokens": 100}
    lines = write_lines(vlm.model, prompt, grammar, last, **settings)
    place, out = grammar.start(), prompt
    for ids in lines:
        found = likely_answers(vlm.model, out, LineGrammar(grammar, place), num_beams)
        assert ids == found[-1][0]
        for token in ids:
            place = grammar.advance(place, token)
            out = vlm.model(input_ids=torch.tensor([[token]]), state=out.state)
    assert grammar.finished(place)
    cut = write_lines(vlm.model, prompt, grammar, last, num_beams=num_beams, max_tokens=1)
    assert cut == lines[:1]


def test_mean_probability_is_the_geometric_mean():
    assert mean_probability([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert mean_probability([0.0]) == 1.0
    assert mean_probability([]) == 0.0
