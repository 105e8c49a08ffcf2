"""The page of a result: its sections, in the order in which one asks about a score."""

import math

from eval.metrics.statistics import NUM_RESAMPLES
from eval.report import charts, words
from eval.report.cases import MAX_CASES
from eval.report.content import (
    Content,
    ordered,
    process_groups,
    published_scores,
    reference_value,
    references,
    settings_rows,
    shown_scores,
)
from eval.report.markup import Html, element, join
from eval.report.page_cases import case_article
from eval.report.tables import (
    cell,
    column,
    contents,
    datum,
    document,
    facts,
    folded,
    paragraph,
    row_head,
    score_table,
    section,
    table,
)

SECTIONS = (
    ("scores", "Scores"),
    ("published", "Published scores"),
    ("baselines", "Without watching"),
    ("breakdowns", "Breakdowns"),
    ("worst", "Worst samples"),
    ("unread", "Unread replies"),
    ("errors", "Errors"),
    ("time", "Time"),
    ("run", "The run"),
)
"""Keys and titles of the sections; every page has all of them."""

MAX_LISTED = 100
_COUNT_WORDS = {
    "n_total": "questions",
    "n_answered": "answered",
    "n_unparsed": "replies that could not be read",
    "n_error": "errors",
}


def report_page(content: Content) -> str:
    """The HTML file of a result."""
    makers = {
        "scores": _scores,
        "published": _published,
        "baselines": _baselines,
        "breakdowns": _breakdowns,
        "worst": _worst,
        "unread": _unread,
        "errors": _errors,
        "time": _time,
        "run": _run,
    }
    sections = [section(key, title, makers[key](content)) for key, title in SECTIONS]
    limited = f" ({content.limited})" if content.limited else ""
    title = f"{content.config.model_id} on {content.title}{limited}"
    footer = (
        f"Made by timevlm {content.metrics['versions'].get('timevlm', '')} from metrics.json, "
        "predictions.jsonl and samples.jsonl in the same folder."
    )
    body = join(
        _header(content), contents(SECTIONS), _figures(content), *sections,
        element("footer", None, footer),
    )  # fmt: skip
    return document(title, body)


def _header(content: Content) -> Html:
    config = content.config
    version = f"version {config.bench_version}"
    subtitle = f"{content.title} \u00b7 {version} \u00b7 sampling {config.frames_rule}"
    limited = None
    if content.limited:
        why = " A part of a split is not comparable with published scores."
        limited = paragraph(
            join(element("strong", None, content.limited), Html("."), why), "limited"
        )
    return element(
        "header",
        None,
        element("h1", None, config.model_id),
        paragraph(subtitle, "subtitle"),
        limited,
    )


def _figures(content: Content) -> Html:
    """The headline of every task, then how many questions came to what."""
    entries = []
    for line in content.headlines:
        unit = {"%": "%", "0-5": "of 5"}.get(line["unit"], "")
        number = datum(line["value"], words.score(line["value"], line["unit"]))
        big = element("span", {"class": "big"}, number, element("span", {"class": "unit"}, unit))
        between = words.interval(line)
        alone = "1 video, no interval" if line.get("num_videos") == 1 else ""
        below = f"95% interval {between}" if between else alone or line.get("note", "")
        small = element(
            "span", {"class": "small"}, f"{below}, {words.count(line['n'], 'question')}"
        )
        entries.append(
            element("div", None, element("dt", None, line["name"]), element("dd", None, big, small))
        )
    counts = content.counts
    asked = f"{words.count(counts['n_total'], 'question')} about "
    asked += f"{words.count(content.config.num_videos, 'video')}"
    rest = [
        f"{counts[name]:,} {text}"
        for name, text in _COUNT_WORDS.items()
        if name != "n_total" and name in counts
    ]
    line = f"{asked}: {', '.join(rest)}. What failed or could not be read counts as wrong."
    return join(element("dl", {"class": "figures"}, *entries), paragraph(line, "small muted"))


