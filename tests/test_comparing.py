"""What things measure where the words of a question look, compared."""

import math
from itertools import pairwise

import pytest
import torch

from tests.helpers import check_answer_rests_on, tiny_config, tiny_model, tiny_processor
from timevlm.comparing import (
    COMPARED,
    MEASURES,
    ComparePointer,
    Comparison,
    LengthPointer,
    seconds_seen,
)
from timevlm.errors import ModelError
from timevlm.llm.attention import Looks
from timevlm.pointer import asked_words
from timevlm.vision.times import timestamp_words

NAMED, SIDES = [11, 7, 30], [20, 21, 22, 23]
SECONDS = [95.0, 312.5, 1000.0]
VALUE_SIZE, HIDDEN_SIZE, VOCABULARY = 5, 8, 40


@pytest.fixture
def pointer() -> ComparePointer:
    torch.manual_seed(0)
    pointer = ComparePointer(NAMED, SIDES, VALUE_SIZE, HIDDEN_SIZE)
    with torch.no_grad():
        for parameter in pointer.parameters():
            parameter.normal_()
    return pointer


def slow_twin(
    pointer: ComparePointer,
    ids: list[int],
    looks: torch.Tensor,
    matches: list[float],
    values: torch.Tensor,
):
    """Word by word: what each named word sees, less the mean of all; the first less the last.

    Of a word that stands twice the last counts.
    """
    step = min(later - earlier for earlier, later in pairwise(SECONDS))
    seen, order = {}, []
    for place, (token, row) in enumerate(zip(ids, looks, strict=True)):
        if token not in NAMED or token in ids[place + 1 :]:
            continue
        read = sum(w * pointer.read(value) for w, value in zip(row, values, strict=True)).tolist()
        entropy = -sum(float(w) * math.log(w) for w in row)
        seen[token] = [*read[2:], entropy + math.log(step), matches[place]]
        order.append(read[:2])
    means = [sum(column) / len(seen) for column in zip(*seen.values(), strict=True)]
    more = [
        [a - b for a, b in zip(seen[token], means, strict=True)] if token in seen else [0.0] * 4
        for token in NAMED
    ]
    apart = [a - b for a, b in zip(order[0], order[-1], strict=True)] if order else [0.0, 0.0]
    return more, apart


@torch.inference_mode()
@pytest.mark.parametrize("ids", [[3, 7, 4, 11, 5], [7, 11, 4, 7, 5], [30, 3, 3, 3, 3], [3] * 5])
def test_words_are_compared_by_what_they_look_at(pointer, ids):
    assert (len(MEASURES), len(COMPARED)) == (4, 4)
    looks, values = torch.rand(1, 5, 3).softmax(dim=-1), torch.randn(1, 3, VALUE_SIZE)
    words = timestamp_words(torch.tensor(SECONDS, dtype=torch.float64))[None]
    text, marks = (
        (torch.tensor([ids]), torch.ones(1, 5, dtype=torch.bool)),
        (words, torch.tensor([3])),
    )
    matches = torch.randn(1, 5)
    found = pointer.compare(
        asked_words(text[0], NAMED, text[1]), Looks(looks, matches, values), marks
    )
    more, apart = slow_twin(pointer, ids, looks[0], matches[0].tolist(), values[0])
    torch.testing.assert_close(found.more[0], torch.tensor(more), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.apart[0], torch.tensor(apart), rtol=1e-4, atol=1e-5)
    # What is padded, or comes after the question, changes nothing.
    longer = torch.tensor([[*ids, 11, 30]]), torch.nn.functional.pad(text[1], (0, 2))
    wider = torch.nn.functional.pad(looks, (0, 2))
    wider = torch.cat([wider, torch.rand(1, 2, 5)], dim=1)
    more_values = torch.cat([values, torch.randn(1, 2, VALUE_SIZE)], dim=1)
    padded = torch.nn.functional.pad(words, (0, 0, 0, 2)), marks[1]
    matches = torch.nn.functional.pad(matches, (0, 2), value=9.0)
    stands = asked_words(longer[0], NAMED, longer[1])
    again = pointer.compare(stands, Looks(wider, matches, more_values), padded)
    torch.testing.assert_close(again.more, found.more)
    torch.testing.assert_close(again.apart, found.apart)


@torch.inference_mode()
def test_words_are_raised_within_their_own_probability(pointer):
    logits, hidden = torch.randn(1, 4, VOCABULARY), torch.randn(1, 4, HIDDEN_SIZE)
    compared = Comparison(torch.randn(1, 3, 4), torch.tensor([[0.2, -0.1]]))
    found = pointer(logits, hidden, compared)
    for words in (NAMED, SIDES):
        torch.testing.assert_close(
            found[..., words].logsumexp(dim=-1), logits[..., words].logsumexp(dim=-1)
        )
    others = [i for i in range(VOCABULARY) if i not in NAMED + SIDES]
    assert torch.equal(found[..., others], logits[..., others])
    with torch.no_grad():
        pointer.weight.zero_()
        pointer.side_weight.zero_()
    torch.testing.assert_close(pointer(logits, hidden, compared), logits)


