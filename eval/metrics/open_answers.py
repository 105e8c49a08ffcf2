"""Answers in words to open questions, graded by a judge on aspects from 1 to 5.

MLVU's generation tasks (arXiv 2406.04264) are graded this way, two aspects each: an answer about a
scene of a long video by accuracy and relevance, with the points that it must make at hand; a
summary by completeness and reliability. An answer's score is the sum of both, 2 to 10, and G-Avg
the mean of the two tasks' means.

What is missing or was graded unreadably has the lowest grade of both. The wording is ours; the
published numbers were made with another and with another judge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from eval.metrics.judge import Judge, JudgeRequest, reply_dictionary
from timevlm.errors import InputError

PROMPT_VERSION = "timevlm-mlvu-1"
LOWEST, HIGHEST = 1.0, 5.0
ASPECTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "sub_scene": MappingProxyType(
            {
                "accuracy": "how many of the points below the answer makes, and makes rightly",
                "relevance": "how far the answer keeps to what the question asks about",
            }
        ),
        "summary": MappingProxyType(
            {
                "completeness": "how much of what happens in the reference the answer tells",
                "reliability": "how free the answer is of things that the reference does not "
                "support or that contradict it",
            }
        ),
    }
)
_SYSTEM = (
    "You grade answers to questions about a video that you cannot see. A reference answer by a "
    "person who watched it is all you know about the video. Other words for the same thing are as "
    "good."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAnswer:
    """One answer to be graded."""

    task: str
    """Key of `ASPECTS`."""
    question: str
    answer: str
    """"" where the model failed: lowest grades, without asking."""
    reference: str
    points: Sequence[str] = ()
    """What a right answer must say, where the benchmark lists it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grades:
    """What an answer earned: aspect -> 1 to 5."""

    aspects: Mapping[str, float]
    parsed: bool = True
    """False where the judge gave no readable reply."""

    @property
    def total(self) -> float:
        """Sum over the aspects."""
        return sum(self.aspects.values())

    @property
    def share(self) -> float:
        """`total` between its lowest and highest value, in [0, 1]."""
        num = len(self.aspects)
        return (self.total - num * LOWEST) / (num * (HIGHEST - LOWEST))


def grade_answers(
    answers: Sequence[OpenAnswer],
    judge: Judge,
    *,
    on_reply: Callable[[int, int], None] | None = None,
) -> list[Grades]:
    """The judge's grades, in order. Raises JudgeError if it cannot be asked."""
    found: list[Grades] = [
        Grades(aspects=dict.fromkeys(_aspects(item.task), LOWEST)) for item in answers
    ]
    for task in dict.fromkeys(item.task for item in answers):
        places = [i for i, x in enumerate(answers) if x.task == task and x.answer.strip()]
        names = tuple(ASPECTS[task])
        replies = judge.ask_all(
            [_request(answers[place]) for place in places],
            accept=lambda text, names=names: parse_grades(text, names) is not None,
            on_reply=on_reply,
        )
        for place, reply in zip(places, replies, strict=True):
            grades = parse_grades(reply or "", names)
            lowest = dict.fromkeys(names, LOWEST)
            found[place] = Grades(aspects=grades or lowest, parsed=grades is not None)
    return found


def parse_grades(text: str, names: Sequence[str]) -> dict[str, float] | None:
    """The grades in a judge's reply; None if one is missing or outside 1 to 5."""
    values = reply_dictionary(text) or {}
    grades: dict[str, float] = {}
    for name in names:
        try:
            grades[name] = float(str(values.get(name)))
        except ValueError:
            return None
    inside = all(LOWEST <= grade <= HIGHEST for grade in grades.values())
    return grades if inside else None


def _aspects(task: str) -> Mapping[str, str]:
    if task not in ASPECTS:
        raise InputError(f"no aspects are known for {task!r}; graded are {', '.join(ASPECTS)}")
    return ASPECTS[task]


def _request(item: OpenAnswer) -> JudgeRequest:
    aspects = ASPECTS[item.task]
    lines = [f"Question: {item.question}", f"Reference answer: {item.reference}"]
    if item.points:
        lines += ["Points that a right answer makes:", *(f"- {point}" for point in item.points)]
    lines += [
        f"Given answer: {item.answer.strip()}",
        "",
        "Grade the given answer from 1 (worst) to 5 (best):",
        *(f"- {name}: {meaning}" for name, meaning in aspects.items()),
        "Reply with a JSON object only, without any explanation, such as "
        + "{"
        + ", ".join(f'"{name}": 3' for name in aspects)
        + "}",
    ]
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "\n".join(lines)},
    ]
    return JudgeRequest(messages=messages, prompt_version=PROMPT_VERSION)
