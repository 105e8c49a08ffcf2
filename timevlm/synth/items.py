"""What is asked about a video: a question with choices, a sentence to find in time."""

from dataclasses import dataclass

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question with its right answer (one of `choices`) and the seconds the answer rests on.

    `kind` is the maker ("colour.of_shape"), finer than `family`. The spans are sorted and apart;
    for a "no" they cover the whole video. `choice_spans`, where choices are things that happen, say
    when each does.
    """

    family: str
    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]
    answer_spans: tuple[Span, ...]
    choice_spans: tuple[Span, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundingQuery:
    """A sentence and all the intervals in which it holds, sorted and apart.

    `kind` says what the sentence is about ("motion").
    """

    text: str
    spans: tuple[Span, ...]
    kind: str = ""
