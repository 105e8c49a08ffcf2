"""The clauses that a question lists are ordered by what their last words look at."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import check_answer_rests_on, tiny_config, tiny_model, tiny_processor
from timevlm.clauses import ClausePointer
from timevlm.errors import ModelError
from timevlm.pointer import GAIN, NEAR, when_seen
from timevlm.vision.times import timestamp_words

COMMA, STOP = 1, 2
HIDDEN_SIZE, VOCABULARY = 8, 20
SECONDS = [95.0, 312.5, 1000.0]


def slow_twin(ids: list[int], looks: torch.Tensor) -> list[float]:
    """Clause by clause: when its last word looks, less the mean; of a word, the mean of its own."""
    places = [(t - SECONDS[0]) / (SECONDS[-1] - SECONDS[0]) for t in SECONDS]
    clauses, words = [], []
    for place, token in enumerate(ids):
        if token not in (COMMA, STOP):
            words.append((token, place))
        else:
            if words:
                when = sum(float(w) * p for w, p in zip(looks[words[-1][1]], places, strict=True))
                clauses.append(({token for token, _ in words}, when))
            words = []
    mean = sum(when for _, when in clauses) / max(1, len(clauses))
    late = [[when - mean for tokens, when in clauses if token in tokens] for token in range(20)]
    return [sum(each) / len(each) if each else 0.0 for each in late]


@torch.inference_mode()
@pytest.mark.parametrize(
    "ids",
    [
        [3, 4, COMMA, 3, 5, 6, COMMA, 3, 7, STOP, 8],
        [9, 9, 3, COMMA, COMMA, 4, STOP, 5, 6, 7, 8],
        [COMMA, 3, 4, 5, STOP, 3, 4, 5, 6, 7, 8],
        [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    ],
)
def test_words_are_as_late_as_their_clauses(ids):
    pointer = ClausePointer([COMMA, STOP], VOCABULARY, HIDDEN_SIZE)
    looks = torch.rand(1, len(ids), 3).softmax(dim=-1)
    marks = timestamp_words(torch.tensor(SECONDS, dtype=torch.float64))[None], torch.tensor([3])
    asks = torch.ones(1, len(ids), dtype=torch.bool)
    found = pointer.lateness(torch.tensor([ids]), asks, when_seen(looks, *marks))
    torch.testing.assert_close(found[0], torch.tensor(slow_twin(ids, looks[0])))
    # What is padded, or does not ask, changes nothing; nor do other rows.
    longer = torch.tensor([[*ids, COMMA, 3, STOP], [3, COMMA, 4, COMMA, *ids[:-1]]])
    asks = torch.stack([F.pad(asks[0], (0, 3)), torch.ones(len(ids) + 3, dtype=torch.bool)])
    wider = F.pad(looks, (0, 2, 0, 3)).expand(2, -1, -1)
    padded = F.pad(marks[0], (0, 0, 0, 2)).expand(2, -1, -1), marks[1].expand(2)
    again = pointer.lateness(longer, asks, when_seen(wider, *padded))
    torch.testing.assert_close(again[:1], found)


@torch.inference_mode()
def test_words_are_raised_by_their_lateness():
    pointer = ClausePointer([COMMA, STOP], VOCABULARY, HIDDEN_SIZE)
    logits, hidden = torch.randn(1, 4, VOCABULARY), torch.randn(1, 4, HIDDEN_SIZE)
    lateness = torch.zeros(1, VOCABULARY)
    lateness[0, 4], lateness[0, 7] = 0.2, -0.1
    torch.testing.assert_close(pointer(logits, hidden, lateness), logits)
    pointer.weight.normal_()
    weight = GAIN * hidden @ pointer.weight
    expected = logits + weight[..., None] * lateness / (lateness.abs() + NEAR)
    torch.testing.assert_close(pointer(logits, hidden, lateness), expected)


@torch.inference_mode()
def test_an_answer_knows_the_clauses_of_its_question():
    marks = tiny_processor().tokenizer.convert_tokens_to_ids([",", "."])
    model = tiny_model(separator_token_ids=marks)
    model.clauses.weight.normal_(std=0.1)
    asked = "Which of these is first? the red circle moves left, the star grows.", "the star grows"
    state = check_answer_rests_on(model.clauses.weight, model, *asked)
    assert int((state.clause_lateness != 0).sum()) > 3


def test_clauses_are_of_a_model_that_knows_names():
    with pytest.raises(ModelError, match="separator_token_ids"):
        tiny_config(separator_token_ids=[1], named_token_ids=None)
