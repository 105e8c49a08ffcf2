"""Two results of one benchmark on a page: is B better than A, where, and on which questions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, Graded, get
from eval.judging import regraded
from eval.metrics.statistics import NUM_RESAMPLES, paired_bootstrap
from eval.report import charts, words
from eval.report.cases import by_turns
from eval.report.charts import Scale
from eval.report.markdown import markdown_table
from eval.report.markup import Html, element, join
from eval.report.page_cases import value_in_words
from eval.report.tables import (
    cell,
    column,
    contents,
    datum,
    document,
    facts,
    paragraph,
    row_head,
    section,
    table,
)
from eval.settings import Result, read_result
from eval.store import write_json, write_text

SECTIONS = (
    ("difference", "Difference"),
    ("breakdowns", "Breakdowns"),
    ("gains", "Where B is better"),
    ("losses", "Where A is better"),
    ("settings", "What differs"),
)
_SIGNIFICANT = 0.05
_MAX_VALUES = 40
"""A tag with more values than this is no breakdown."""
_MIN_VIDEOS = 5
"""Fewer videos give no interval worth the name."""
_MAX_SAMPLES = 20
_COLUMNS = ("A", "B", "B - A", "95% interval", "p", "McNemar p", "questions", "videos")


def write_comparison(first: Path, second: Path, out: Path, *, rules: str = "ours") -> None:
    """Write `comparison.html`, `comparison.md` and `comparison.json` into the folder `out`.

    `first` is A and `second` B. All differences are B - A in percent points on the questions that
    both have, with paired tests over videos. Needs no model. Raises InputError if a folder holds no
    finished run, or if the two are not of one benchmark.
    """
    from eval.replay import compare

    found = compare(first, second, rules=rules)
    a, b = read_result(first), read_result(second)
    benchmark = get(a.config.settings.bench)
    pairs = _pairs(a, b, benchmark, rules)
    found["breakdowns"] = _breakdowns(pairs)
    found["gains"] = _changes(pairs, sign=1)
    found["losses"] = _changes(pairs, sign=-1)
    write_json(out / "comparison.json", found)
    write_text(out / "comparison.html", _page(found, benchmark))
    write_text(out / "comparison.md", _markdown(found, benchmark))


def _pairs(a: Result, b: Result, benchmark: Benchmark, rules: str) -> list[tuple[Graded, Graded]]:
    graded_b = {
        item.row["id"]: item
        for item in regraded(b.folder, benchmark, b.scoring_rows(), rules)
        if item.grade.score is not None
    }
    return [
        (item, graded_b[item.row["id"]])
        for item in regraded(a.folder, benchmark, a.scoring_rows(), rules)
        if item.grade.score is not None and item.row["id"] in graded_b
    ]


def _breakdowns(pairs: list[tuple[Graded, Graded]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Paired differences for each value of each tag, in percent points."""
    groups: dict[str, dict[str, list[tuple[Graded, Graded]]]] = {}
    tasks = {a.row["task"] for a, _ in pairs}
    for pair in pairs:
        task = pair[0].row["task"]
        for tag, value in pair[0].row["tags"].items():
            # Accuracies and overlaps are not averaged with each other.
            title = f"by {tag}" if len(tasks) == 1 else f"{task}: by {tag}"
            for name in [value] if isinstance(value, str) else dict.fromkeys(value):
                groups.setdefault(title, {}).setdefault(name, []).append(pair)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for title, values in groups.items():
        if not 2 <= len(values) <= _MAX_VALUES:
            continue
        for name, members in values.items():
            clusters = [a.row["cluster"] for a, _ in members]
            if len(set(clusters)) < _MIN_VIDEOS:
                continue
            scores = [
                [100 * item.grade.score for item in side] for side in zip(*members, strict=True)
            ]
            paired = paired_bootstrap(*scores, clusters)
            found.setdefault(title, {})[name] = {
                "a": sum(scores[0]) / len(members),
                "b": sum(scores[1]) / len(members),
                "difference": paired.difference,
                "low": paired.low,
                "high": paired.high,
                "p_value": paired.p_value,
                "num_samples": paired.num_samples,
                "num_clusters": paired.num_clusters,
            }
    return found


