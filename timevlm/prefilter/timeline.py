"""A picture of a scanned video: what was seen in each segment, above the scores over time."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from timevlm.errors import InputError
from timevlm.prefilter.scan import Scan
from timevlm.prefilter.segments import Segment
from timevlm.results import format_timestamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PICTURES = 8
# Okabe and Ito's colours, which colour-blind readers tell apart.
_SEGMENT, _EVENT, _NOVELTY = "#56b4e9", "#d55e00", "#7f7f7f"
_WIDTH = 12.0  # inches


def draw_timeline(scan: Scan, path: Path) -> None:
    """Write the timeline as a PNG. Raises InputError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "--png needs matplotlib, which is not installed: pip install 'timevlm[train]'"
        ) from None
    shown = shown_segments(scan)
    figure = Figure(figsize=(_WIDTH, 4.2 if shown else 2.4), dpi=110, layout="constrained")
    if shown:
        rows = figure.add_gridspec(2, 1, height_ratios=[1.25, 1.0])
        _draw_pictures(figure, rows[0].subgridspec(1, max(4, len(shown))), scan, shown)
        axes = figure.add_subplot(rows[1])
    else:
        axes = figure.add_subplot()
    _draw_scores(axes, scan, shown)
    figure.suptitle(f"{Path(scan.video).name}: {scan.count_text} ({scan.model})", fontsize=11)
    figure.savefig(path, format="png")


def shown_segments(scan: Scan) -> list[Segment]:
    """The up to MAX_PICTURES segments of the highest score, in time order."""
    best = sorted(scan.segments, key=lambda item: (-item.score, item.start))[:MAX_PICTURES]
    return sorted(best, key=lambda item: item.start)


def _draw_pictures(figure: "Figure", grid: object, scan: Scan, shown: list[Segment]) -> None:
    for number, segment in enumerate(shown):
        axes = figure.add_subplot(grid[0, number])
        axes.imshow(scan.picture_at(segment.peak).permute(1, 2, 0).numpy())
        axes.set_xticks([])
        axes.set_yticks([])
        title = f"{number + 1}: {format_timestamp(segment.peak)}"
        axes.set_xlabel("\n".join(f"{a} {p:.2f}" for a, p in segment.likely_labels()), fontsize=8)
        axes.set_title(title, fontsize=8)


def _draw_scores(axes: "Axes", scan: Scan, shown: list[Segment]) -> None:
    seconds, scores = scan.scores.seconds, scan.scores
    for segment in scan.segments:
        axes.axvspan(segment.start, segment.end, color=_SEGMENT, alpha=0.35, linewidth=0)
    axes.plot(seconds, scores.novelty, color=_NOVELTY, linewidth=0.9, label="novelty")
    if np.any(scores.event):
        axes.plot(seconds, scores.event, color=_EVENT, linewidth=1.1, label="event")
    for number, segment in enumerate(shown):
        middle = (segment.start + segment.end) / 2
        axes.text(middle, 1.04, str(number + 1), ha="center", va="bottom", fontsize=8)
    axes.set_xlim(scan.start_seconds, max(scan.end_seconds, scan.start_seconds + 0.1))
    axes.set_ylim(0.0, 1.18)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.xaxis.set_major_formatter(lambda value, _: _clock(value))
    axes.set_ylabel("score", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:04.1f}" if rest % 1 else f"{int(rest):02d}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
