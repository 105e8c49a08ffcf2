"""Dense captions: events with times and words, as YouCook2 and ActivityNet Captions score them.

Three views of one prediction, each per video and then averaged over videos:

    localisation  precision, recall and F1 of the segments, averaged over four IoU thresholds
    captions      CIDEr-D (and METEOR) of the pairs that overlap enough, averaged over thresholds
    SODA_c        one number for order, place and words together (`eval.metrics.soda`)

The first two follow densevid_eval (Krishna et al., ICCV 2017), also where it is odd: a segment is
detected with IoU > t, but captions are compared with IoU >= t; a caption that meets no event
counts with score 0; CIDEr is computed inside each video, so a single pair scores 0. All scores
come out times 100.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.caption_tokens import tokenize
from eval.metrics.captioning import CaptionScore, Words, cider_d
from eval.metrics.cleaning import clean_reply
from eval.metrics.grounding import iou_matrix
from eval.metrics.soda import soda_c
from eval.metrics.spans import SECONDS, TimeScale
from timevlm.errors import InputError

Event = tuple[float, float, str]  # start seconds, end seconds, words
CaptionScorer = Callable[[Sequence[Words], Sequence[Sequence[Words]]], CaptionScore]

TIOU_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)

_TIME = r"(?:\d+:)?\d{1,2}:\d{2}(?:\.\d+)?|\d+(?:\.\d+)?"
_UNIT = r"\s*(?:seconds?|secs?|s)?\b"
_BETWEEN = r"\s*(?:[-\u2010-\u2015~]+>?|to\b|until\b|and\b|,)\s*"
# At the start of a line, behind a bullet, a number or "from": "0.0 - 9.5 seconds, a man cooks".
_EVENT = re.compile(
    rf"^\s*(?:[-*\u2022#]+\s*|\d+[.)]\s+)?(?:(?:from|between)\s+)?[\[(<]?\s*"
    rf"(?P<start>{_TIME}){_UNIT}\s*[>]?{_BETWEEN}[<]?(?P<end>{_TIME})(?![\d/]|\.\d){_UNIT}"
    rf"\s*[\])>]?\s*[,:;.\u2010-\u2015-]*\s*(?P<words>\S.*)$",
    re.IGNORECASE,
)
# "Start time: 3", "End time: 8" and "Description: he stirs" on lines of their own.
_BLOCK = re.compile(
    rf"start[ _]?(?:time)?\s*[:=]\s*(?P<start>{_TIME}){_UNIT}[\s,;]*"
    rf"end[ _]?(?:time)?\s*[:=]\s*(?P<end>{_TIME}){_UNIT}[\s,;]*"
    r"(?:description|caption|event|sentence)\s*[:=]\s*(?P<words>\S.*)",
    re.IGNORECASE,
)
# Sentences that a reply packs into one line, each with "seconds" behind its times.
_INLINE = re.compile(
    rf"(?<=[.;!?])\s+(?=(?:from\s+)?(?:{_TIME}){_UNIT}{_BETWEEN}(?:{_TIME})\s*(?:seconds?|secs?|s)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EventParse:
    """The events that a reply lists."""

    events: tuple[Event, ...]
    """In the reply's order, start <= end."""
    num_swapped: int = 0
    """Events whose end came first."""
    num_skipped: int = 0
    """Lines that name no times."""


def parse_events(text: str, *, scale: TimeScale = SECONDS) -> EventParse:
    """The events of a reply with lines such as "0.0 - 9.5 seconds, a man cooks".

    `scale` says what numbers mean as times; clock times are seconds under any. Bullets, numbers and
    brackets around the times are read over. The form with "Start time:", "End time:" and
    "Description:" is read as well.
    """
    cleaned = clean_reply(text)
    lines = [part for line in cleaned.splitlines() for part in _INLINE.split(line)]
    blocks = list(_BLOCK.finditer(cleaned))
    if blocks:
        lines = [match[0] for match in blocks]
    events: list[Event] = []
    num_swapped, num_skipped = 0, 0
    for line in (line for line in lines if line.strip()):
        match = _BLOCK.match(line) if blocks else _EVENT.match(line)
        if match is None:
            num_skipped += 1
            continue
        start, end = scale.seconds(match["start"]), scale.seconds(match["end"])
        num_swapped += end < start
        events.append((min(start, end), max(start, end), match["words"].strip()))
    return EventParse(events=tuple(events), num_swapped=num_swapped, num_skipped=num_skipped)


