"""Times that people write in a question, in the form in which the model sees them.

A model reads a time as the timestamp in front of a frame (`<12.0s>`), so "at 12 s" in a question
becomes the timestamp of the frame that is on the screen then, and a timestamp in an answer becomes
plain text again.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal

from timevlm.tasks.timestamps import timestamp_text

_CLOCK = r"(?:(?P<h>\d+):)?(?P<m>\d{1,2}):(?P<s>\d{2}(?:\.\d+)?)"
_PLAIN = r"(?P<n>\d+(?:\.\d+)?) ?(?:s|sec|secs|seconds?)"
_TIME = re.compile(rf"(?<![\w.:<])(?:{_CLOCK}|{_PLAIN})(?![\w:])")
_MARK = re.compile(r"<(\d+\.\d)s>")
# Times are decimals of frames' times: a tick of slack keeps 12.0 from missing 11.99999.
_SLACK = 1e-6


def mark_times(
    text: str, frame_seconds: Sequence[float], snap: Literal["shown", "from"] = "shown"
) -> str:
    """`text` with every time written as the timestamp of a frame.

    "shown" takes the frame that is on the screen at that time (the last one not after it), "from"
    the first frame not before it; outside the video both take its nearest frame. `frame_seconds`
    are sorted and not empty.
    """

    def replace(match: re.Match[str]) -> str:
        if match["n"]:
            seconds = float(match["n"])
        else:
            seconds = 3600 * int(match["h"] or 0) + 60 * int(match["m"]) + float(match["s"])
        if snap == "shown":
            index = bisect_right(frame_seconds, seconds + _SLACK) - 1
        else:
            index = bisect_left(frame_seconds, seconds - _SLACK)
        index = min(max(index, 0), len(frame_seconds) - 1)
        return timestamp_text(frame_seconds[index])

    return _TIME.sub(replace, text)


def unmark_times(text: str) -> str:
    """`text` with every timestamp `<12.0s>` written as `12.0s`."""
    return _MARK.sub(r"\1s", text)
