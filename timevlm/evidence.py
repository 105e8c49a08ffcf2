"""Where an answer looked: the deep layer's ranking of vision tokens, as spans of seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from timevlm.results import Span

MAX_SPANS = 3
# A frame belongs to the evidence when it gets at least this share of the best frame's attention.
RELATIVE_FLOOR = 0.5


def evidence_spans(
    ranking: Tensor, held_seconds: Tensor, frame_seconds: Tensor, video_end: float
) -> tuple[Span, ...]:
    """Up to MAX_SPANS spans that got most attention, best first.

    ranking (T,) is the attention that each held vision token got, held_seconds (T,) when each was
    seen, frame_seconds (N,) all frames. Attention is summed per frame; neighbouring frames above
    the floor make one span, whose score is its share of all attention on the video. A span reaches
    to the next frame, or to the video's end.
    """
    index = torch.searchsorted(frame_seconds, held_seconds)
    per_frame = torch.zeros(frame_seconds.shape[0], dtype=torch.float64)
    per_frame.index_add_(0, index, ranking.double().cpu())
    total = float(per_frame.sum())
    if total <= 0.0:
        return ()
    chosen = per_frame >= RELATIVE_FLOOR * per_frame.max()
    times = frame_seconds.tolist()
    spans = []
    for first, last in flag_runs(chosen.tolist()):
        score = float(per_frame[first : last + 1].sum()) / total
        start, end = frame_interval(first, last, times, video_end)
        spans.append(Span(start=start, end=end, score=score))
    spans.sort(key=lambda span: -span.score)
    return tuple(spans[:MAX_SPANS])


def frame_interval(
    first: int, last: int, frame_seconds: Sequence[float], video_end: float
) -> tuple[float, float]:
    """Seconds during which frames `first` to `last` are on the screen."""
    end = frame_seconds[last + 1] if last + 1 < len(frame_seconds) else video_end
    return frame_seconds[first], max(end, frame_seconds[first])


def told_interval(
    first: int, last: int, frame_seconds: Sequence[float], video_end: float
) -> tuple[float, float]:
    """Seconds of what an answer says frames `first` to `last` show.

    Several are taken as long as they are on the screen. What one frame alone shows began after the
    frame before and was over before the next, so that it is most likely around the frame and not
    between it and the next: it reaches half the way to the nearer neighbour. A video's first frame
    begins it, its last ends with it.
    """
    start, end = frame_interval(first, last, frame_seconds, video_end)
    if last > first:
        return start, end
    has_before, has_after = first > 0, first + 1 < len(frame_seconds)
    gaps = [start - frame_seconds[first - 1]] if has_before else []
    gaps += [end - start] if has_after else []
    reach = min(gaps, default=0.0) / 2
    return start - reach if has_before else start, start + reach if has_after else end


def flag_runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    runs: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        elif flag:
            runs.append((i, i))
    return runs