def _scores(content: Content) -> Html:
    parts = [
        paragraph(
            f"Points are means over questions, bars 95% intervals from {NUM_RESAMPLES:,} resamples "
            "of whole videos.",
            "small muted",
        )
    ]
    for title in shown_scores(content):
        if title != "overall":
            parts.append(element("h3", None, words.heading(title)))
        parts.append(score_table(_label(content, title), content.tables[title]))
    parts.append(folded("Counts", _counts(content)))
    return join(*parts)


def _counts(content: Content) -> Html:
    rows = [
        element(
            "tr",
            None,
            row_head(line["name"]),
            cell(datum(line["value"], words.score(line["value"], "")), "number"),
        )
        for line in content.tables["counts"]
    ]
    return table("Counts", "counts", [column(""), column("number", "number")], rows)


def _published(content: Content) -> Html:
    found = published_scores(content)
    if not found:
        text = f"No published scores on {content.benchmark.title} are on record."
        return paragraph(text, "muted")
    parts = [
        paragraph(
            "As reported by the sources named. Frames, prompts, subtitles and the reading of "
            "replies differ between them; the notes say where that is known.",
            "small muted",
        )
    ]
    for published in found:
        parts.append(element("h3", None, words.metric(published.metric)))
        label = _label(content, f"published {published.metric}")
        parts.append(score_table(label, published.entries, digits=published.digits, sources=True))
    return join(*parts)


def _baselines(content: Content) -> Html:
    parts = [
        paragraph(
            "What the same questions give to answers that no video was watched for. A score "
            "that does not clear these shows no understanding of video.",
            "small muted",
        )
    ]
    for headline in content.headlines:
        metric = headline["name"]
        others = references(content, headline)
        if not others:
            continue
        own = {**headline, "name": "this run", "own": True, "note": ""}
        shown = sorted([own, *others], key=lambda line: -(line["value"] or 0.0))
        parts.append(element("h3", None, metric))
        parts.append(score_table(_label(content, f"{metric} without watching"), shown))
    for title in content.titles("baselines"):
        # The others stand beside their headline.
        lines = [{**line, "own": False} for line in content.tables[title] if ": " in line["name"]]
        if lines:
            made = score_table(_label(content, title), lines)
            parts.append(folded(f"{words.heading(title)}, all {len(lines)} numbers", made))
    if len(parts) == 1:
        return paragraph("No such answers are defined for this benchmark.", "muted")
    return join(*parts)


def _breakdowns(content: Content) -> Html:
    parts = []
    for title, lines in content.breakdowns.items():
        reference = reference_value(lines, content.tables)
        parts.append(element("h3", None, words.heading(title)))
        if reference is not None:
            name, value = reference
            text = f"The dashed line is the whole run's {name}, {words.score(value, '%')}%."
            parts.append(paragraph(text, "small muted"))
        made = score_table(
            _label(content, title),
            ordered(lines),
            reference=None if reference is None else reference[1],
        )
        parts.append(made)
    if not parts:
        return paragraph("This benchmark has no tags to break its score down by.", "muted")
    about = "Groups of few videos have intervals that are too narrow; one video has none."
    return join(paragraph(about, "small muted"), *parts)


def _worst(content: Content) -> Html:
    if not content.cases:
        return paragraph("No answer that could be read was scored as wrong.", "muted")
    about = (
        f"At most {MAX_CASES} wrong answers: from every task, from as many videos as possible, "
        "the lowest scores and then the surest first. Pictures are the frames on screen at the "
        "middle of the spans shown; where no span is known, they are spread over the video."
    )
    return join(paragraph(about, "small muted"), *map(case_article, content.cases))


def _unread(content: Content) -> Html:
    if not content.unread:
        return paragraph("Every reply could be read.", "muted")
    rows = []
    for item in content.unread[:MAX_LISTED]:
        raw = item.row["raw"].strip()
        reply = element("q", None, words.short(raw)) if raw else Html("<em>empty</em>")
        cells = [row_head(element("code", None, item.row["id"])), cell(item.row["question"])]
        rows.append(element("tr", None, *cells, cell(reply)))
    head = [column("sample"), column("question"), column("reply")]
    label = _label(content, "unread replies")
    return join(
        paragraph("These count as wrong.", "small muted"),
        table(label, "texts", head, rows),
        _more(len(content.unread)),
    )


