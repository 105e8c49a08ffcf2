"""What a question about a video returns: frozen records and their JSON, SRT, WebVTT, CSV forms.

Times are seconds of presentation time, as the decoder reports them. A record refuses values that
make no sense when it is built, so everything that holds one can rely on it. Nothing here needs
torch: other programs read results with it.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar, Self

from timevlm.errors import InputError

_CLOCK = re.compile(
    r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{2}(?:\.\d*)?)|(?P<plain>\d+(?:\.\d*)?|\.\d+)s?)"
)


def format_timestamp(seconds: float) -> str:
    """A time as people read it, `H:MM:SS.mmm`, rounded half up to the millisecond.

    Times up to 0.05 s before zero, where muxers put the first frame of some files, show as zero.
    Raises InputError for an earlier or infinite time.
    """
    if not math.isfinite(seconds) or seconds <= -0.05:
        raise InputError(
            f"a time of {seconds} s cannot be shown; times are finite and not before 0 s"
        )
    hours, minutes, whole, thousandths = _clock_parts(_milliseconds(seconds))
    return f"{hours}:{minutes:02}:{whole:02}.{thousandths:03}"


def parse_time(text: str) -> float:
    """Seconds of a time written as seconds (`90`, `90.5s`) or as a clock (`1:30`, `0:01:30.5`).

    Raises InputError for anything else.
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{text!r} is not a time; write seconds (90.5) or a clock ([H:]MM:SS[.mmm])"
        )
    if match["plain"]:
        return float(match["plain"])
    minutes, seconds = int(match["minutes"]), float(match["seconds"])
    if seconds >= 60 or (match["hours"] and minutes >= 60):
        raise InputError(f"{text!r} is not a time; minutes and seconds of a clock are below 60")
    return int(match["hours"] or 0) * 3600 + minutes * 60 + seconds


class _Record:
    """JSON both ways for the dataclasses below."""

    __slots__ = ()
    _derived: ClassVar[frozenset[str]] = frozenset()  # keys of to_dict that restate other keys

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers that `json` writes as they are."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises InputError on unknown, missing or ill-typed entries."""
        if not isinstance(data, Mapping):
            raise InputError(f"{cls.__name__} is read from a dict, not from {type(data).__name__}")
        known = {item.name for item in fields(cls)}
        given = set(data) - cls._derived
        if given != known:
            parts = [f"unknown {sorted(given - known)}"] * bool(given - known)
            parts += [f"missing {sorted(known - given)}"] * bool(known - given)
            raise InputError(f"{cls.__name__} has other entries than expected: {', '.join(parts)}")
        return cls(**{name: cls._read(name, data[name]) for name in known})

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        return value

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON text; never NaN or Infinity."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises InputError on text that is not such JSON."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{cls.__name__} is not valid JSON: {error}") from error
        return cls.from_dict(data)


