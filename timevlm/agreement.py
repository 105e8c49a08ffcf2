"""Answers of the least expected error: of what is likely, what most of it agrees with.

The likeliest text need not be the best answer. Where a model is unsure of a few ends, each text has
little probability, and the first of them may tell a span that hardly any other does. So answers are
compared by what they say, not as tokens: the best has the most gain to be expected, if the truth is
as likely to be each answer as the model says. After minimum Bayes risk decoding (Kumar and Byrne,
HLT-NAACL 2004, section 2). The gain of spans is their intersection over union (IoU), and once more
one where that is at least FOUND_IOU; that of a caption is its span's times the F1 of its items.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Spans = Sequence[tuple[float, float]]

FOUND_IOU = 0.5  # from where on a span counts as found


def overlap_seconds(first: Spans, second: Spans) -> float:
    """Seconds that two sets of disjoint spans share."""
    return sum(max(0.0, min(e1, e2) - max(s1, s2)) for s1, e1 in first for s2, e2 in second)


def interval_iou(first: Spans, second: Spans) -> float:
    """Length of the intersection over that of the union, of two sets of disjoint spans.

    Spans that last no time, as in a video of one frame, have 1 with their equals.
    """
    shared = overlap_seconds(first, second)
    union = sum(e - s for s, e in first) + sum(e - s for s, e in second) - shared
    return shared / union if union > 0 else float(bool(first) and list(first) == list(second))


def most_agreed(answers: Sequence[tuple[Spans, float]]) -> list[tuple[float, float, float]]:
    """The best of (spans, probability) answers, as (start, end, score) of its spans.

    A span's score is the chance that it is right: the share of probability of the answers that hold
    a span with an IoU of at least FOUND_IOU with it. The first of equals is the best. Probabilities
    sum to one.
    """

    def gain(spans: Spans) -> float:
        return sum(probability * _gain(spans, other) for other, probability in answers)

    def score(span: tuple[float, float]) -> float:
        holding = [
            probability
            for spans, probability in answers
            if any(interval_iou([span], [other]) >= FOUND_IOU for other in spans)
        ]
        return min(1.0, sum(holding))

    best = max((spans for spans, _ in answers), key=gain)
    return [(start, end, score((start, end))) for start, end in best]


class LikelyCaption(NamedTuple):
    """What a caption of this probability tells: a span and the items that it lists."""

    span: tuple[float, float]
    items: Sequence[str]
    probability: float


def most_agreed_caption(captions: Sequence[LikelyCaption]) -> tuple[int, float]:
    """Index of the best of captions, and its score.

    The score is the F1 that its items are expected to have, nothing where less than FOUND_IOU of
    the span is right. The first of equals is the best. Probabilities sum to one.
    """

    def gain(caption: LikelyCaption) -> float:
        return sum(
            other.probability
            * _gain([caption.span], [other.span])
            * _items_f1(caption.items, other.items)
            for other in captions
        )

    best = max(captions, key=gain)
    right = [
        other.probability * _items_f1(best.items, other.items)
        for other in captions
        if interval_iou([best.span], [other.span]) >= FOUND_IOU
    ]
    return captions.index(best), min(1.0, sum(right))


def _gain(first: Spans, second: Spans) -> float:
    iou = interval_iou(first, second)
    return iou + (iou >= FOUND_IOU)


def _items_f1(first: Sequence[str], second: Sequence[str]) -> float:
    shared = (Counter(first) & Counter(second)).total()
    return 2 * shared / (len(first) + len(second))
