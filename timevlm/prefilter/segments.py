"""From a score per frame to segments: hysteresis, gaps closed, margins added. Pure functions.

A segment starts where the score reaches `enter` and lasts while it stays at or above `leave`, as
Canny follows an edge: one bar alone would cut a long event into pieces wherever its score flickers,
or take in all noise near the bar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from timevlm.errors import InputError
from timevlm.prefilter.usage import EVENT_LABEL


@dataclass(frozen=True, kw_only=True)
class SegmentRules:
    """How scores become segments."""

    enter: float = 0.5
    """Score at which a segment starts."""
    leave: float = 0.3
    """Score below which it ends; at most `enter`."""
    close_seconds: float = 2.0
    """Segments with at most this much between them are one."""
    min_seconds: float = 0.0
    """Shorter segments (before the margin) are dropped."""
    margin_seconds: float = 2.0
    """Added on both sides: an answer's edges need the frames just outside of the event."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.leave <= self.enter <= 1.0:
            raise InputError(
                f"enter {self.enter:g} and leave {self.leave:g} are no hysteresis: give "
                "0 <= leave <= enter <= 1"
            )
        for name in ("close_seconds", "min_seconds", "margin_seconds"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} {getattr(self, name)}: give seconds from 0")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch in which something happens."""

    start: float  # seconds, margin included
    end: float
    peak: float  # seconds of the highest score
    score: float  # the highest score
    labels: tuple[tuple[str, float], ...] = ()  # (class, mean probability), the likeliest first

    def likely_labels(self) -> list[tuple[str, float]]:
        """The labels worth telling people: probable for most of the segment, "event" aside."""
        return [(name, p) for name, p in self.labels if p >= 0.5 and name != EVENT_LABEL]

    def to_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        labels = [{"label": label, "score": score} for label, score in self.labels]
        fields = {"start": self.start, "end": self.end, "peak": self.peak, "score": self.score}
        return fields | {"labels": labels}


def hysteresis(scores: np.ndarray, *, enter: float, leave: float) -> list[tuple[int, int]]:
    """First and last index of every run of `scores` (N,) >= leave that reaches `enter`."""
    above = np.concatenate([[False], scores >= leave, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
    runs = [(int(first), int(after) - 1) for first, after in edges]
    return [(a, b) for a, b in runs if scores[a : b + 1].max() >= enter]


def find_segments(
    scores: np.ndarray,
    seconds: np.ndarray,
    rules: SegmentRules,
    *,
    end_seconds: float | None = None,
) -> list[Segment]:
    """Segments in time order, disjoint, inside the video.

    Args:
        scores: (N,) in [0, 1], one a frame.
        seconds: (N,) ascending, when each frame was shown. A frame lasts until the next one.
        rules: the bars and margins.
        end_seconds: when the last frame leaves the screen; default: one median step after it.

    Raises:
        InputError: as many scores as times are needed.
    """
    scores, seconds = np.asarray(scores, dtype=float), np.asarray(seconds, dtype=float)
    if scores.shape != seconds.shape or scores.ndim != 1:
        raise InputError(f"{scores.shape} scores for {seconds.shape} times: give one a frame")
    if not scores.size:
        return []
    if end_seconds is None:
        step = float(np.median(np.diff(seconds))) if seconds.size > 1 else 1.0
        end_seconds = float(seconds[-1]) + step
    leaves = np.append(seconds[1:], max(end_seconds, seconds[-1]))
    found: list[tuple[int, int]] = []
    for first, last in hysteresis(scores, enter=rules.enter, leave=rules.leave):
        if found and seconds[first] - leaves[found[-1][1]] <= rules.close_seconds:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    found = [(a, b) for a, b in found if leaves[b] - seconds[a] >= rules.min_seconds]
    segments: list[Segment] = []
    for first, last in found:
        best = first + int(scores[first : last + 1].argmax())
        segment = Segment(
            start=max(float(seconds[0]), float(seconds[first]) - rules.margin_seconds),
            end=min(float(leaves[-1]), float(leaves[last]) + rules.margin_seconds),
            peak=float(seconds[best]),
            score=float(scores[best]),
        )
        if segments and segment.start < segments[-1].end:
            segment = _joined(segments.pop(), segment)
        segments.append(segment)
    return segments


def with_labels(
    segments: Sequence[Segment],
    seconds: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    most: int = 3,
) -> list[Segment]:
    """The segments with their `most` likeliest labels by mean probability (N, K) in them."""
    labelled = []
    for segment in segments:
        inside = (seconds >= segment.start) & (seconds < segment.end)
        means = probabilities[inside].mean(axis=0) if inside.any() else np.zeros(len(labels))
        best = np.argsort(-means, kind="stable")[:most]
        named = tuple((labels[k], round(float(means[k]), 4)) for k in best)
        fields = {name: getattr(segment, name) for name in ("start", "end", "peak", "score")}
        labelled.append(Segment(**fields, labels=named))
    return labelled


def _joined(a: Segment, b: Segment) -> Segment:
    best = a if a.score >= b.score else b
    return Segment(start=a.start, end=b.end, peak=best.peak, score=best.score)