class _Interval(_Record):
    """A record with `start` and `end`: its dict also shows both as people read them."""

    __slots__ = ()
    _derived: ClassVar[frozenset[str]] = frozenset({"start_time", "end_time"})

    def to_dict(self) -> dict[str, Any]:
        """The fields, and `start_time`, `end_time` as `H:MM:SS.mmm`."""
        start, end = (format_timestamp(max(0.0, t)) for t in (self.start, self.end))
        return {**_Record.to_dict(self), "start_time": start, "end_time": end}

    def _check(self) -> None:
        for name in ("start", "end", "score"):
            _set_number(self, name)
        if self.end < self.start:
            raise InputError(
                f"{type(self).__name__} ends at {self.end} s, before its start at {self.start} s; "
                "give end >= start"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Span(_Interval):
    """An interval of a video, in seconds; a higher score is a better match."""

    start: float
    end: float
    score: float = 1.0

    def __post_init__(self) -> None:
        self._check()


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption(_Interval):
    """What happens in an interval of a video, in seconds."""

    start: float
    end: float
    text: str
    score: float = 1.0

    def __post_init__(self) -> None:
        self._check()
        _require(self, "text", str)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings(_Record):
    """Seconds of wall time of each stage. Stages overlap, so the sum may exceed the time waited."""

    decode: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    generate: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            _set_number(self, item.name)
            if getattr(self, item.name) < 0:
                raise InputError(f"Timings.{item.name} is {getattr(self, item.name)}; it is >= 0 s")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerScore(_Record):
    """How likely a model is to give one answer, the end of its turn included."""

    log_probability: float  # natural logarithm
    is_greedy: bool  # whether greedy decoding writes exactly this answer

    def __post_init__(self) -> None:
        _set_number(self, "log_probability")
        _require(self, "is_greedy", bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(_Record):
    """The reply to one question, the seconds it rests on, and what is needed to repeat it."""

    question: str
    text: str
    choice: int | None = None  # index into `choices`
    choices: tuple[str, ...] = ()
    confidence: float  # probability of the reply, in [0, 1]
    evidence: tuple[Span, ...] = ()
    timings: Timings = field(default_factory=Timings)
    plan: dict[str, Any] = field(default_factory=dict)  # the sampling plan that was carried out
    warnings: tuple[str, ...] = ()
    video: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        for name in ("question", "text", "video", "model"):
            _require(self, name, str)
        _set_tuple(self, "choices", str)
        _set_tuple(self, "warnings", str)
        _set_tuple(self, "evidence", Span)
        _require(self, "timings", Timings)
        _require(self, "plan", dict)
        _set_number(self, "confidence")
        if not 0 <= self.confidence <= 1:
            raise InputError(f"Answer.confidence is {self.confidence}; it lies between 0 and 1")
        self._check_choice()
        try:
            json.dumps(self.plan, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"Answer.plan cannot be written as JSON: {error}") from error

    def _check_choice(self) -> None:
        if self.choice is None:
            return
        if isinstance(self.choice, bool) or not isinstance(self.choice, int):
            raise InputError(f"Answer.choice is {self.choice!r}; it is an index or None")
        if not 0 <= self.choice < len(self.choices):
            raise InputError(
                f"Answer.choice is {self.choice}; it is an index into {len(self.choices)} choices"
            )

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        if name == "timings":
            return Timings.from_dict(value)
        if name == "evidence" and isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(Span.from_dict(item) for item in value)
        return value


def to_srt(captions: Iterable[Caption]) -> str:
    """SubRip text: numbered cues with `HH:MM:SS,mmm` times."""
    cues = []
    for number, caption in enumerate(captions, start=1):
        start, end = _cue_times(caption, ",")
        cues.append(f"{number}\n{start} --> {end}\n{_cue_text(caption.text)}\n")
    return "\n".join(cues)


def to_vtt(cues: Iterable[Caption | Span], *, label: str = "") -> str:
    """WebVTT text with `HH:MM:SS.mmm` times; the text of a Span's cue is `label` and its score."""
    parts = ["WEBVTT\n"]
    for cue in cues:
        start, end = _cue_times(cue, ".")
        text = cue.text if isinstance(cue, Caption) else f"{label} ({cue.score:.3f})".lstrip()
        text = _cue_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts.append(f"{start} --> {end}\n{text}\n")
    return "\n".join(parts)


def spans_to_csv(spans: Iterable[Span]) -> str:
    """CSV with the columns start, end, score (seconds, every digit) and start_time, end_time."""
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, ["start", "end", "score", "start_time", "end_time"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(span.to_dict() for span in spans)
    return buffer.getvalue()


def _milliseconds(seconds: float) -> int:
    return max(0, math.floor(seconds * 1000 + 0.5))


def _clock_parts(milliseconds: int) -> tuple[int, int, int, int]:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds, thousandths


def _cue_times(cue: _Interval, decimal_mark: str) -> tuple[str, str]:
    start = _milliseconds(cue.start)
    end = max(_milliseconds(cue.end), start + 1)  # players drop cues that last no time
    clocks = (_clock_parts(start), _clock_parts(end))
    first, last = (f"{h:02}:{m:02}:{s:02}{decimal_mark}{ms:03}" for h, m, s, ms in clocks)
    return first, last


def _cue_text(text: str) -> str:
    # A blank line ends a cue in both formats.
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _plain(value: Any) -> Any:
    if isinstance(value, _Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _require(record: _Record, name: str, kind: type) -> None:
    value = getattr(record, name)
    if not isinstance(value, kind):
        raise InputError(
            f"{type(record).__name__}.{name} is {type(value).__name__}; it must be {kind.__name__}"
        )


def _set_number(record: _Record, name: str) -> None:
    value = getattr(record, name)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{type(record).__name__}.{name} is {value!r}; it must be a finite number")
    object.__setattr__(record, name, float(value))


def _set_tuple(record: _Record, name: str, kind: type) -> None:
    value = getattr(record, name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{type(record).__name__}.{name} must be a sequence of {kind.__name__}")
    if not all(isinstance(item, kind) for item in value):
        raise InputError(
            f"{type(record).__name__}.{name} holds something else than {kind.__name__}"
        )
    object.__setattr__(record, name, tuple(value))
