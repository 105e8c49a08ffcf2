"""When nothing moves in a video of level "full", footage or not."""

import torch
from torch import Tensor

from timevlm.synth.full.footage import FootageVideo
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.full.timeline import FullTimeline, outside
from timevlm.synth.items import Span
from timevlm.synth.timeline import merge_spans

STILL, MOVING, OPEN = 0, 1, -1  # labels of frames


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