def _changes(pairs: list[tuple[Graded, Graded]], *, sign: int) -> dict[str, Any]:
    """How many questions changed in one direction, and those that changed most."""
    changed = [
        (sign * (b.grade.score - a.grade.score), a, b)
        for a, b in pairs
        if sign * (b.grade.score - a.grade.score) > 0
    ]
    changed.sort(key=lambda entry: -entry[0])
    shown = by_turns(changed, lambda entry: entry[1].row["cluster"])[:_MAX_SAMPLES]
    samples = [
        {
            "id": a.row["id"],
            "question": a.row["question"],
            "a": _in_words(a),
            "b": _in_words(b),
            "score_a": a.grade.score,
            "score_b": b.grade.score,
        }
        for _, a, b in shown
    ]
    return {"num": len(changed), "samples": samples}


def _in_words(item: Graded) -> str:
    if item.row["error"] is not None:
        return f"error: {words.short(item.row['error'], 120)}"
    if item.grade.parsed is None:
        return f"unread: {words.short(item.row['raw'], 120)}"
    return value_in_words(item.row, item.grade.parsed)


def _page(found: Mapping[str, Any], benchmark: Benchmark) -> str:
    a, b = found["a"]["model"], found["b"]["model"]
    about = (
        f"{words.count(found['num_common'], 'common question')}. Differences are B minus A in "
        f"points of 100; bars are 95% intervals from {NUM_RESAMPLES:,} paired resamples of whole "
        "videos, and p is two-sided from the same resamples."
    )
    many = (
        "Each line is a test of its own: among twenty, one with p below 0.05 is to be expected "
        f"by chance. Groups of fewer than {_MIN_VIDEOS} videos are left out."
    )
    header = element(
        "header",
        None,
        element("h1", None, f"{b} against {a}"),
        paragraph(f"{benchmark.title} \u00b7 A is {a}, B is {b}", "subtitle"),
    )
    breakdowns = [
        join(element("h3", None, words.heading(title)), _table(title, lines))
        for title, lines in found["breakdowns"].items()
    ]
    folders = [(side.upper(), found[side]["folder"]) for side in ("a", "b")]
    differing = [paragraph(line) for line in found["settings"]]
    makers = {
        "difference": join(
            _verdict(found), _table("difference", found["tasks"]), paragraph(about, "small muted")
        ),
        "breakdowns": join(paragraph(many, "small muted"), *breakdowns)
        if breakdowns
        else paragraph("The questions have no tags to break the difference down by.", "muted"),
        "gains": _samples(found["gains"]),
        "losses": _samples(found["losses"]),
        "settings": join(facts(folders), *(differing or [paragraph("Nothing.", "muted")])),
    }
    sections = [section(key, title, makers[key]) for key, title in SECTIONS]
    return document(f"{b} against {a}", join(header, contents(SECTIONS), *sections))


def verdict(line: Mapping[str, Any]) -> str:
    """What the interval and the p-value of a difference say, in words."""
    if line["low"] is None:
        return "one video says nothing about others"
    # The interval of a few videos is too narrow; the p-value knows how few they are.
    if line["low"] > 0 and line["p_value"] < _SIGNIFICANT:
        return "B is better"
    if line["high"] < 0 and line["p_value"] < _SIGNIFICANT:
        return "A is better"
    return "the difference may be chance"


def _verdict(found: Mapping[str, Any]) -> Html:
    return join(
        *(
            paragraph(join(element("strong", None, words.heading(task)), f": {verdict(line)}."))
            for task, line in found["tasks"].items()
        )
    )


def _table(label: str, lines: Mapping[str, Mapping[str, Any]]) -> Html:
    values = [line[key] for line in lines.values() for key in ("low", "high", "difference")]
    scale = charts.difference_scale(value for value in values if value is not None)
    names = [name for name in _COLUMNS if name != "McNemar p" or _has_exact(lines)]
    kinds = {"95% interval": "interval", "questions": "questions", "p": "p", "McNemar p": "p"}
    # The number of videos stands in the cell of the questions.
    head = [
        column(
            "questions / videos" if name == "questions" else name,
            f"number {kinds.get(name, 'score')}",
        )
        for name in names
        if name != "videos"
    ]
    head.insert(0, column(""))
    head.insert(5, element("th", {"class": "plot", "scope": "col"}, charts.axis(scale)))
    rows = [_row(name, line, scale, names) for name, line in lines.items()]
    return table(label, "scores differences", head, rows)


