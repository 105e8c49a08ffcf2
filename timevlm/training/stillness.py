"""When nothing moves in a video of level "full", footage or not."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from timevlm.evidence import flag_runs
from timevlm.synth.full.footage import FootageVideo
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.full.timeline import FullTimeline, outside
from timevlm.synth.items import Span
from timevlm.tasks.grounding import merge_spans

STILL, MOVING, OPEN = 0, 1, -1  # labels of frames
_SLACK = 1e-6  # seconds: times on a clock that starts late come back with rounding noise


def still_spans(spec: FullVideo) -> list[Span] | None:
    """When nothing moves, drifters included; None where a trembling camera leaves it open."""
    still = list(FullTimeline(spec).still_spans())
    if not isinstance(spec, FootageVideo):
        return still
    if any(shot.tremble for shot in spec.scenes):
        return None
    busy = merge_spans(
        [(d.start_seconds, d.end_seconds) for shot in spec.scenes for d in shot.drifters]
    )
    return [part for span in still for part in outside(span, busy) if part[1] - part[0] >= 1.0]


def still_on_frames(
    spans: Sequence[Span], frame_seconds: Sequence[float], end_seconds: float
) -> list[Span]:
    """Still spans as far as frames show them: whole intervals from one frame to another.

    Pictures alike tell that nothing moved between them, and not for how long after. An interval
    alone takes in what its second frame begins, since one frame by itself stands for a moment; one
    before the last frame reaches to `end_seconds`. Spans that no two frames show are left out,
    unless that is all of them.
    """
    last = len(frame_seconds) - 1
    until = [*frame_seconds[1:], end_seconds]  # when each frame leaves the screen
    rests = [
        any(start <= before + _SLACK and after <= end + _SLACK for start, end in spans)
        for before, after in pairwise(frame_seconds)
    ]
    shown = [
        (frame_seconds[i], until[last if j == last - 1 else max(j, i + 1)])
        for i, j in flag_runs(rests)
    ]
    return shown or list(spans)


def still_labels(spec: FullVideo, seconds: Tensor) -> Tensor:
    """Whether nothing has moved since the frame before, for frames at these rising times (N,).

    STILL, MOVING or OPEN, (N,); the first frame shows neither.
    """
    spans = still_spans(spec)
    if spans is None:
        return torch.full(seconds.shape, OPEN)
    found = torch.full(seconds.shape, MOVING)
    for start, end in spans:
        found[1:][(seconds[:-1] >= start) & (seconds[1:] <= end)] = STILL
    found[:1] = OPEN
    return found
