"""Open every video of a run before a model waits for them: which are broken, which are too short.

`--check` only lists files. This decodes three frames of each video in a child process with a time
limit, several at a time, so that a damaged download is known before a GPU is paid for.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.problems import Problem, listing
from eval.records import Sample
from timevlm import SamplingPlan, TimeVLMError
from timevlm.video import DecodeLimits, open_video

_FRAMES = 3
_MOST_AT_ONCE = 8
# Annotated lengths are rounded, and containers end a little early or late.
_SHORT_SECONDS = 2.0
_SHORT_SHARE = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """What opening a video showed."""

    error: str | None = None
    end_seconds: float = 0.0


def video_faults(
    data: Path,
    samples: Sequence[Sample],
    *,
    wall_seconds: float = 60.0,
    on_video: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Problems of the videos that are there: unreadable ones, and those shorter than annotated.

    `wall_seconds` is the limit for each. `on_video(done, total)` is called after each.
    """
    questions: dict[str, list[Sample]] = {}
    for sample in samples:
        questions.setdefault(sample.video, []).append(sample)
    paths = [path for path in questions if _has_content(data / path)]
    limits = DecodeLimits(wall_seconds=wall_seconds)
    found: dict[str, _Look] = {}
    with ThreadPoolExecutor(max_workers=min(_MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        looks = pool.map(lambda path: _look(data / path, limits), paths)
        for path, look in zip(paths, looks, strict=True):
            found[path] = look
            if on_video is not None:
                on_video(len(found), len(paths))
    return [*_broken(found, questions), *_short(found, questions)]


def _look(path: Path, limits: DecodeLimits) -> _Look:
    plan = SamplingPlan(mode="uniform", max_frames=_FRAMES)
    try:
        with open_video(path, plan, limits=limits, batch_size=1, isolate=True, workers=1) as reader:
            for _ in reader:
                pass
            if reader.frames_skipped:
                return _Look(error="; ".join(reader.warnings) or "frames cannot be decoded")
            return _Look(end_seconds=reader.info.end_seconds)
    except TimeVLMError as error:
        return _Look(error=" ".join(str(error).split()))


def _broken(found: dict[str, _Look], questions: dict[str, list[Sample]]) -> list[Problem]:
    broken = {path: look.error for path, look in found.items() if look.error is not None}
    if not broken:
        return []
    lost = sum(len(questions[path]) for path in broken)
    what = (
        f"{len(broken)} of {len(questions)} videos cannot be decoded whole; {lost} questions "
        f"may count as wrong: {listing([f'{path} ({why})' for path, why in broken.items()])}"
    )
    return [Problem(level="missing", what=what, paths=tuple(broken))]


def _short(found: dict[str, _Look], questions: dict[str, list[Sample]]) -> list[Problem]:
    short: dict[str, str] = {}
    for path, look in found.items():
        wanted = max(_needed_seconds(sample) for sample in questions[path])
        slack = max(_SHORT_SECONDS, _SHORT_SHARE * wanted)
        if look.error is None and look.end_seconds < wanted - slack:
            short[path] = f"{look.end_seconds:.1f} of {wanted:.1f} s"
    if not short:
        return []
    what = f"{len(short)} videos are shorter than their annotations say: "
    what += listing([f"{path} ({how})" for path, how in short.items()])
    return [Problem(level="note", what=what, paths=tuple(short))]


def _needed_seconds(sample: Sample) -> float:
    """Up to which second the annotations speak of the video."""
    duration = sample.extra.get("duration")
    known = float(duration) if isinstance(duration, int | float) else 0.0
    return max(known, sample.clip[1] if sample.clip else 0.0)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
