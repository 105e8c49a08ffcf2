"""Subtitles: read SRT files and LongVideoBench's JSON, and pick the cues that belong to frames.

Public subtitle files are untidy: Windows line ends, byte-order marks, old encodings, font tags,
missing numbers. The reader takes what has a time line and skips what has none.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timevlm.errors import InputError

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIME_LINE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,6}))?")
# <i>, </font>, {\an8}: mark-up that players obey and readers do not want.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")  # the last takes any bytes
_MIN_CUE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A line of speech and the seconds of the video during which it is shown, [start, end)."""

    start: float
    end: float
    text: str


def decode_text(data: bytes) -> str:
    """The text of a subtitle file in UTF-8, UTF-16 with a mark, or a Western 8-bit encoding."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    for encoding in _ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes every byte")


def parse_srt(text: str) -> tuple[Cue, ...]:
    """The cues of an SRT text in time order: tags dropped, lines joined, empty cues left out."""
    cues: list[Cue] = []
    times: tuple[float, float] | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        match = _TIME_LINE.match(line)
        if match is None:
            lines.append(line)
            continue
        if times is not None:
            cues += _cue(*times, _without_next_number(lines))
        groups = match.groups()
        times, lines = (_seconds(*groups[:4]), _seconds(*groups[4:])), []
    if times is not None:
        cues += _cue(*times, lines)
    return tuple(sorted(cues, key=lambda cue: (cue.start, cue.end)))


def parse_longvideobench(
    entries: Sequence[dict[str, Any]], *, duration_seconds: float, offset_seconds: float = 0.0
) -> tuple[Cue, ...]:
    """The cues of a LongVideoBench subtitle list, in video time and in time order.

    Entries are `{"timestamp": [start, end], "text"}` in seconds, where an end that is no number
    means the end of the video, or `{"start": "H:MM:SS.mmm", "end", "line"}`. `offset_seconds`
    (`starting_timestamp_for_subtitles`) is where the video starts in the subtitles' own time.

    Raises InputError for an entry in neither form.
    """
    cues: list[Cue] = []
    for entry in entries:
        if "timestamp" in entry:
            start, end = entry["timestamp"]
            if not isinstance(end, int | float) or not math.isfinite(end):
                end = duration_seconds + offset_seconds
            text = entry.get("text", "")
        elif "start" in entry and "line" in entry:
            start, end, text = _clock(entry["start"]), _clock(entry["end"]), entry["line"]
        else:
            raise InputError(
                f"a subtitle entry with the keys {sorted(entry)} is in no known form; "
                "expected timestamp and text, or start, end and line"
            )
        cues += _cue(float(start) - offset_seconds, float(end) - offset_seconds, [str(text)])
    return tuple(sorted(cues, key=lambda cue: (cue.start, cue.end)))


def read_srt(path: Path) -> tuple[Cue, ...]:
    """The cues of an SRT file, in whatever encoding it is."""
    return parse_srt(decode_text(path.read_bytes()))


def read_longvideobench(
    path: Path, *, duration_seconds: float, offset_seconds: float = 0.0
) -> tuple[Cue, ...]:
    """The cues of a LongVideoBench subtitle file. Raises InputError if it is no JSON list."""
    try:
        entries = json.loads(decode_text(path.read_bytes()))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}); download it again") from None
    if not isinstance(entries, list):
        raise InputError(f"{path} holds a {type(entries).__name__}, expected a list of subtitles")
    return parse_longvideobench(
        entries, duration_seconds=duration_seconds, offset_seconds=offset_seconds
    )


def cues_at_frames(cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[str]:
    """The texts shown at the frames, in time order, neighbours with equal text only once.

    A cue is shown at a frame if start <= frame < end. Where several overlap, all are taken.
    """
    shown = [
        cue for cue in cues if any(cue.start <= seconds < cue.end for seconds in frame_seconds)
    ]
    return _without_repeats([cue.text for cue in shown])


def all_texts(cues: Sequence[Cue]) -> list[str]:
    """Every text in time order, neighbours with equal text only once."""
    return _without_repeats([cue.text for cue in cues])


def at_frames_widened(cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[Cue]:
    """The cues within which a frame lies, both ends included, by their midpoints.

    A cue that is shorter than a second counts as a second around its midpoint (LongVideoBench's
    loader).
    """
    covering = []
    for cue in cues:
        middle = (cue.start + cue.end) / 2
        half = max(cue.end - cue.start, _MIN_CUE_SECONDS) / 2
        if any(middle - half <= seconds <= middle + half for seconds in frame_seconds):
            covering.append(cue)
    return sorted(covering, key=lambda cue: cue.start + cue.end)


def interleave(cues: Sequence[Cue], frame_seconds: Sequence[float]) -> list[int | str]:
    """Frames (as indices) and subtitle texts in the order in which LongVideoBench shows them.

    A cue stands after the frames up to its midpoint, if `at_frames_widened` keeps it.
    """
    order: list[int | str] = []
    frame = 0
    for cue in at_frames_widened(cues, frame_seconds):
        while frame < len(frame_seconds) and frame_seconds[frame] <= (cue.start + cue.end) / 2:
            order.append(frame)
            frame += 1
        order.append(cue.text)
    return [*order, *range(frame, len(frame_seconds))]


def _cue(start: float, end: float, lines: list[str]) -> list[Cue]:
    text = " ".join(_TAG.sub("", " ".join(lines)).split())
    return [Cue(start=start, end=end, text=text)] if text and end > start else []


def _without_next_number(lines: list[str]) -> list[str]:
    """The lines before a time line without the number that belongs to it."""
    # Directly below text a lone number is speech.
    if lines and lines[-1].strip().isdigit() and (len(lines) == 1 or not lines[-2].strip()):
        return lines[:-1]
    return lines


def _without_repeats(texts: list[str]) -> list[str]:
    return [text for place, text in enumerate(texts) if place == 0 or text != texts[place - 1]]


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _clock(text: str) -> float:
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise InputError(f"subtitle time {text!r} is not of the form H:MM:SS.mmm")
    return _seconds(*match.groups())
