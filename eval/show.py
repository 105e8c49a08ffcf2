"""What `timevlm eval` prints for people."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.report import words

SWEEP_COLUMNS = ("95% interval", "frames", "tokens", "s/question", "peak MB", "memory KB")
_SHOWN_DIFFERENCES = 20


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """The score tables with intervals, and what answering took."""
    console = _console()
    limited = ""
    if metrics["limited"]:
        limited = f"  LIMITED to {metrics['num_videos']} of {metrics['num_videos_of_split']} videos"
    found = metrics["subtitles"]
    subtitles = {False: "", True: ", subtitles"}.get(found, f", {found} subtitles")
    console.print(
        escape(
            f"{metrics['title']} {metrics['split']} (version {metrics['bench_version']}"
            f"{subtitles}), {metrics['model']}, {metrics['sampling']}"
            f"{words.span_unit(metrics, ', times as ')}{limited}"
        ),
        style="bold",
    )
    for title, lines in metrics["tables"].items():
        table = Table(title=escape(title), title_justify="left", min_width=40)
        for column in ("", "score", "95% interval", "n"):
            table.add_column(column, justify="left" if not column else "right")
        for line in lines:
            interval = words.interval(line, 2) or words.no_interval(line, "-")
            note = f"  ({line['note']})" if line.get("note") else ""
            score = _score(line["value"], line["unit"])
            table.add_row(escape(line["name"] + note), score, interval, str(line["n"]))
        console.print(table)
    seconds = metrics["cost"]["seconds"]
    parts = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    console.print(f"time: {parts}; {metrics['cost']['seconds_per_sample']:.3f} s a question")
    if "folder" in metrics:
        console.print(escape(f"result: {metrics['folder']}"), soft_wrap=True)


def print_comparison(found: Mapping[str, Any]) -> None:
    """Both means, the difference and how sure it is, one line a task."""
    console = _console()
    for name in ("a", "b"):
        console.print(escape(f"{name.upper()}: {found[name]['model']}  {found[name]['folder']}"))
    for line in found["settings"]:
        console.print(escape(f"not the same: {line}"))
    table = Table(title=f"{found['num_common']} common questions", title_justify="left")
    for column in ("task", "A", "B", "B - A", "95% interval", "p", "McNemar p", "n", "videos"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, line in found["tasks"].items():
        exact = line.get("mcnemar")
        table.add_row(
            task,
            f"{line['a']:.2f}",
            f"{line['b']:.2f}",
            f"{line['difference']:+.2f}",
            "-" if line["low"] is None else f"{line['low']:+.2f} to {line['high']:+.2f}",
            "-" if line["p_value"] is None else f"{line['p_value']:.4f}",
            "" if exact is None else f"{exact['p_value']:.4f}",
            str(line["num_samples"]),
            str(line["num_clusters"]),
        )
    console.print(table)


def print_replay(found: Mapping[str, Any]) -> None:
    """What a replay gave differently."""
    console = _console()
    console.print(f"{found['num_different']} of {found['num_samples']} questions differ")
    for line in (*found["settings"], *found["versions"]):
        console.print(escape(f"not the same: {line}"))
    for entry in found["differences"][:_SHOWN_DIFFERENCES]:
        for key, (before, after) in entry["changed"].items():
            text = f"{entry['id']} {key}: {before!r} before, {after!r} now"
            console.print(escape(text), soft_wrap=True)
    if found["num_different"] > _SHOWN_DIFFERENCES:
        console.print(f"and {found['num_different'] - _SHOWN_DIFFERENCES} more (--json shows all)")
    console.print(escape(f"replay: {found['replay']}"), soft_wrap=True)


def print_sweep(found: Mapping[str, Any]) -> None:
    """One line a cell of the grid."""
    console = _console()
    table = Table(title=escape(found["name"]), title_justify="left")
    table.add_column("cell")
    for column in (found["metric"] or "score", *SWEEP_COLUMNS):
        table.add_column(escape(column), justify="right")
    for cell in found["cells"]:
        if cell["error"] is not None:
            table.add_row(escape(cell["label"]), "error", escape(cell["error"][:60]))
            continue
        table.add_row(escape(cell["label"]), *sweep_numbers(cell))
    console.print(table)
    console.print(escape(f"sweep: {found['folder']}"), soft_wrap=True)


def sweep_numbers(cell: Mapping[str, Any]) -> list[str]:
    """Score, interval and costs of a cell as they stand in a table."""
    low, high = cell["low"], cell["high"]
    return [
        "-" if cell["score"] is None else f"{cell['score']:.2f}",
        "-" if low is None or high is None else f"{low:.1f} to {high:.1f}",
        _number(cell["frames"]),
        _number(cell["tokens"]),
        _number(cell["seconds_per_sample"], 3),
        _number(cell["peak_rss_bytes"], scale=2**20),
        _number(cell["memory_bytes"], scale=2**10),
    ]


def print_benchmarks(found: Sequence[Mapping[str, Any]]) -> None:
    """Names, versions, splits, and how models are named."""
    import eval.models

    table = Table()
    for column in ("name", "benchmark", "version", "task", "splits", "subtitles"):
        table.add_column(column)
    for line in found:
        splits = ", ".join(line["splits"])
        subtitles = "yes" if line["has_subtitles"] else ""
        table.add_row(line["name"], line["title"], line["version"], line["task"], splits, subtitles)
    console = _console()
    console.print(table)
    console.print(escape(eval.models.__doc__ or "").strip())


def _score(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "" and float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.2f}{unit}"


def _number(value: float | None, digits: int = 0, *, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value / scale:,.{digits}f}"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)
