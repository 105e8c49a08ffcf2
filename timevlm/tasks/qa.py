"""Questions: the prompt text, the candidate answers to score, and their confidences.

Multiple choice is scored by likelihood, never parsed from free text: a reply without an answer
cannot happen. Two scoring styles, because models differ in what they were taught:

    "text"    each choice's own text is scored as the answer to the open question (what `nano` uses)
    "letter"  the choices stand in the prompt as lines "A. red" and the letters are scored (large
    models)
"""

import math
import re
from collections.abc import Sequence
from typing import Literal

from timevlm.errors import ChoiceError, InputError
from timevlm.tasks.text import normalize_answer

AnswerStyle = Literal["text", "letter"]
ANSWER_STYLES: tuple[AnswerStyle, ...] = ("text", "letter")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_THESE = re.compile(r"\bthese\b", re.IGNORECASE)
MIN_CHOICES = 2
MAX_CHOICES = len(LETTERS)


def check_question(question: str) -> str:
    """The question without the blanks around it. Raises InputError for a blank one."""
    question = question.strip()
    if not question:
        raise InputError("the question is empty: ask something about the video")
    return question


def question_prompt(
    question: str, choices: Sequence[str] = (), *, style: AnswerStyle = "text"
) -> str:
    """The text of a question as the model reads it.

    The question keeps its words; only the blanks around it go. In the "letter" style choices stand
    in the text; in the "text" style only where the question speaks of "these", which without them
    has no answer. Raises InputError for a blank question or an unknown style, ChoiceError
    for choices that cannot be scored.
    """
    _check_style(style)
    question = check_question(question)
    if style == "text":
        asks_for_these = choices and _THESE.search(question)
        return f"{question} {', '.join(check_choices(choices))}." if asks_for_these else question
    if not choices:
        return question
    lines = [f"{choice_letter(i)}. {text}" for i, text in enumerate(check_choices(choices))]
    return "\n".join([question, *lines, "Answer with the letter of the right choice."])


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """The choices with single spaces and no blanks around them, once they are known to be scorable.

    Raises ChoiceError unless there are 2 to 26 of them, none blank, all different after
    normalisation.
    """
    if isinstance(choices, str):
        raise ChoiceError(f"choices must be a list of texts, got one text {choices!r}: split it")
    if not MIN_CHOICES <= len(choices) <= MAX_CHOICES:
        raise ChoiceError(
            f"got {len(choices)} choices, allowed are {MIN_CHOICES} to {MAX_CHOICES}: "
            "add or remove choices"
        )
    first_seen: dict[str, int] = {}
    for index, choice in enumerate(choices):
        key = normalize_answer(choice)
        if not key:
            raise ChoiceError(f"choice {index + 1} is empty ({choice!r}): give every choice a text")
        if key in first_seen:
            earlier = first_seen[key]
            raise ChoiceError(
                f"choices {earlier + 1} ({choices[earlier]!r}) and {index + 1} ({choice!r}) "
                "are the same answer: make them differ in more than case and punctuation"
            )
        first_seen[key] = index
    return tuple(" ".join(choice.split()) for choice in choices)


def candidate_texts(choices: Sequence[str], *, style: AnswerStyle = "text") -> tuple[str, ...]:
    """The answer texts whose likelihoods are compared, one per choice, in order.

    In the "text" style they are the normalised choices, so that "Red." and "red" score alike; in
    the "letter" style they are the letters. Raises ChoiceError as `check_choices` does, InputError
    for an unknown style.
    """
    _check_style(style)
    checked = check_choices(choices)
    if style == "letter":
        return tuple(LETTERS[: len(checked)])
    return tuple(normalize_answer(choice) for choice in checked)


def scored_text(answer: str, *, style: AnswerStyle = "text") -> str:
    """The text whose likelihood stands for a single answer to an open question.

    Normalised in the "text" style, as its choices are; in the "letter" style the answer's own
    words. Raises InputError for a blank answer or an unknown style.
    """
    _check_style(style)
    text = normalize_answer(answer) if style == "text" else " ".join(answer.split())
    if not text:
        raise InputError(f"the answer {answer!r} is blank: give a text to score")
    return text


def choice_letter(index: int) -> str:
    """The letter shown for a choice: 0 is A. Raises IndexError beyond Z."""
    if not 0 <= index < MAX_CHOICES:
        raise IndexError(f"choice {index} has no letter; choices are 0 to {MAX_CHOICES - 1}")
    return LETTERS[index]


def choice_confidences(log_likelihoods: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Softmax of the log likelihoods (natural logarithm) over `temperature`, summing to one.

    Raises InputError for a temperature that is not a positive number, and ValueError for
    likelihoods that cannot be ranked: none at all, not-a-number, plus infinity, or every one minus
    infinity.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature is {temperature}; it must be a number above 0")
    best = max(log_likelihoods, default=math.nan)
    if not math.isfinite(best) or any(math.isnan(value) for value in log_likelihoods):
        raise ValueError(f"log likelihoods cannot be ranked: {list(log_likelihoods)}")
    weights = [math.exp((value - best) / temperature) for value in log_likelihoods]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _check_style(style: str) -> None:
    if style not in ANSWER_STYLES:
        allowed = ", ".join(ANSWER_STYLES)
        raise InputError(f"unknown answer style {style!r}; supported are {allowed}")
