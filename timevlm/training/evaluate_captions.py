"""Scores of dense captions: events found, events invented, lines that repeat or go back in time.

An event is one phrase of a caption ("a small red circle moves left") during the caption's
interval. A told event is right if its interval has IoU >= 0.5 with that of a true event that no
other told event has taken, and if it says the same: every word of it (strict), or colour, shape,
motion and change alone (then sizes, patterns and articles do not count).
"""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

from timevlm.agreement import interval_iou
from timevlm.synth.full.palette import PATTERNS
from timevlm.synth.palette import SIZES
from timevlm.synth.wording import split_phrases
from timevlm.tasks.text import normalize_answer
from timevlm.training.evaluate_scores import Row

Line = tuple[float, float, str]  # start and end in seconds, text

MIN_IOU = 0.5
_LEFT_OUT = frozenset({"a", "an", *SIZES, *PATTERNS})


def caption_events(lines: Sequence[Line]) -> list[Line]:
    """Every phrase of every caption with the caption's interval."""
    return [
        (start, end, phrase)
        for start, end, text in lines
        for phrase in split_phrases(normalize_answer(text))
        if phrase
    ]


def essential_words(phrase: str) -> str:
    """A phrase without articles, sizes and patterns: "red circle moves left"."""
    return " ".join(word for word in phrase.split() if word not in _LEFT_OUT)


def phrases_in_any_order(text: str) -> str:
    """The phrases of a caption, sorted: which of its objects it begins with is not in a picture."""
    return ", ".join(sorted(split_phrases(normalize_answer(text))))


def match_events(
    told: Sequence[Line], true: Sequence[Line], says: Callable[[str], str] = str
) -> list[tuple[int, int]]:
    """Pairs (index of told, index of true) that match, each index once, best IoU first.

    `says` reduces a phrase to what must be equal.
    """
    candidates = [
        (interval_iou([(s1, e1)], [(s2, e2)]), i, j)
        for i, (s1, e1, a) in enumerate(told)
        for j, (s2, e2, b) in enumerate(true)
        if says(a) == says(b)
    ]
    pairs: list[tuple[int, int]] = []
    for iou, i, j in sorted(candidates, key=lambda c: (-c[0], c[1], c[2])):
        is_free = all(i != taken and j != found for taken, found in pairs)
        if iou >= MIN_IOU and is_free:
            pairs.append((i, j))
    return pairs


def is_repeated(lines: Sequence[Line]) -> list[bool]:
    """For each line: says it again what the line before it, or one at the same time, said?"""
    repeated = [False] * len(lines)
    for (i, first), (j, second) in combinations(enumerate(lines), 2):
        at_once = min(first[1], second[1]) > max(first[0], second[0])
        if first[2] == second[2] and (at_once or j == i + 1):
            repeated[j] = True
    return repeated


def caption_rows(video: int, told: Sequence[Line], true: Sequence[Line]) -> list[Row]:
    """All scores of the captions `told` of one video whose true captions are `true`."""
    rows: list[Row] = []

    def add(family: str, values: Sequence[bool]) -> None:
        rows.extend(
            Row(table="captions", family=family, video=video, model=float(value))
            for value in values
        )

    told_events, true_events = caption_events(told), caption_events(true)
    for name, says in (("", essential_words), (", every word", str)):
        pairs = match_events(told_events, true_events, says)
        told_right, true_found = {i for i, _ in pairs}, {j for _, j in pairs}
        add(f"event recall{name}", [j in true_found for j in range(len(true_events))])
        add(f"event precision{name}", [i in told_right for i in range(len(told_events))])
    found = {j for _, j in match_events(told, true, lambda text: "")}
    exact = {j for _, j in match_events(told, true, phrases_in_any_order)}
    add("scene found", [j in found for j in range(len(true))])
    add("scene exact", [j in exact for j in range(len(true))])
    add("repeated", is_repeated(told))
    add("out of order", [False, *(a[0] > b[0] for a, b in pairwise(told))][: len(told)])
    return rows
