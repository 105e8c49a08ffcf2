"""Lessons for words, to attend to what they tell of: of captions, times, and comparing questions.

A question has one object to find and one place to find it from, its last token. A caption finds one
object after another, and from words alone it learns that late: with several scenes, what is said of
the last of them was often seen in another one. What came first is answered by where the words of
the question look (`pointer.py`), what is faster or further left by what they see there.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from timevlm.synth.full.palette import CAMERA_MOVES, LIGHT_CHANGES, MOTIONS
from timevlm.synth.wording import split_phrases
from timevlm.tasks.captioning import LINE_SEPARATOR, parse_captions
from timevlm.tasks.grounding import format_span
from timevlm.tasks.timestamps import TIMESTAMP_PATTERN, parse_timestamp
from timevlm.training.fields import TensorFields
from timevlm.training.kinds import Kinds, text_parts

# A scene's last frame is its own; answers write tenths of a second.
_SLACK_SECONDS = 0.05
MAX_COLUMNS, NO_COLUMN = 2, -1  # a number is told by its tens and its ones
_OF_PICTURE = ("the camera ", "the light ", "the text ")


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """One object of a caption or a question, or the frame at a time.

    `first` to `last` are the tokens that look: in an answer those whose next token is a word of the
    phrase, in a question the words themselves; `looks` which shapes and colours the object has; it
    is told of in the scene of the frames from `start_seconds` to `end_seconds`, and `columns` (of
    `told_columns`) have to be shown with it; `evenly`, if all of what is shown of it has to be
    looked at alike, and not any of it.
    """

    first: int
    last: int
    looks: tuple[bool, ...]
    start_seconds: float
    end_seconds: float
    columns: tuple[int, ...] = ()
    evenly: bool = False


@dataclass(frozen=True, kw_only=True)
class PhraseTokens(TensorFields):
    """P tokens of a batch's texts, each about to say a word of a phrase.

    rows (P,) and places (P,) of the tokens; looks (P, shapes + colours) bool; spans (P, 2) in
    seconds; columns (P, MAX_COLUMNS), those after the last being NO_COLUMN; evenly (P,) bool.
    """

    rows: Tensor
    places: Tensor
    looks: Tensor
    spans: Tensor
    columns: Tensor
    evenly: Tensor

    def of_rows(self, rows: Tensor) -> "PhraseTokens":
        """The tokens of the rows (N,), each with its row's place among them."""
        found, place = (self.rows[:, None] == rows).nonzero(as_tuple=True)
        return PhraseTokens(
            rows=place,
            places=self.places[found],
            looks=self.looks[found],
            spans=self.spans[found],
            columns=self.columns[found],
            evenly=self.evenly[found],
        )


def caption_phrases(answer: str, kinds: Kinds, num_tokens: Callable[[str], int]) -> list[Phrase]:
    """The phrases in the captions of `format_captions` of what a token can show.

    `num_tokens` counts the tokens of a beginning of the answer. A phrase about no object that tells
    nothing of `told_columns` is left out.
    """
    phrases, before = [], ""
    for start, end, text in parse_captions(answer):
        before += format_span(start, end) + " "
        place = 0
        for words in split_phrases(text):
            place = text.index(words, place)
            columns = told_columns(words, kinds)
            is_picture = bool(columns) and words.startswith(_OF_PICTURE)
            looks = kinds.no_looks if is_picture else kinds.looks_named(words)
            if columns or any(looks[: len(kinds.shapes)]):
                told = before + text[:place]
                phrases.append(
                    Phrase(
                        first=num_tokens(told.rstrip()) - 1,
                        last=num_tokens(told + words) - 2,
                        looks=looks,
                        start_seconds=start,
                        end_seconds=end,
                        columns=columns,
                    )
                )
            place += len(words)
        before += text + LINE_SEPARATOR
    return phrases


def told_columns(phrase: str, kinds: Kinds) -> tuple[int, ...]:
    """Which of the classes of all lessons, counted on, show what a phrase of a caption says.

    A token has them from when it is to be seen: the motion of an object and the colour that it had
    before it turned another, what the camera or the light does, the parts of a text. None at level
    "basic", nor for other phrases.
    """
    if not kinds.acts:
        return ()
    starts = dict(zip(kinds.lessons, accumulate((0, *kinds.track_sizes)), strict=False))
    if phrase.startswith("the text "):
        parts = text_parts(phrase.split()[2])
        return tuple(
            starts[lesson] + part
            for lesson, part in zip(("word", "tens", "ones"), parts, strict=True)
            if part < kinds.lessons[lesson] - 1
        )
    told = (
        *(("camera", i, f"the camera {CAMERA_MOVES[k].does}") for i, k in enumerate(kinds.cameras)),
        *(("light", i, f"the light {LIGHT_CHANGES[kind]}") for i, kind in enumerate(kinds.lights)),
        *(("motion", i, f" {MOTIONS[kind].does}") for i, kind in enumerate(kinds.motions)),
    )
    found = tuple(starts[lesson] + i for lesson, i, words in told if phrase.endswith(words))
    if " that turns " in phrase:
        before = set(phrase.split(" that turns ")[0].split())
        found += tuple(
            starts["earlier colour"] + i for i, name in enumerate(kinds.colours) if name in before
        )
    return found


