"""Questions as typed lose small words and nothing else."""

import random

from timevlm.synth.full.wording import QUESTION_WORDINGS
from timevlm.training.typed import TYPED_SHARE, as_typed

SMALL = {"a", "an", "the", "is", "are", "does", "do", "there", "that", "it"}


def is_subsequence(words, of):
    rest = iter(of)
    return all(word in rest for word in words)


def test_what_is_left_is_in_order_and_only_small_words_are_gone():
    rng, changed = random.Random(0), 0
    patterns = [p for group in QUESTION_WORDINGS.values() for p in group.shared]
    for pattern in patterns * 5:
        typed = as_typed(pattern, rng)
        words, left = (text.removesuffix("?").split(" ") for text in (pattern, typed))
        assert left[0] == words[0]
        assert is_subsequence(left, words)
        assert set(words) - set(left) <= SMALL
        changed += typed != pattern
    assert 0.5 * TYPED_SHARE < changed / (5 * len(patterns)) < TYPED_SHARE


def test_it_follows_from_the_draws():
    text = "Which of the objects is the one that the video does not show?"
    typed = [as_typed(text, random.Random(seed)) for seed in range(50)]
    assert typed == [as_typed(text, random.Random(seed)) for seed in range(50)]
    assert len(set(typed)) > 5
