"""What a training log looks like: losses, accuracies and the learning rate as one picture."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from timevlm.errors import InputError
from timevlm.training.loop import read_log

Line = dict[str, Any]
_PANELS = (("loss", "losses"), ("accuracy", "accuracies"), ("learning_rate", "learning rate"))
_PIXELS_PER_INCH = 120


def log_lines(path: Path) -> list[Line]:
    """The lines of a log, without steps that an interrupted run made again or never kept.

    Processes may write to one log at once and a resumed run repeats some steps: of every phase and
    step the last line counts, in the order of steps. In a log of several runs, one after another,
    a "stage" tells them apart. Raises InputError where there is no line.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give the log.jsonl of a training folder")
    lines = [line for line in read_log(path) if {"phase", "step", "minutes"} <= line.keys()]
    if not lines:
        raise InputError(f"{path} holds no line of a training log yet; wait for the first")
    order = {part: i for i, part in enumerate(dict.fromkeys(map(_part, lines)))}
    latest = {(order[_part(line)], line["step"]): line for line in lines}
    return [latest[key] for key in sorted(latest)]


def _part(line: Line) -> tuple[str, str]:
    """The stage, empty in a log of one run, and the phase that a line is of."""
    return line.get("stage", ""), line["phase"]


def render_share(lines: Iterable[Line]) -> float | None:
    """Share of the time trained that went into making frames, questions and labels, 0..1.

    None where the log does not say: no line has both "render_seconds" and "step_seconds".
    """
    pairs = [
        (line["render_seconds"], line["step_seconds"])
        for line in lines
        if {"render_seconds", "step_seconds"} <= line.keys()
    ]
    total = sum(step for _, step in pairs)
    return sum(rendered for rendered, _ in pairs) / total if total else None


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and its `width` neighbours to either side; shorter at the ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for i in range(len(values)):
        low, high = max(0, i - width), min(len(values), i + width + 1)
        means.append((sums[high] - sums[low]) / (high - low))
    return means


def plot_log(lines: Iterable[Line], path: Path, *, title: str = "") -> None:
    """Write a PNG with three panels over the minutes trained; phases follow one another.

    Thin lines are what was logged, thick ones the mean over about a twentieth of the phase. Raises
    InputError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "matplotlib is missing; install it with: pip install matplotlib"
        ) from error
    lines = list(lines)
    minutes, starts = _run_minutes(lines)
    figure = Figure(figsize=(9, 9), layout="constrained")
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, (ending, quantity) in zip(panels, _PANELS, strict=True):
        names = dict.fromkeys(name for line in lines for name in line if name.endswith(ending))
        for number, name in enumerate(names):
            label = name
            for x, y in _curves(lines, minutes, name):
                axes.plot(x, y, linewidth=0.5, alpha=0.4, color=f"C{number}")
                mean = smoothed(y, max(1, len(y) // 40))
                axes.plot(x, mean, linewidth=1.8, color=f"C{number}", label=label)
                label = None  # one line of the legend for all parts
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        if ending == "accuracy":
            axes.set_ylim(0, 1)
        for start in starts.values():
            axes.axvline(start, color="black", linewidth=0.6, linestyle=":")
        if len(names) > 1:
            axes.legend(fontsize=8)
    named: dict[str, float] = {}  # a stage of several phases has its name once
    for (stage, phase), start in starts.items():
        named.setdefault(stage or phase, start)
    for name, start in named.items():
        panels[0].annotate(name, (start, 1.01), xycoords=("data", "axes fraction"), fontsize=8)
    panels[-1].set_xlabel("minutes trained")
    figure.suptitle(title)
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(partial, dpi=_PIXELS_PER_INCH, format="png")
    os.replace(partial, path)


def _curves(
    lines: Sequence[Line], minutes: Sequence[float], name: str
) -> list[tuple[list[float], list[float]]]:
    """Minutes and values of what is logged under a name, a curve for each part that has it."""
    curves: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for minute, line in zip(minutes, lines, strict=True):
        if name in line:
            x, y = curves.setdefault(_part(line), ([], []))
            x.append(minute)
            y.append(line[name])
    return list(curves.values())


def _run_minutes(lines: Sequence[Line]) -> tuple[list[float], dict[tuple[str, str], float]]:
    """Minutes since the log's first phase began, of every line; where each phase begins."""
    starts: dict[tuple[str, str], float] = {}
    minutes: list[float] = []
    for line in lines:
        part = _part(line)
        if part not in starts:
            starts[part] = minutes[-1] if minutes else line["minutes"]
        offset = starts[part] if minutes and len(starts) > 1 else 0.0
        minutes.append(offset + line["minutes"])
    return minutes, starts
