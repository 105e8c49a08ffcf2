"""Trust: full where a model knows what it is asked, none where it does not, ranking untouched."""

import math
import random

import pytest

from timevlm.choosing import ranked_confidences
from timevlm.tasks.confidence import NONE_WEIGHT, choices_trust, question_trust, trusted


def test_choices_that_hold_the_probability_are_trusted():
    assert choices_trust([math.log(0.7), math.log(0.3)]) == pytest.approx(1.0)
    assert choices_trust([math.log(0.2), math.log(0.01)]) > 0.999
    half = choices_trust([math.log(NONE_WEIGHT / 2)] * 2)
    assert half == pytest.approx(0.5, abs=1e-3)
    assert choices_trust([-40.0, -200.0]) < 1e-12
    assert choices_trust([-2000.0, -3000.0]) == 0.0  # less than the smallest number


def test_choices_that_cannot_be_said_are_not_trusted():
    sure = [math.log(0.9), math.log(0.05), -50.0, -60.0]
    assert choices_trust(sure, num_unknown=2) == pytest.approx(0.5, abs=1e-3)
    assert choices_trust(sure, num_unknown=4) == 0.0


def test_every_unknown_word_of_the_question_counts():
    assert [question_trust(n) for n in range(4)] == [1.0, 0.5, 0.25, 0.125]


def test_what_is_not_trusted_is_shared_by_all():
    assert trusted([0.9, 0.1], 1.0) == pytest.approx([0.9, 0.1])
    assert trusted([0.9, 0.1], 0.0) == [0.5, 0.5]
    assert trusted([0.9, 0.1, 0.0, 0.0], 0.5) == pytest.approx([0.575, 0.175, 0.125, 0.125])


def test_the_likeliest_choice_is_taken_whatever_the_trust():
    rng = random.Random(0)
    for _ in range(300):
        scores = [-(10 ** rng.uniform(-3, 3)) for _ in range(rng.randint(2, 6))]
        num_unknown, trust = rng.randint(0, len(scores)), rng.random()
        best, confidences = ranked_confidences(scores, 1.7, num_unknown=num_unknown, trust=trust)
        assert scores[best] == max(scores)
        assert math.fsum(confidences) == pytest.approx(1.0)
        assert confidences[best] == max(confidences)
        order = sorted(range(len(scores)), key=lambda i: scores[i])
        ranked = [confidences[i] for i in order]
        assert ranked == sorted(ranked)