@torch.inference_mode()
def test_what_is_bigger_and_further_right_is_said_so(pointer):
    hidden = torch.zeros(1, 1, HIDDEN_SIZE)
    hidden[..., 0] = 1.0
    with torch.no_grad():
        pointer.weight.zero_()
        pointer.side_weight.zero_()
        pointer.weight[COMPARED.index("log radius"), 0] = 1.0
        pointer.side_weight[:, 0] = 1.0
    more = torch.zeros(1, 3, 4)
    more[0, :, COMPARED.index("log radius")] = torch.tensor([0.3, -0.3, 0.0])
    found = pointer(
        torch.zeros(1, 1, VOCABULARY), hidden, Comparison(more, torch.tensor([[0.3, 0.02]]))
    )[0, 0]
    assert found[NAMED].argsort(descending=True).tolist() == [0, 2, 1]
    assert found[SIDES].argsort(descending=True).tolist() == [1, 3, 2, 0]


@torch.inference_mode()
def test_an_answer_knows_what_its_question_compared():
    processor = tiny_processor()
    sides = [processor.answer_ids(f"a {word}")[1] for word in ("red", "blue", "star", "ring")]
    model = tiny_model(side_token_ids=sides)
    # Of a trained model's size: weights of 1 would raise words by hundreds, with as large errors.
    model.comparing.weight.normal_(std=0.1)
    model.comparing.side_weight.normal_(std=0.1)
    asked = "Which comes first, the red circle or the blue star?", "the blue star"
    check_answer_rests_on(model.comparing.weight, model, *asked)


def test_sides_must_be_four_of_a_model_that_knows_names():
    with pytest.raises(ModelError, match="must be four"):
        tiny_config(side_token_ids=[1, 2])
    with pytest.raises(ModelError, match="with named_token_ids"):
        tiny_config(side_token_ids=[1, 2, 3, 4], named_token_ids=None)


def test_what_is_looked_at_is_seen_for_as_long_as_its_frames():
    """Two tokens a frame, two seconds apart; stray looks count as frames, wherever they are."""
    seconds = torch.arange(7000.0, 7040.0, 2.0, dtype=torch.float64).repeat_interleave(2)
    marks = timestamp_words(seconds)[None], torch.tensor([40])
    even, one, stray = torch.zeros(3, 40)
    even[10:22] = 1 / 12
    one[5] = 1.0
    stray[10:22], stray[39] = 0.95 / 12, 0.05
    near = stray.clone()
    near[39], near[22] = 0.0, 0.05
    found = seconds_seen(torch.stack([even, one, stray, near])[None], marks)[0]
    assert found[:2].tolist() == pytest.approx([12.0, 2.0], rel=1e-5)
    assert float(found[2]) == pytest.approx(float(found[3]), rel=1e-5)
    assert 12.0 < float(found[2]) < 14.0
    single = timestamp_words(seconds[:1])[None], torch.tensor([1])
    assert float(seconds_seen(torch.ones(1, 1, 1), single)) == 1.0


def test_looks_that_are_nowhere_have_gradients():
    marks = timestamp_words(torch.arange(4.0, dtype=torch.float64))[None], torch.tensor([4])
    scores = torch.tensor([[[0.0, 1.0, -200.0, 0.5]]], requires_grad=True)
    seconds_seen(scores.softmax(dim=-1), marks).sum().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad.any()


@torch.inference_mode()
def test_numbers_near_to_how_long_what_is_looked_at_is_seen_are_raised():
    numbers = list(range(8, 20))
    pointer = LengthPointer(numbers, HIDDEN_SIZE)
    pointer.weight[0] = 1.0
    seconds = torch.arange(40_000.0, 40_021.0, dtype=torch.float64)
    marks = timestamp_words(seconds)[None]
    hidden = torch.zeros(1, 2, HIDDEN_SIZE)
    hidden[..., 0] = 1.0
    looks = torch.zeros(1, 2, 21)
    looks[0, 0, 4:9] = 1 / 5  # five frames, which last five seconds
    looks[0, 1, 3:14] = 1 / 11
    found = pointer(torch.zeros(1, 2, VOCABULARY), hidden, looks, (marks, torch.tensor([21])))
    assert found[0, :, numbers].argmax(dim=-1).tolist() == [5, 11]
    total = torch.zeros(len(numbers)).logsumexp(dim=0)
    torch.testing.assert_close(found[..., numbers].logsumexp(dim=-1), total.expand(1, 2))
    padded = torch.nn.functional.pad(marks, (0, 0, 0, 3)), torch.tensor([21])
    again = pointer(
        torch.zeros(1, 2, VOCABULARY), hidden, torch.nn.functional.pad(looks, (0, 3)), padded
    )
    torch.testing.assert_close(again, found)
    pointer.weight.zero_()
    logits = torch.randn(1, 2, VOCABULARY)
    torch.testing.assert_close(pointer(logits, hidden, looks, (marks, padded[1])), logits)
