"""Which stretch of time a free-text reply names: ordered patterns, never a guess.

A reply is read as seconds unless the model speaks in frame indices (0-99 over the video) or in
parts of the video. A span given end first is swapped and marked, because papers differ in what
they do with it; a reply that fits no pattern is unparsed and scores IoU 0.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from eval.metrics.cleaning import clean_reply
from timevlm.errors import InputError

Span = tuple[float, float]
Pick = Literal["last", "first"]
TimeUnit = Literal["seconds", "frame_index", "normalized"]
SPAN_RULE_SETS = ("ours", "official", "timeviper", "lmms")
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
UNPARSED = "unparsed"
NUM_FRAME_INDICES = 100
"""Models that answer in frame indices number the video's frames from 0 to 99."""

_CLOCK = r"(?:\d+:)?\d{1,2}:\d{2}(?:\.\d+)?"
_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:\s*(?:seconds?|secs?|minutes?|mins?|s|m|%)(?![a-z]))"
_DASH = r"[-\u2010-\u2015~]"
_SEPARATOR = rf"\s*(?:{_DASH}+>?|\bto\b|\buntil\b|\btill\b|\band\b)\s*"
_TIME = rf"(?:{_CLOCK}|{_NUMBER}{_UNIT}?)"
_ALONE = r"(?<![\w.:/])"  # not inside a longer number, a word or a fraction
_OVER = r"(?![\w:/]|\.\d)"
_KEY_TAIL = r"(?:[ _-]?(?:time|timestamp|seconds?|secs?|sec|frame|s))*"
_KEY_VALUE = rf"[\"']?[^\d\n:=]{{0,40}}(?:[:=]|\bis\b)\s*[\"'<\[]?({_TIME})"
_OPENS = r"(?:starts?|starting|begins?|beginning)"
_CLOSES = r"(?:ends?|ending|finish(?:es)?|stops?)"

