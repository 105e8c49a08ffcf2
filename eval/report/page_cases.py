"""Samples on the page: question, answer and gold, a timeline, and pictures at the seconds used."""

import base64
from collections.abc import Sequence
from typing import Any

from eval.benchmarks.prompts import LETTERS
from eval.report import charts, words
from eval.report.cases import Case
from eval.report.markup import Html, element, join
from eval.report.pictures import Picture
from eval.report.tables import datum, paragraph

KIND_WORDS = {
    "gold": "gold",
    "answered": "answer",
    "looked": "looked at",
    "watched": "watched",
    "video": "in the video",
}
_MAX_CAPTIONS = 6
_MAX_REPLY = 400


def case_article(case: Case) -> Html:
    """One sample in full."""
    row = case.item.row
    return element(
        "article",
        None,
        paragraph(_about(case), "id small muted"),
        element("h3", None, row["question"] or row["id"]),
        _options(case) if row["task"] == "choice" else None,
        _captions(case) if row["task"] == "dense_caption" else None,
        _text(case) if row["task"] in ("detailed_caption", "open_answer") else None,
        _outcome(case),
        _timeline(case),
        _pictures(case),
        Html("\n"),
    )


def answer_in_words(case: Case) -> str:
    """What the model answered."""
    return value_in_words(case.item.row, case.item.grade.parsed)


def gold_in_words(case: Case) -> str:
    """What it should have been."""
    row = case.item.row
    if row["task"] == "grounding" and row["gold"]:
        return " or ".join(words.span(*pair) for pair in row["gold"])
    return value_in_words(row, row["gold"])


def value_in_words(row: Any, value: Any) -> str:
    """An answer of any task in one line."""
    if value is None:
        return "nothing"
    if row["task"] == "choice":
        return f"{LETTERS[value]} {row['options'][value]}"
    if row["task"] == "grounding":
        return words.span(*value)
    if row["task"] == "dense_caption":
        return words.count(len(value), "caption")
    return words.short(str(value), _MAX_REPLY)


def _about(case: Case) -> Html:
    row = case.item.row
    tags = [
        f"{name} {value if isinstance(value, str) else ', '.join(value)}"
        for name, value in row["tags"].items()
        if name != "task" and value
    ]
    return join(element("code", None, row["id"]), " \u00b7 ", ", ".join([row["video"], *tags]))


def _options(case: Case) -> Html:
    row, answered = case.item.row, case.item.grade.parsed
    lines = []
    for index, option in enumerate(row["options"]):
        marks = []
        if index == row["gold"]:
            marks.append(element("span", {"class": "mark gold"}, "\u2713 gold"))
        if index == answered:
            marks.append(element("span", {"class": "mark answered"}, "\u2717 answered"))
        letter = element("span", {"class": "letter"}, LETTERS[index])
        kind = "gold-option" if index == row["gold"] else None
        lines.append(element("li", None, letter, element("span", {"class": kind}, option), *marks))
    return element("ul", {"class": "options letters"}, *lines)


def _captions(case: Case) -> Html:
    parts = []
    for name, events in (("gold", case.item.row["gold"]), ("answer", case.item.grade.parsed)):
        lines = [
            element("li", None, f"{words.span(start, end)}: {words.short(text, 120)}")
            for start, end, text in events[:_MAX_CAPTIONS]
        ]
        if len(events) > _MAX_CAPTIONS:
            lines.append(element("li", None, f"and {len(events) - _MAX_CAPTIONS} more"))
        parts.append(paragraph(f"{name}, {words.count(len(events), 'caption')}:", "small muted"))
        parts.append(element("ul", {"class": "options small"}, *lines))
    return join(*parts)


def _text(case: Case) -> Html:
    gold = case.item.row["gold"]
    return paragraph(f"gold: {words.short(str(gold), _MAX_REPLY)}") if gold else Html("")


def _outcome(case: Case) -> Html:
    """Score, confidence, and the model's words where they are not the answer itself."""
    row, score = case.item.row, case.item.grade.score
    names = {"choice": "score", "grounding": "IoU", "dense_caption": "F1"}
    digits = 0 if row["task"] == "choice" else 2
    parts = [join(f"{names.get(row['task'], 'score')} ", datum(score, f"{score:.{digits}f}"))]
    confidence = row["details"].get("confidence")
    if confidence is not None:
        sure = "above 0.99" if 0.99 < confidence < 1 else f"{confidence:.2f}"
        parts.append(Html(f"confidence {sure}"))
    if row["parse_rule"] != "native":
        quoted = element("q", None, words.short(row["raw"], _MAX_REPLY))
        parts.append(join("reply ", quoted, f" (read by rule {row['parse_rule']})"))
    written = parts[0]
    for part in parts[1:]:
        written = written + " \u00b7 " + part
    return paragraph(written, "reply small")


def _timeline(case: Case) -> Html | None:
    if case.extent is None or not case.tracks:
        return None
    moments = [picture.seconds for picture in case.pictures]
    cells = []
    for track in case.tracks:
        cells += [
            element("span", {"class": "name"}, KIND_WORDS[track.kind]),
            charts.timeline(track.spans, case.extent, track.kind, moments),
            element("span", {"class": "words"}, words.spans(track.spans)),
        ]
    ends = [element("span", None, words.seconds(value)) for value in case.extent]
    cells.append(element("span", {"class": "ends"}, *ends))
    return element("div", {"class": "tracks"}, *cells)


def _pictures(case: Case) -> Html:
    if not case.pictures:
        return paragraph(f"No pictures: {case.no_pictures}.", "small muted")
    return element("ul", {"class": "pictures"}, *map(_picture, case.pictures))


def _picture(picture: Picture) -> Html:
    kind = picture_words(picture)
    when = words.seconds(picture.seconds)
    image = element(
        "img",
        {
            "src": f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}",
            "width": picture.width,
            "height": picture.height,
            "alt": f"Frame at {when} ({kind})",
        },
    )
    caption = join(
        element("span", {"class": "when"}, when), " ", element("span", {"class": "muted"}, kind)
    )
    return element("li", None, image, caption)


def picture_words(picture: Picture) -> str:
    """Why a frame is shown."""
    return ", ".join(KIND_WORDS[name] for name in picture.label.split(" and "))


def moments_in_words(moments: Sequence[tuple[float, str]]) -> str:
    """The seconds that pictures are taken at."""
    return ", ".join(words.seconds(value) for value, _ in moments) or "none"