def _has_exact(lines: Mapping[str, Mapping[str, Any]]) -> bool:
    return any("mcnemar" in line for line in lines.values())


def _row(name: str, line: Mapping[str, Any], scale: Scale, names: list[str]) -> Html:
    between: str = words.NOTHING
    if line["low"] is not None:
        low, high = (datum(line[key], _signed(line[key])) for key in ("low", "high"))
        between = join(low, " to ", high)
    point = {"value": line["difference"], "low": line["low"], "high": line["high"]}
    cells = [
        cell(datum(line["a"], f"{line['a']:.1f}"), "number"),
        cell(datum(line["b"], f"{line['b']:.1f}"), "number"),
        cell(datum(line["difference"], _signed(line["difference"])), "number"),
        cell(between, "number"),
        cell(charts.whisker(scale, point, reference=0.0), "plot"),
        cell(datum(line["p_value"], _p(line["p_value"])), "number"),
    ]
    if "McNemar p" in names:
        exact = line.get("mcnemar")
        cells.append(
            cell("" if exact is None else datum(exact["p_value"], _p(exact["p_value"])), "number")
        )
    cells.append(cell(f"{line['num_samples']:,} / {line['num_clusters']:,}", "number"))
    return element("tr", None, row_head(words.TASKS.get(name, name)), *cells)


def _samples(changes: Mapping[str, Any]) -> Html:
    if not changes["num"]:
        return paragraph("On no question.", "muted")
    rows = []
    for entry in changes["samples"]:
        sides = [f"{entry[side]} ({entry[f'score_{side}']:.2f})" for side in ("a", "b")]
        head = row_head(element("code", None, entry["id"]))
        rows.append(element("tr", None, head, cell(entry["question"]), *map(cell, sides)))
    num, shown = changes["num"], len(changes["samples"])
    text = f"On {words.count(num, 'question')}"
    text += f"; the {shown} largest differences:" if shown < num else ":"
    columns = [column("sample"), column("question"), column("A (score)"), column("B (score)")]
    return join(paragraph(text, "small muted"), table("questions", "texts", columns, rows))


def _markdown(found: Mapping[str, Any], benchmark: Benchmark) -> str:
    a, b = found["a"], found["b"]
    parts = [
        f"# {b['model']} against {a['model']} on {benchmark.title}",
        f"A: {a['model']} ({a['folder']}). B: {b['model']} ({b['folder']}). "
        f"{words.count(found['num_common'], 'common question')}; paired tests over videos.",
        _markdown_lines(found["tasks"]),
    ]
    for title, lines in found["breakdowns"].items():
        parts += [f"## {words.heading(title)}", _markdown_lines(lines)]
    for key, title in (("gains", "Where B is better"), ("losses", "Where A is better")):
        rows = [[e["id"], e["question"], e["a"], e["b"]] for e in found[key]["samples"]]
        parts.append(f"## {title}: {words.count(found[key]['num'], 'question')}")
        if rows:
            parts.append(markdown_table(["sample", "question", "A said", "B said"], rows))
    parts.append("## What differs")
    parts.append("\n".join(f"- {line}" for line in found["settings"]) or "Nothing.")
    return "\n\n".join(parts) + "\n"


def _markdown_lines(lines: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, line in lines.items():
        exact = line.get("mcnemar")
        rows.append(
            [
                name,
                f"{line['a']:.1f}",
                f"{line['b']:.1f}",
                _signed(line["difference"]),
                _interval(line),
                _p(line["p_value"]),
                "" if exact is None else _p(exact["p_value"]),
                str(line["num_samples"]),
                str(line["num_clusters"]),
            ]
        )
    return markdown_table(["", *_COLUMNS], rows)


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def _interval(line: Mapping[str, Any]) -> str:
    if line["low"] is None:
        return words.NOTHING
    return f"{_signed(line['low'])} to {_signed(line['high'])}"


def _p(value: float | None) -> str:
    if value is None:
        return words.NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
