"""The report as Markdown: the same numbers for pull requests, papers and terminals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.report import words
from eval.report.content import (
    Content,
    ordered,
    process_groups,
    published_scores,
    references,
    settings_rows,
    shown_scores,
)
from eval.report.page import MAX_LISTED
from eval.report.page_cases import answer_in_words, gold_in_words, moments_in_words

Line = Mapping[str, Any]
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": "$<$",
    ">": "$>$",
}


def report_markdown(content: Content) -> str:
    """The Markdown file of a result."""
    parts = [f"# {_text(content.config.model_id)} on {_text(content.title)}"]
    if content.limited:
        parts.append(f"**{content.limited}**: not comparable with published scores.")
    parts += [
        f"Version {content.config.bench_version}, {_text(content.config.frames_rule)}. "
        "Intervals are 95% over resampled videos.",
        "## Scores",
        *_score_tables(content),
        _table(["count", ""], [[k, f"{v}"] for k, v in content.counts.items()]),
        "## Published scores",
        *_published(content),
        "## Without watching",
        *_baselines(content),
        "## Breakdowns",
        *(_breakdowns(content) or ["None."]),
        "## Worst samples",
        _worst(content),
        "## Unread replies",
        _unread(content),
        "## Errors",
        _errors(content),
        "## Time",
        _time(content),
        "## The run",
        _table(["", ""], settings_rows(content)),
        *(_table([name, ""], rows) for name, rows in process_groups(content)),
        "## LaTeX",
        f"```latex\n{latex_row(content)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def latex_row(content: Content) -> str:
    """The scores as one row of a table, under a comment that names the columns."""
    lines = [line for line in content.tables["overall"] if line["value"] is not None]
    names = " & ".join(["model", *(latex(line["name"]) for line in lines)])
    comment = f"% {content.title} {content.config.bench_version}, 95% intervals: {names}"
    if content.limited:
        comment += f"\n% {content.limited}"
    cells = []
    for line in lines:
        number = words.score(line["value"], line["unit"])
        low_high = words.interval(line).replace(" to ", ", ")
        cells.append(f"{number} {{\\scriptsize [{low_high}]}}" if low_high else number)
    mark = "$^{\\mathrm{limited}}$" if content.limited else ""
    return f"{comment}\n{latex(content.config.model_id)}{mark} & {' & '.join(cells)} \\\\"


def latex(text: str) -> str:
    """Text with the characters escaped that LaTeX reads as commands."""
    return "".join(_LATEX.get(character, character) for character in text)


def score_rows(lines: Iterable[Line], digits: int | None = None) -> list[list[str]]:
    """Name, score, interval and number of questions of score lines."""
    rows = []
    for line in lines:
        note = f" ({line['note']})" if line.get("note") else ""
        unit = {"%": "%", "0-5": " of 5"}.get(line["unit"], "") if line["value"] is not None else ""
        number = words.score(line["value"], line["unit"], digits) + unit
        between = words.interval(line, digits) or words.no_interval(line)
        n = line.get("n")
        rows.append([line["name"] + note, number, between, "" if n is None else f"{n}"])
    return rows


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but those of words is aligned to the right."""
    right = {"score", "95% interval", "questions", "A", "B", "B - A", "p", "McNemar p", "videos"}
    marks = ["---:" if name in right else "---" for name in head]
    lines = [head, marks, *([_text(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(head, rows)


def _scores(lines: Iterable[Line], digits: int | None = None) -> str:
    return _table(["", "score", "95% interval", "questions"], score_rows(lines, digits))


def _score_tables(content: Content) -> list[str]:
    parts = []
    for title in shown_scores(content):
        if title != "overall":
            parts.append(f"### {_text(words.heading(title))}")
        parts.append(_scores(content.tables[title]))
    return parts


def _breakdowns(content: Content) -> list[str]:
    parts = []
    for title, lines in content.breakdowns.items():
        parts += [f"### {_text(words.heading(title))}", _scores(ordered(lines))]
    return parts


def _published(content: Content) -> list[str]:
    parts = []
    for published in published_scores(content):
        rows = []
        for line in published.entries:
            name = f"**{_text(line['name'])}**" if line.get("own") else line["name"]
            number = words.score(line["value"], published.unit, published.digits)
            between = words.interval(line, published.digits) or words.no_interval(line)
            rows.append([name, number, between, line["source"], line.get("note", "")])
        parts.append(f"### {_text(published.metric)}")
        parts.append(_table(["model", "score", "95% interval", "source", "note"], rows))
    return parts or ["None on record."]


def _baselines(content: Content) -> list[str]:
    parts = []
    for headline in content.headlines:
        others = references(content, headline)
        if others:
            own = {**headline, "name": "this run", "note": ""}
            parts += [f"### {_text(headline['name'])}", _scores([own, *others])]
    for title in content.titles("baselines"):
        lines = [line for line in content.tables[title] if ": " in line["name"]]
        if lines:
            parts += [f"### {_text(words.heading(title))}", _scores(lines)]
    return parts or ["None are defined for this benchmark."]


def _worst(content: Content) -> str:
    rows = [
        [
            case.item.row["id"],
            case.item.row["question"],
            answer_in_words(case),
            gold_in_words(case),
            f"{case.item.grade.score:.2f}",
            moments_in_words(case.moments),
        ]
        for case in content.cases
    ]
    head = ["sample", "question", "answer", "gold", "score", "seconds shown"]
    return _table(head, rows) if rows else "No answer that could be read was scored as wrong."


def _unread(content: Content) -> str:
    rows = [[i.row["id"], words.short(i.row["raw"])] for i in content.unread[:MAX_LISTED]]
    if not rows:
        return "Every reply could be read."
    return _table(["sample", "reply"], rows) + _more(len(content.unread))


def _errors(content: Content) -> str:
    rows = [
        [failure.video, failure.message, words.count(len(failure.ids), "sample")]
        for failure in content.failures[:MAX_LISTED]
    ]
    if not rows:
        return "No question failed."
    return _table(["video", "error", "samples"], rows) + _more(len(content.failures))


def _time(content: Content) -> str:
    seconds = content.metrics["cost"]["seconds"]
    total = math.fsum(seconds.values())
    rows = [
        [name, f"{value:.2f} s", f"{100 * value / total:.1f}%" if total else words.NOTHING]
        for name, value in seconds.items()
    ]
    per_sample = content.metrics["cost"]["seconds_per_sample"]
    return _table(["stage", "in all", "share"], rows) + f"\n\n{per_sample:.4f} s per question."


def _more(number: int) -> str:
    hidden = number - MAX_LISTED
    return f"\n\nAnd {hidden:,} more in predictions.jsonl." if hidden > 0 else ""


def _text(text: str) -> str:
    """One line that neither ends a cell nor starts markup; bold that we made stays."""
    line = " ".join(words.clean(str(text)).split()).replace("|", "\\|").replace("<", "&lt;")
    return line.replace("`", "\\`")
