"""Temporal grounding: IoU of spans, R@1 and mIoU, and what one scores without watching.

Papers count a hit as IoU >= m (TALL, VTimeLLM, TimeChat, lmms-eval) or as IoU > m (TimeViper,
Time-R1), which differ where IoU is exactly m, as it often is for the full-video answer. Both are
computed and named. All means run over every query: no span scores IoU 0. Two answers that need no
model stand beside every result: the full video, and its middle.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from timevlm.errors import InputError

Span = Sequence[float]
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
CENTRE_WIDTH = 0.5
"""Share of the video that the centre prior answers with."""


def interval_iou(predicted: Span | None, gold: Span) -> float:
    """Intersection over union of two (start, end) spans, in [0, 1].

    0 without a prediction, for disjoint or touching spans, a span of no length, or one whose end
    comes first.
    """
    if predicted is None:
        return 0.0
    (start_p, end_p), (start_g, end_g) = predicted, gold
    intersection = max(0.0, min(end_p, end_g) - max(start_p, start_g))
    # Summed in this order, a span inside the other leaves exactly the longer one's length: an IoU
    # of one half must not become 0.49999.
    shorter, longer = sorted((end_p - start_p, end_g - start_g))
    union = longer + (shorter - intersection)
    return intersection / union if union > 0 else 0.0


def interval_ious(predicted: Sequence[Span | None], golds: Sequence[Span]) -> np.ndarray:
    """`interval_iou` of aligned spans: (N,) float64. Raises InputError for unequal lengths."""
    if len(predicted) != len(golds):
        raise InputError(f"got {len(predicted)} spans for {len(golds)} golds; give one for each")
    if not golds:
        return np.zeros(0)
    # A span from 0 to 0 stands for none: it meets nothing.
    spans = np.array([(0.0, 0.0) if span is None else tuple(span) for span in predicted])
    gold = np.array([tuple(span) for span in golds], dtype=np.float64)
    overlap = np.minimum(spans[:, 1], gold[:, 1]) - np.maximum(spans[:, 0], gold[:, 0])
    intersection = np.maximum(0.0, overlap)
    lengths = spans[:, 1] - spans[:, 0], gold[:, 1] - gold[:, 0]
    union = np.maximum(*lengths) + (np.minimum(*lengths) - intersection)
    return np.divide(intersection, union, out=np.zeros(len(golds)), where=union > 0)


def iou_matrix(predicted: Sequence[Span], golds: Sequence[Span]) -> np.ndarray:
    """IoU of every prediction with every gold: (P, G) float64."""
    if not predicted or not golds:
        return np.zeros((len(predicted), len(golds)))
    pairs = [(span, gold) for span in predicted for gold in golds]
    flat = interval_ious([span for span, _ in pairs], [gold for _, gold in pairs])
    return flat.reshape(len(predicted), len(golds))


def grounding_scores(
    ious: Sequence[float], thresholds: Sequence[float] = IOU_THRESHOLDS
) -> dict[str, float]:
    """mIoU, then R@1 for each threshold with >= and with >, in percent.

    `ious` holds one number for each query, 0 where nothing was parsed. Raises InputError if it is
    empty.
    """
    values = _percentable(ious)
    scores = {"mIoU": 100.0 * float(values.mean())}
    for threshold in thresholds:
        scores[f"R@1,IoU>={threshold:g}"] = 100.0 * float((values >= threshold).mean())
    for threshold in thresholds:
        scores[f"R@1,IoU>{threshold:g}"] = 100.0 * float((values > threshold).mean())
    return scores


def full_video_spans(durations_seconds: Sequence[float]) -> list[tuple[float, float]]:
    """The answer "the whole video" for each query."""
    return [(0.0, float(duration)) for duration in durations_seconds]


def centre_spans(
    durations_seconds: Sequence[float], *, width: float = CENTRE_WIDTH
) -> list[tuple[float, float]]:
    """The answer "the middle of the video" for each query; `width` is the share it covers.

    Raises InputError for a width outside (0, 1].
    """
    if not 0 < width <= 1:
        raise InputError(f"width is {width}; use a share of the video above 0 and at most 1")
    edge = 0.5 * (1.0 - width)
    return [(edge * duration, (1.0 - edge) * duration) for duration in durations_seconds]


def clip_spans(
    spans: Sequence[Span], durations_seconds: Sequence[float]
) -> list[tuple[float, float]]:
    """Spans cut at 0 and at the video's end: the clip-gold variant for golds that run over it."""
    return [
        (min(max(start, 0.0), duration), min(max(end, 0.0), duration))
        for (start, end), duration in zip(spans, durations_seconds, strict=True)
    ]


def baselines(
    golds: Sequence[Span], durations_seconds: Sequence[float]
) -> dict[str, dict[str, float]]:
    """`grounding_scores` of the full video and of the centre prior on the same queries."""
    answers = {
        "full video": full_video_spans(durations_seconds),
        f"centre {CENTRE_WIDTH:.0%}": centre_spans(durations_seconds),
    }
    return {
        name: grounding_scores(interval_ious(spans, golds).tolist())
        for name, spans in answers.items()
    }


def score_spans(
    predicted: Sequence[Span | None],
    golds: Sequence[Span],
    durations_seconds: Sequence[float],
    *,
    clip_gold: bool = False,
) -> dict[str, Any]:
    """Everything a grounding result shows, from aligned lists over all queries.

    Returns `scores` (`grounding_scores`), `baselines`, `ious` (one number per query) and the
    number of `n_gold_beyond_video`. Golds are left as annotated, as papers do; `clip_gold` cuts
    them at the video's end first. Raises InputError for unequal lengths.
    """
    if len(golds) != len(durations_seconds):
        raise InputError(
            f"got {len(durations_seconds)} durations for {len(golds)} golds; give one for each"
        )
    num_beyond = sum(
        gold[1] > duration for gold, duration in zip(golds, durations_seconds, strict=True)
    )
    if clip_gold:
        golds = clip_spans(golds, durations_seconds)
    ious = interval_ious(predicted, golds).tolist()
    return {
        "scores": grounding_scores(ious),
        "baselines": baselines(golds, durations_seconds),
        "ious": ious,
        "n_gold_beyond_video": num_beyond,
    }


def _percentable(ious: Sequence[float]) -> np.ndarray:
    values = np.asarray(ious, dtype=np.float64)
    if not len(values):
        raise InputError("there are no queries to score; run at least one sample")
    return values
