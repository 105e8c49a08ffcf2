"""The parts that every page is put together from: the page itself, tables, lists of facts."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report import charts, words
from eval.report.charts import Scale
from eval.report.markup import Html, element, join
from eval.report.style import CSS

Line = Mapping[str, Any]
Rows = Sequence[tuple[str, str]]

# A page that holds words of models and data sets may load nothing and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, body: Html) -> str:
    """A whole HTML file."""
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", None, title),
        Html(f"<style>{CSS}</style>"),
    )
    page = element("html", {"lang": "en"}, head, element("body", None, element("main", None, body)))
    return f"<!DOCTYPE html>\n{page}\n"


def section(key: str, title: str, *children: str | None) -> Html:
    """A section that the contents link to."""
    heading = element("h2", {"id": f"{key}-title"}, title)
    attributes = {"id": key, "aria-labelledby": f"{key}-title"}
    return element("section", attributes, heading, *children, Html("\n"))


def contents(entries: Rows) -> Html:
    """Links to the sections: (key, title)."""
    links = [element("li", None, element("a", {"href": f"#{k}"}, title)) for k, title in entries]
    return element("nav", {"aria-label": "Contents"}, element("ul", None, *links))


def paragraph(text: str, kind: str | None = None) -> Html:
    """One paragraph; `kind` is its class."""
    return element("p", {"class": kind}, text)


def datum(value: float | None, text: str) -> Html:
    """A number as it is shown, with the number as it is in the JSON file."""
    return Html(words.NOTHING) if value is None else element("data", {"value": repr(value)}, text)


def table(label: str, kind: str, head: Sequence[Html], rows: Sequence[Html]) -> Html:
    """A table that scrolls by itself where the page is too narrow for it."""
    inner = element(
        "table",
        {"class": kind},
        element("thead", None, element("tr", None, *head)),
        Html("\n"),
        element("tbody", None, *rows),
    )
    attributes = {"class": "scroll", "role": "region", "aria-label": label, "tabindex": "0"}
    return element("div", attributes, inner)


def column(title: str, kind: str | None = None) -> Html:
    """The head of a column."""
    return element("th", {"scope": "col", "class": kind}, title)


def cell(content: str, kind: str | None = None) -> Html:
    """One cell."""
    return element("td", {"class": kind}, content)


def row_head(content: str, note: str = "") -> Html:
    """The first cell of a row, which names it."""
    small = element("span", {"class": "note"}, note) if note else None
    return element("th", {"scope": "row"}, content, small)


def score_table(
    label: str,
    lines: Sequence[Line],
    *,
    digits: int | None = None,
    reference: float | None = None,
    sources: bool = False,
) -> Html:
    """Score, interval and number of questions of each line, with a plot of them.

    A line with `own` is this run's among others; `sources` adds the column of where each was read.
    """
    scale = charts.score_scale(lines)
    marked = any(line.get("own") for line in lines)
    head = [column(""), column("score", "number score"), column("95% interval", "number interval")]
    if not sources:
        head.append(column("questions", "number questions"))
    if scale is not None:
        head.append(element("th", {"class": "plot", "scope": "col"}, charts.axis(scale)))
    if sources:
        head.append(column("source", "source"))
    rows = []
    for line in lines:
        own = line.get("own", not marked)
        name = words.metric(line["name"])
        cells = [row_head(name, line.get("note", "")), *_score_cells(line, digits)]
        if not sources:
            n = line.get("n")
            cells.append(cell("" if n is None else f"{n:,}", "number"))
        if scale is not None:
            cells.append(cell(_plot(scale, line, lines, own=own, reference=reference), "plot"))
        if sources:
            cells.append(cell(line.get("source", ""), "source"))
        kind = "own" if own and marked else None
        rows.append(element("tr", {"class": kind}, *cells))
        rows.append(Html("\n"))
    return table(label, "scores with-sources" if sources else "scores", head, rows)


def facts(rows: Rows) -> Html:
    """Names and values."""
    children = []
    for name, value in rows:
        children += [element("dt", None, name), element("dd", None, value), Html("\n")]
    return element("dl", {"class": "facts"}, *children)


def folded(summary: str, *children: str) -> Html:
    """What most readers do not need, behind a line that opens it."""
    return element("details", None, element("summary", None, summary), *children)


def _score_cells(line: Line, digits: int | None) -> list[Html]:
    value, low, high = line["value"], line.get("low"), line.get("high")
    unit = {"%": "%", "0-5": " of 5"}.get(line["unit"], "")
    text = words.score(value, line["unit"], digits) + unit
    between: str = words.no_interval(line)
    if low is not None and high is not None:
        shown_low, _, shown_high = words.interval(line, digits).partition(" to ")
        between = join(datum(low, shown_low), " to ", datum(high, shown_high))
    return [cell(datum(value, text), "number"), cell(between, "number")]


def _plot(
    scale: Scale, line: Line, lines: Sequence[Line], *, own: bool, reference: float | None
) -> Html:
    if not charts.fits(line, lines):
        return charts.empty_plot(scale)
    return charts.whisker(scale, line, kind="own" if own else "other", reference=reference)