# In the order in which they are tried; each captures the two times.
_PATTERNS: dict[str, re.Pattern[str]] = {
    rule: re.compile(pattern, re.IGNORECASE)
    for rule, pattern in {
        "clock": rf"{_ALONE}({_CLOCK})[\"']?(?:{_SEPARATOR}|\s*,\s*)[\"']?({_CLOCK})(?!\d)",
        "bracketed": rf"[\[(<]\s*({_TIME})\s*[,;]\s*({_TIME})\s*[\])>]",
        "keys": rf"\b{_OPENS}{_KEY_TAIL}{_KEY_VALUE}[^\d]{{0,60}}?"
        rf"\b{_CLOSES}{_KEY_TAIL}{_KEY_VALUE}",
        "pair": rf"{_ALONE}({_NUMBER}{_UNIT}?){_SEPARATOR}({_NUMBER}{_UNIT}?){_OVER}",
        "prose": rf"\b{_OPENS}\b[^\d\n]{{0,40}}?({_TIME})[^\d]{{0,60}}?"
        rf"\b{_CLOSES}\b[^\d\n]{{0,40}}?({_TIME})",
    }.items()
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeScale:
    """What the numbers of a reply mean as times: seconds, or a place in the video.

    Clock times and minutes say what they are and mean the same under every unit; "%" is a part of
    the video under any unit but seconds. Raises InputError for an unknown unit, or one that needs
    the video's duration where that is not known.
    """

    unit: TimeUnit = "seconds"
    """"frame_index": of 100 frames over the video; "normalized": 0 to 1 over the video."""
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        check_time_unit(self.unit)
        if self.unit != "seconds" and not (self.duration_seconds or 0) > 0:
            raise InputError(
                f"span unit {self.unit!r} needs the video's duration in seconds, got "
                f"{self.duration_seconds}; read the replies with span unit 'seconds'"
            )

    def seconds(self, time: str) -> float:
        """Seconds of a number with or without a unit behind it, or of a clock time."""
        if ":" in time:
            return clock_seconds(time)
        value = float(re.match(_NUMBER, time)[0])
        suffix = time.lstrip("0123456789.").strip().lower()
        if suffix.startswith("m"):
            return 60.0 * value
        if suffix == "%":
            value /= 100.0
        if self.unit == "seconds" or self.duration_seconds is None:
            return value
        if self.unit == "frame_index" and suffix != "%":
            value /= NUM_FRAME_INDICES
        return value * self.duration_seconds


def check_time_unit(unit: str, rules: str = "ours") -> None:
    """Raise InputError for an unknown unit, or for rules that read nothing but seconds."""
    if unit not in TIME_UNITS:
        raise InputError(f"unknown span unit {unit!r}; use one of {', '.join(TIME_UNITS)}")
    if unit != "seconds" and rules in _COMPAT:
        raise InputError(
            f"the rules {rules!r} read seconds alone, as that script does; read span unit "
            f"{unit!r} with the rules 'ours'"
        )


SECONDS = TimeScale()


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanParse:
    """The span that a reply names and the rule that found it."""

    span: Span | None
    """(start, end) in seconds, start <= end except under the rules "timeviper"."""
    rule: str
    swapped: bool = False
    """The reply gave the end first."""


def parse_spans(
    text: str,
    *,
    pick: Pick = "last",
    scale: TimeScale = SECONDS,
    rules: str = "ours",
) -> SpanParse:
    """The span that `text` names.

    Of several matches of the first rule that matches at all, `pick` takes the last (as TimeViper
    does) or the first (as lmms-eval does). `scale` says what numbers mean. `rules` "timeviper" and
    "lmms" read as those scripts do, in seconds alone; there is no official text parser, so
    "official" is "ours". Raises InputError for unknown options and for rules that cannot read the
    scale's unit.
    """
    for name, value, allowed in (
        ("pick", pick, get_args(Pick)),
        ("rule set", rules, SPAN_RULE_SETS),
    ):
        if value not in allowed:
            raise InputError(f"unknown {name} {value!r}; use one of {', '.join(allowed)}")
    check_time_unit(scale.unit, rules)
    if rules in _COMPAT:
        return _COMPAT[rules](text)
    cleaned = clean_reply(text)
    for rule, pattern in _PATTERNS.items():
        matches = list(pattern.finditer(cleaned))
        if matches:
            match = matches[-1 if pick == "last" else 0]
            start, end = map(scale.seconds, _times(match))
            swapped = end < start
            span = (end, start) if swapped else (start, end)
            return SpanParse(span=span, rule=rule, swapped=swapped)
    return SpanParse(span=None, rule=UNPARSED)


def _times(match: re.Match[str]) -> tuple[str, str]:
    """Both times; "5 - 9 minutes" says the unit once for both."""
    start, end = match.groups()
    bare = re.fullmatch(_NUMBER, start)
    unit = re.search(r"(?:minutes?|mins?|m|%)$", end, re.IGNORECASE)
    return (start + unit[0], end) if bare and unit else (start, end)


def clock_seconds(time: str) -> float:
    """Seconds of `mm:ss` or `h:mm:ss`, with or without decimals."""
    total = 0.0
    for part in time.split(":"):
        total = 60.0 * total + float(part)
    return total


def _timeviper(text: str) -> SpanParse:
    """The last "A to B" or "A and B" of bare numbers; never swapped."""
    pairs = re.findall(r"(\d+\.?\d*) (?:to|and) (\d+\.?\d*)", text)
    if not pairs:
        return SpanParse(span=None, rule="timeviper")
    start, end = pairs[-1]
    return SpanParse(span=(float(start), float(end)), rule="timeviper")


def _lmms(text: str) -> SpanParse:
    """lmms-eval 0.7.2: only sentences with a keyword count, every "to" is a dash, first hit."""
    text = text.lower().replace("a specific example is : 20.8 - 30.0 seconds", "")
    text = text.replace("to", "-")
    keywords = ("start", "end", "happen")
    sentences = [part for part in re.split(r"[!?\n]", text) if any(key in part for key in keywords)]
    for found in (_lmms_pairs, _lmms_numbers, _lmms_clocks, _lmms_pairs_with_units):
        times = found(sentences)
        if times:
            start, end = times
            swapped = end <= start
            span = (end, start) if swapped else (start, end)
            return SpanParse(span=span, rule="lmms", swapped=end < start)
    return SpanParse(span=None, rule="lmms")


def _lmms_pairs(sentences: list[str]) -> Span | None:
    for sentence in sentences:
        pair = re.search(r"(\d+(?:\.\d+)?)\s*[\u2013-]\s*(\d+(?:\.\d+)?)", sentence)
        if pair:
            return float(pair[1]), float(pair[2])
    return None


def _lmms_numbers(sentences: list[str]) -> Span | None:
    """The first number of each of the first two sentences that have one."""
    firsts = [re.search(r"\b\d+(?:\.\d+)?\b", sentence) for sentence in sentences]
    numbers = [float(first[0]) for first in firsts if first]
    return (numbers[0], numbers[1]) if len(numbers) >= 2 else None


def _lmms_clocks(sentences: list[str]) -> Span | None:
    """As `_lmms_numbers`, with h:mm:ss; reached only where the numbers gave no pair."""
    firsts = [re.search(r"\b\d{1,2}:\d{2}:\d{2}\b", sentence) for sentence in sentences]
    clocks = [clock_seconds(first[0]) for first in firsts if first]
    return (clocks[0], clocks[1]) if len(clocks) >= 2 else None


def _lmms_pairs_with_units(sentences: list[str]) -> Span | None:
    """As `_lmms_pairs`, with an "s" behind the numbers."""
    for sentence in sentences:
        pair = re.search(r"(\d+(?:\.\d+)?)\s*s?\s*[\u2013-]\s*(\d+(?:\.\d+)?)", sentence)
        if pair:
            return float(pair[1]), float(pair[2])
    return None


_COMPAT: dict[str, Callable[[str], SpanParse]] = {"timeviper": _timeviper, "lmms": _lmms}
