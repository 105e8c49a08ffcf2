"""Spans of the least expected error: of a model's likely answers, what most of them agree with.

The likeliest text need not be the best answer. Where a model is unsure of a few ends, each text has
little probability, and the first of them may tell a span that hardly any other does. So answers are
compared as seconds of video, not as tokens: the best has the most overlap to be expected, if the
truth is as likely to be each answer as the model says. After minimum Bayes risk decoding (Kumar and
Byrne, HLT-NAACL 2004, section 2), with intersection over union as the gain.
"""

from collections.abc import Sequence

Spans = Sequence[tuple[float, float]]

FOUND_IOU = 0.5  # from where on a span counts as found


def overlap_seconds(first: Spans, second: Spans) -> float:
    """Seconds that two sets of disjoint spans share."""
    return sum(max(0.0, min(e1, e2) - max(s1, s2)) for s1, e1 in first for s2, e2 in second)


def interval_iou(first: Spans, second: Spans) -> float:
    """Length of the intersection over that of the union, of two sets of disjoint spans."""
    shared = overlap_seconds(first, second)
    union = sum(e - s for s, e in first) + sum(e - s for s, e in second) - shared
    return shared / union if union > 0 else 0.0


def most_agreed(answers: Sequence[tuple[Spans, float]]) -> list[tuple[float, float, float]]:
    """The best of (spans, probability) answers, as (start, end, score) of its spans.

    The best is that whose expected IoU, plus the chance that it is at least FOUND_IOU, is highest;
    the first of equals. A span's score is the chance that it is right: the share of probability
    of the answers that hold a span with an IoU of at least FOUND_IOU with it.
    """
    total = sum(probability for _, probability in answers)

    def gain(spans: Spans) -> float:
        ious = [interval_iou(spans, other) for other, _ in answers]
        return sum(
            p * (iou + (iou >= FOUND_IOU)) for iou, (_, p) in zip(ious, answers, strict=True)
        )

    def score(span: tuple[float, float]) -> float:
        holding = [
            probability
            for spans, probability in answers
            if any(interval_iou([span], [other]) >= FOUND_IOU for other in spans)
        ]
        return min(1.0, sum(holding) / total)

    best = max((spans for spans, _ in answers), key=gain)
    return [(start, end, score((start, end))) for start, end in best]
