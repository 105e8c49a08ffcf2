"""Which samples a report shows in full, and which seconds of their videos.

The worst samples are the wrong ones that the model was surest of, few per video and from every
task, so that a page of them is not twelve times the same mistake. Samples that failed or could not
be read have lists of their own.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from eval.benchmarks.base import Graded
from eval.report.pictures import Picture, take_pictures
from timevlm import TimeVLMError, VideoError

MAX_CASES = 12
MAX_PICTURES = 4
"""Pictures of one sample."""
_MAX_PICTURE_BYTES = 4_000_000
"""JPEG data of one report."""

Span = tuple[float, float]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """Spans of one kind on a sample's timeline: gold, answered, looked or watched."""

    kind: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A sample that is shown in full. Times are seconds of the video."""

    item: Graded
    tracks: tuple[Track, ...]
    extent: Span | None
    """The part of the video that the timeline shows; None where no time is known."""
    moments: tuple[tuple[float, str], ...]
    """Second and kind of each picture, in order of time."""
    pictures: tuple[Picture, ...] = ()
    no_pictures: str | None = None
    """Why there are none."""


def worst_cases(graded: Sequence[Graded], *, most: int = MAX_CASES) -> list[Case]:
    """At most `most` cases, worst first within each task."""
    queues = [_in_order(graded, task) for task in dict.fromkeys(g.row["task"] for g in graded)]
    chosen: list[Graded] = []
    while len(chosen) < most and any(queues):
        for queue in queues:
            if queue and len(chosen) < most:
                chosen.append(queue.pop(0))
    tasks = list(dict.fromkeys(item.row["task"] for item in chosen))
    chosen.sort(key=lambda item: tasks.index(item.row["task"]))
    return [_case(item) for item in chosen]


def with_pictures(cases: Sequence[Case], data: Path) -> Iterator[Case]:
    """The cases with frames of their videos, as far as these are there and the size allows."""
    num_bytes = 0
    for case in cases:
        pictures: list[Picture] = []
        reason = None
        if not case.moments:
            reason = "no second of the video is known to matter"
        elif num_bytes >= _MAX_PICTURE_BYTES:
            reason = "the report has as many pictures as it may hold"
        else:
            path = data / case.item.row["video"]
            try:
                if not path.is_file():
                    raise VideoError(f"{case.item.row['video']} is not in the run's data folder")
                # A run that decoded the video has shown that it does no harm.
                isolate = case.item.row["n_frames"] == 0
                pictures = take_pictures(path, case.moments, isolate=isolate)
            except TimeVLMError as error:
                reason = " ".join(str(error).split())
        num_bytes += sum(len(picture.jpeg) for picture in pictures)
        if not pictures and reason is None:
            reason = "the video shows nothing at the seconds in question"
        yield replace(case, pictures=tuple(pictures), no_pictures=reason)


def _in_order(graded: Sequence[Graded], task: str) -> list[Graded]:
    """The task's wrong answers: by turns of videos, then lowest score, then surest."""
    wrong = [
        item
        for item in graded
        if item.row["task"] == task
        and item.row["error"] is None
        and item.grade.parsed is not None
        and item.grade.score is not None
        and item.grade.score < 1
    ]
    wrong.sort(key=_badness)
    return by_turns(wrong, lambda item: item.row["cluster"])


def by_turns(items: Sequence[Item], group: Callable[[Item], str]) -> list[Item]:
    """The first of every group in the order given, then the second of each, and so on."""
    turns: Counter[str] = Counter()
    ranked = []
    for place, item in enumerate(items):
        turns[group(item)] += 1
        ranked.append((turns[group(item)], place, item))
    return [item for *_, item in sorted(ranked, key=lambda entry: entry[:2])]


def _badness(item: Graded) -> tuple[float, float, str]:
    confidence = item.row["details"].get("confidence") or 0.0
    # Among equals: not the file's order, in which neighbours are alike.
    return item.grade.score, -confidence, hashlib.sha256(item.row["id"].encode()).hexdigest()


def _case(item: Graded) -> Case:
    tracks = tuple(track for track in _tracks(item) if track.spans)
    extent = _extent(item, tracks)
    return Case(item=item, tracks=tracks, extent=extent, moments=_moments(item, tracks, extent))


def _tracks(item: Graded) -> Iterator[Track]:
    row, parsed = item.row, item.grade.parsed
    evidence = _pairs(row["details"].get("evidence") or ())
    if row["task"] == "grounding":
        yield Track(kind="gold", spans=_pairs(row["gold"] or ()))
        yield Track(kind="answered", spans=_pairs([parsed]))
        # The model's first span is its answer.
        evidence = tuple(pair for pair in evidence if list(pair) != list(map(float, parsed)))
    elif row["task"] == "dense_caption":
        yield Track(kind="gold", spans=_pairs(row["gold"] or ()))
        yield Track(kind="answered", spans=_pairs(parsed))
    yield Track(kind="looked", spans=evidence)
    times = row["frame_times"]
    # A model may say how many frames it saw without saying which.
    known = times is not None and times["first"] is not None
    if known and not evidence and row["task"] != "grounding":
        yield Track(kind="watched", spans=((float(times["first"]), float(times["last"])),))


def _pairs(entries: Sequence[Sequence[Any]]) -> tuple[Span, ...]:
    """(start, end) of spans or of captions with times."""
    return tuple((float(entry[0]), float(entry[1])) for entry in entries)


def _extent(item: Graded, tracks: Sequence[Track]) -> Span | None:
    if item.row["clip"] is not None:
        start, end = item.row["clip"]
        return float(start), float(end)
    ends = [end for track in tracks for _, end in track.spans]
    duration = item.row["extra"].get("duration")
    if isinstance(duration, int | float):
        ends.append(float(duration))
    return (0.0, max(ends)) if ends and max(ends) > 0 else None


def _moments(
    item: Graded, tracks: Sequence[Track], extent: Span | None
) -> tuple[tuple[float, str], ...]:
    """The middles of the spans, each kind in turn; else an even spread over the whole."""
    kinds: dict[float, list[str]] = {}
    by_kind = [track for track in tracks if track.kind != "watched"]
    for turn in range(max((len(track.spans) for track in by_kind), default=0)):
        for track in by_kind:
            if turn < len(track.spans):
                start, end = track.spans[turn]
                kinds.setdefault(round((start + end) / 2, 2), []).append(track.kind)
    found = [(seconds, " and ".join(dict.fromkeys(names))) for seconds, names in kinds.items()]
    if not found:
        found = [(seconds, "video") for seconds in _spread(tracks, extent)]
    return tuple(sorted(found[:MAX_PICTURES]))


def _spread(tracks: Sequence[Track], extent: Span | None) -> list[float]:
    watched = [track.spans[0] for track in tracks if track.kind == "watched"]
    if not watched and extent is None:
        return []
    start, end = watched[0] if watched else extent
    step = (end - start) / MAX_PICTURES
    return sorted({start + (k + 0.5) * step for k in range(MAX_PICTURES)})