def time_phrases(answer: str, kinds: Kinds, num_tokens: Callable[[str], int]) -> list[Phrase]:
    """The times that an answer tells, each a phrase about any token of the frame at that time."""
    found = []
    for mark in re.finditer(TIMESTAMP_PATTERN, answer):
        end, seconds = num_tokens(answer[: mark.end()]), parse_timestamp(mark[0])
        found.append(
            Phrase(
                first=end - num_tokens(mark[0]) - 1,
                last=end - 2,
                looks=kinds.no_looks,
                start_seconds=seconds,
                end_seconds=seconds,
            )
        )
    return found


def asked_phrases(
    ids: Sequence[int],
    named_ids: Sequence[int],
    spans: Sequence[tuple[float, float]],
    evenly: bool = False,
) -> list[Phrase]:
    """The words of a question that name things which are shown in these spans, each a phrase.

    `ids` are the prompt's, `named_ids` all words for looks. A word right after another is of the
    same thing, as in "red circle"; of a word that stands twice, the last is the one that asks.
    """
    kinds_of_word = {token: kind for kind, token in enumerate(named_ids)}
    found: dict[int, Phrase] = {}
    looks = (False,) * len(named_ids)
    for place, token in enumerate(ids):
        kind = kinds_of_word.get(token)
        if kind is None:
            looks = (False,) * len(named_ids)
            continue
        looks = tuple(had or i == kind for i, had in enumerate(looks))
        found[token] = Phrase(
            first=place,
            last=place,
            looks=looks,
            start_seconds=min(start for start, _ in spans),
            end_seconds=max(end for _, end in spans),
            evenly=evenly,
        )
    return list(found.values())


def listed_phrases(
    ids: Sequence[int],
    separator_ids: Sequence[int],
    listed: Sequence[tuple[str, tuple[float, float]]],
    kinds: Kinds,
) -> list[Phrase]:
    """The last words of the clauses that a question lists at its end, each a phrase of its clause.

    `ids` are the prompt's, `separator_ids` those of the marks that end clauses.
    """
    marks = [place for place, token in enumerate(ids) if token in separator_ids]
    found = []
    for mark, (text, (start, end)) in zip(marks[-len(listed) :], listed, strict=True):
        found.append(
            Phrase(
                first=mark - 1,
                last=mark - 1,
                looks=kinds.looks_named(text),
                start_seconds=start,
                end_seconds=end,
                columns=told_columns(text, kinds),
            )
        )
    return found


def phrase_tokens(phrases: Sequence[tuple[int, int, Phrase]], kinds: Kinds) -> PhraseTokens:
    """Every token of the phrases; each comes with its row and the place where its answer begins."""
    tokens = [
        (row, start + place, phrase)
        for row, start, phrase in phrases
        for place in range(phrase.first, phrase.last + 1)
    ]
    looks = torch.zeros(len(tokens), len(kinds.no_looks), dtype=torch.bool)
    for i, (_, _, phrase) in enumerate(tokens):
        looks[i] = torch.tensor(phrase.looks)
    spans = [(phrase.start_seconds, phrase.end_seconds) for _, _, phrase in tokens]
    return PhraseTokens(
        rows=torch.tensor([row for row, _, _ in tokens], dtype=torch.long),
        places=torch.tensor([place for _, place, _ in tokens], dtype=torch.long),
        looks=looks,
        spans=torch.tensor(spans, dtype=torch.float32).reshape(-1, 2),
        columns=column_rows([phrase.columns for _, _, phrase in tokens]),
        evenly=torch.tensor([phrase.evenly for _, _, phrase in tokens], dtype=torch.bool),
    )


def column_rows(columns: Sequence[tuple[int, ...]]) -> Tensor:
    """Columns of `told_columns` as (N, MAX_COLUMNS), each row filled up with NO_COLUMN."""
    rows = torch.full((len(columns), MAX_COLUMNS), NO_COLUMN)
    for row, told in zip(rows, columns, strict=True):
        row[: len(told)] = torch.tensor(told, dtype=torch.long)
    return rows


def inside_spans(seconds: Tensor, spans: Tensor) -> Tensor:
    """Which of the times (P, T) lie in the spans (P, 2), ends included: (P, T) bool."""
    start, end = spans[:, :1] - _SLACK_SECONDS, spans[:, 1:] + _SLACK_SECONDS
    return (seconds >= start) & (seconds <= end)
