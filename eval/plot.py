"""The plot of a sweep: the score against what it costs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PANELS = (
    ("frames", "frames a video", 1.0),
    ("tokens", "tokens read for a question", 1.0),
    ("seconds_per_sample", "seconds a question", 1.0),
    ("peak_rss_bytes", "peak memory, MB", 2.0**20),
)
_MAX_LABELS = 12


def plot_sweep(found: Mapping[str, Any], path: Path) -> None:
    """Write a PNG with four panels: score against frames, tokens, seconds and memory.

    `found` is what `eval.sweep.run_sweep` returns; bars are 95% intervals, cells that failed or
    lack a number are left out of a panel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(found["title"])
    cells = [cell for cell in found["cells"] if cell["score"] is not None]
    for axes, (key, label, scale) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        axes.set_xlabel(label)
        axes.set_ylabel(found["metric"] or "score")
        axes.grid(alpha=0.3)
        for number, cell in enumerate(cells):
            if cell[key] is None:
                continue
            score, low, high = cell["score"], cell["low"], cell["high"]
            bars = None if low is None or high is None else [[score - low], [high - score]]
            colour = f"C{number % 10}"
            x = cell[key] / scale
            axes.errorbar(x, score, yerr=bars, fmt="o", color=colour, capsize=3, alpha=0.8)
            if len(cells) <= _MAX_LABELS:
                offset = (4, 4 + 9 * (number % 3))
                axes.annotate(
                    cell["label"], (x, score), xytext=offset, textcoords="offset points", fontsize=7
                )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(partial, format="png", dpi=120)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