def _errors(content: Content) -> Html:
    if not content.failures:
        return paragraph("No question failed.", "muted")
    rows = []
    for failure in content.failures[:MAX_LISTED]:
        ids = failure.ids[:5]
        rest = f" and {len(failure.ids) - len(ids)} more" if len(failure.ids) > len(ids) else ""
        samples = element("code", None, ", ".join(ids))
        cells = [row_head(failure.video), cell(failure.message), cell(join(samples, rest))]
        rows.append(element("tr", None, *cells))
    head = [column("video"), column("error"), column("samples")]
    text = "These count as wrong, and are asked again when the run is resumed."
    return join(
        paragraph(text, "small muted"),
        table(_label(content, "errors"), "texts", head, rows),
        _more(len(content.failures)),
    )


def _more(number: int) -> Html | None:
    if number <= MAX_LISTED:
        return None
    return paragraph(f"And {number - MAX_LISTED:,} more in predictions.jsonl.", "small muted")


def _time(content: Content) -> Html:
    cost = content.metrics["cost"]
    stages = [(name, float(value)) for name, value in cost["seconds"].items()]
    total = math.fsum(value for _, value in stages)
    num = max(content.counts["n_total"], 1)
    rows = []
    for name, value in stages:
        swatch = element("span", {"class": f"swatch part {name}", "aria-hidden": "true"})
        share = f"{100 * value / total:.1f}%" if total else words.NOTHING
        cells = [row_head(join(swatch, name)), cell(datum(value, f"{value:,.2f} s"), "number")]
        cells += [cell(share, "number"), cell(f"{value / num:.4f} s", "number")]
        rows.append(element("tr", None, *cells))
    head = [column("stage"), column("in all", "number"), column("share", "number")]
    head.append(column("per question", "number"))
    used = [
        ("frames per question", _plain(cost["mean_frames"])),
        ("tokens read per question", _plain(cost["mean_tokens_in"])),
    ]
    if cost.get("mean_memory_bytes") is not None:
        used.append(("memory of a video", words.size(cost["mean_memory_bytes"])))
    return join(
        charts.stacked_bar(stages) if total else paragraph("No time was measured.", "muted"),
        table(_label(content, "time"), "texts", head, rows) if stages else None,
        facts(used),
        _processes(content),
    )


def _processes(content: Content) -> Html | None:
    """Wall time of each process, and what the harness itself took of it."""
    rows = []
    for process in content.result.processes():
        seconds = process.get("seconds")
        if not seconds:
            continue  # it was killed before it could say
        wall = seconds["total"]
        overhead = f"{100 * seconds['harness'] / wall:.1f}%" if wall else words.NOTHING
        peak = process.get("peak_rss_bytes")
        parts = [words.duration(seconds[key]) for key in ("total", "model", "decode_wait")]
        numbers = [*parts, overhead, words.NOTHING if peak is None else words.size(peak)]
        cells = [row_head(f"shard {process['shard']}"), cell(str(process["samples"]), "number")]
        rows.append(element("tr", None, *cells, *(cell(text, "number") for text in numbers)))
    if not rows:
        return None
    names = ("rows", "wall time", "model", "waiting for frames", "everything else", "peak memory")
    head = [column("process"), *(column(name, "number") for name in names)]
    return table(_label(content, "processes"), "texts", head, rows)


def _run(content: Content) -> Html:
    parts = [facts(settings_rows(content)), element("h3", None, "Processes")]
    groups = process_groups(content)
    for name, rows in groups:
        parts += [paragraph(name), facts(rows)]
    if not groups:
        parts.append(paragraph("No process left a note.", "muted"))
    return join(*parts)


def _label(content: Content, title: str) -> str:
    return f"{content.benchmark.title}: {title}" + (" (LIMITED)" if content.limited else "")


def _plain(value: float | None) -> str:
    return "not counted" if value is None else f"{value:,.1f}"