def localisation(
    predicted: Sequence[Event],
    golds: Sequence[Event],
    thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[str, float]:
    """Precision, recall and F1 of one video's segments, in percent.

    A segment is found if some segment of the other list has IoU > threshold. `precision` and
    `recall` are means over the thresholds, `F1` is theirs; the single thresholds have their own
    entries. Everything is 0 without predictions. Raises InputError without golds.
    """
    _need_golds(golds)
    ious = iou_matrix([event[:2] for event in predicted], [event[:2] for event in golds])
    precisions, recalls = [], []
    for threshold in thresholds:
        hits = ious > threshold
        precisions.append(float(hits.any(axis=1).mean()) if predicted else 0.0)
        recalls.append(float(hits.any(axis=0).mean()) if predicted else 0.0)
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    scores = {"precision": precision, "recall": recall, "F1": f1}
    for threshold, at_precision, at_recall in zip(thresholds, precisions, recalls, strict=True):
        scores[f"precision@{threshold:g}"] = at_precision
        scores[f"recall@{threshold:g}"] = at_recall
    return {name: 100.0 * value for name, value in scores.items()}


def matched_caption_score(
    predicted: Sequence[Event],
    golds: Sequence[Event],
    scorer: CaptionScorer = cider_d,
    thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> float:
    """One video's caption score over pairs with IoU >= threshold, averaged over thresholds, x100.

    Every pair that overlaps enough is scored, so a prediction may appear several times; one that
    overlaps with nothing is held against a word that nobody writes. 0 without predictions. Raises
    InputError without golds.
    """
    _need_golds(golds)
    if not predicted:
        return 0.0
    ious = iou_matrix([event[:2] for event in predicted], [event[:2] for event in golds])
    words = [tokenize(event[2]) for event in predicted]
    gold_words = [tokenize(event[2]) for event in golds]
    scores = []
    for threshold in thresholds:
        hypotheses: list[Words] = []
        references: list[Sequence[Words]] = []
        for index, overlaps in enumerate(ious):
            meets = np.flatnonzero(overlaps >= threshold)
            hypotheses += [words[index]] * max(1, len(meets))
            references += [[gold_words[gold]] for gold in meets]
            if not len(meets):
                # A word of its own for each: CIDEr weighs words by how many references have them.
                references.append([[f"unmatched{index}zq"]])
        scores.append(scorer(hypotheses, references).corpus)
    return 100.0 * float(np.mean(scores))


def soda(
    predicted: Sequence[Event],
    golds: Sequence[Event],
    scorer: CaptionScorer,
    *,
    compat_official: bool = False,
) -> float:
    """One video's SODA_c (F1) x100 with `scorer` for the words, METEOR in the paper.

    `compat_official` exchanges the roles that the published program gives the captions: METEOR is
    not symmetric, and that program passes predictions as references. Raises InputError without
    golds.
    """
    _need_golds(golds)
    if not predicted:
        return 0.0
    words = [tokenize(event[2]) for event in predicted]
    gold_words = [tokenize(event[2]) for event in golds]
    pairs = [(ours, gold) for ours in words for gold in gold_words]
    if compat_official:
        pairs = [(gold, ours) for ours, gold in pairs]
    each = scorer([first for first, _ in pairs], [[second] for _, second in pairs]).each
    spans, gold_spans = [event[:2] for event in predicted], [event[:2] for event in golds]
    similarity = np.array(each).reshape(len(predicted), len(golds))
    found = soda_c(similarity, iou_matrix(spans, gold_spans), spans, gold_spans)
    return 100.0 * found.f1


def video_scores(
    predicted: Sequence[Event],
    golds: Sequence[Event],
    *,
    meteor: CaptionScorer | None = None,
    compat_official: bool = False,
) -> dict[str, float]:
    """All dense-caption scores of one video, x100; METEOR and SODA_c only with a METEOR scorer."""
    scores = localisation(predicted, golds)
    scores["CIDEr"] = matched_caption_score(predicted, golds)
    if meteor is not None:
        scores["METEOR"] = matched_caption_score(predicted, golds, meteor)
        scores["SODA_c"] = soda(predicted, golds, meteor, compat_official=compat_official)
    scores["n_events"] = float(len(predicted))
    return scores


def mean_scores(videos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over videos of each entry of `video_scores`.

    Raises InputError without videos or if they do not have the same entries.
    """
    if not videos:
        raise InputError("there are no videos to score; run at least one sample")
    names = list(videos[0])
    if any(set(video) != set(names) for video in videos):
        raise InputError("videos were scored with different metrics; score all of them alike")
    return {name: sum(video[name] for video in videos) / len(videos) for name in names}


def _need_golds(golds: Sequence[Event]) -> None:
    if not golds:
        raise InputError("a video has no reference captions to be scored against; drop it")
