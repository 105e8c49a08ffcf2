"""Times as text, `<12.5s>`: the one form that stands before frames, in questions and in answers.

Seconds are rounded to one decimal, half up, on the shortest decimal form of the number: 9.95
becomes 10.0 although the nearest binary number lies a hair below, because 9.95 is what a person
reads.
"""

import math
import re
from decimal import ROUND_HALF_UP, Decimal

from timevlm.errors import InputError

TIMESTAMP_PATTERN = r"<(?:0|[1-9][0-9]*)\.[0-9]s>"
_TIMESTAMP = re.compile(TIMESTAMP_PATTERN)
_TENTH = Decimal("0.1")


def round_seconds(seconds: float) -> float:
    """`seconds` rounded half up to the tenth that its timestamp shows.

    Raises InputError for a time that is negative or not finite.
    """
    return float(_rounded(seconds))


def timestamp_text(seconds: float) -> str:
    """The timestamp of a time: `<12.5s>`, always one decimal, no leading zeros.

    Raises InputError for a time that is negative or not finite.
    """
    return f"<{_rounded(seconds)}s>"


def parse_timestamp(text: str) -> float:
    """Seconds of a timestamp, the inverse of `timestamp_text`.

    Raises ValueError if `text` is anything but one timestamp.
    """
    if _TIMESTAMP.fullmatch(text) is None:
        raise ValueError(f"not a timestamp: {text!r}; expected the form '<12.5s>'")
    return float(text[1:-2])


def _rounded(seconds: float) -> Decimal:
    seconds = float(seconds)
    # -0.04 rounds to zero and is allowed: muxers place the first frame that little before the
    # start.
    if not math.isfinite(seconds) or seconds <= -0.05:
        raise InputError(
            f"a time of {seconds} s has no timestamp; times are finite and not negative: "
            "shift the times so that the video starts at 0 s or later"
        )
    # 28 digits of precision hold a tenth of a second for longer than any video.
    return Decimal(repr(max(seconds, 0.0))).quantize(_TENTH, rounding=ROUND_HALF_UP)
