"""The plot of a sweep: the score against what it costs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PANELS = (
    ("frames", "frames a video", 1.0),
    ("tokens", "vision tokens left after compression", 1.0),
    ("seconds_per_sample", "seconds a question", 1.0),
    ("peak_rss_bytes", "peak memory, MB", 2.0**20),
)
_MARKERS = "osD^vP*X"


def plot_sweep(found: Mapping[str, Any], path: Path) -> None:
    """Write a PNG with four panels: score against frames, tokens, seconds and memory.

    `found` is what `eval.sweep.run_sweep` returns; bars are 95% intervals, cells that failed or
    lack a number are left out of a panel.
    """
    from matplotlib.figure import Figure

    cells = [cell for cell in found["cells"] if cell["score"] is not None]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(found["title"])
    for axes, (key, label, scale) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        axes.set_xlabel(label)
        axes.set_ylabel(found["metric"] or "score")
        axes.grid(alpha=0.3)
        for number, cell in enumerate(cells):
            if cell[key] is None:
                continue
            score, low, high = cell["score"], cell["low"], cell["high"]
            bars = None if low is None or high is None else [[score - low], [high - score]]
            marker = _MARKERS[number // 10 % len(_MARKERS)]
            axes.errorbar(
                cell[key] / scale,
                score,
                yerr=bars,
                fmt=marker,
                color=f"C{number % 10}",
                capsize=3,
                alpha=0.8,
                label=cell["label"],
            )
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(partial, format="png", dpi=120)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
