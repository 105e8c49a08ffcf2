import math

import pytest

from timevlm.errors import ChoiceError, InputError
from timevlm.tasks.qa import (
    candidate_texts,
    check_choices,
    choice_confidences,
    choice_letter,
    question_prompt,
    scored_text,
)


def test_open_question_is_asked_as_it_is():
    assert question_prompt(" What  is red? ") == "What  is red?"
    assert question_prompt("What is red?", ["a", "b"]) == "What is red?"


def test_a_question_about_these_names_them():
    prompt = question_prompt("Which of These is red?", ["a car", " the  bus "])
    assert prompt == "Which of These is red? a car, the bus."
    assert question_prompt("Which of these is red?") == "Which of these is red?"
    assert question_prompt("Is there a thesesaurus?", ["yes", "no"]) == "Is there a thesesaurus?"


def test_letter_prompt_lists_the_choices():
    prompt = question_prompt("Which?", ["red", " dark  blue "], style="letter")
    assert prompt.splitlines()[:3] == ["Which?", "A. red", "B. dark blue"]
    assert question_prompt("Which?", style="letter") == "Which?"


def test_blank_question_and_unknown_style_are_refused():
    with pytest.raises(InputError, match="question is empty"):
        question_prompt(" \n")
    with pytest.raises(InputError, match=r"'number'.*text, letter"):
        question_prompt("What?", style="number")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "got 0 choices"),
        (["red"], "got 1 choices"),
        ([str(number) for number in range(27)], "got 27 choices"),
        (["red", "  "], "choice 2 is empty"),
        (["red", "blue", "Red."], r"choices 1 \('red'\) and 3 \('Red.'\)"),
        ("ab", "one text 'ab'"),
    ],
)
def test_choices_that_cannot_be_scored(choices, message):
    with pytest.raises(ChoiceError, match=message) as caught:
        check_choices(choices)
    assert "\n" not in str(caught.value)


def test_good_choices_come_back_clean():
    assert check_choices([" Red", "dark  blue"]) == ("Red", "dark blue")
    assert len(check_choices([str(number) for number in range(26)])) == 26


def test_candidates_follow_the_style():
    assert candidate_texts(["Red.", "Blue"]) == ("red", "blue")
    assert candidate_texts(["Red.", "Blue", "x"], style="letter") == ("A", "B", "C")


def test_a_single_answer_is_scored_as_the_choice_of_that_text():
    assert scored_text(" Red. ") == candidate_texts(["Red.", "Blue"])[0]
    assert scored_text(" A  Red. ", style="letter") == "A Red."
    with pytest.raises(InputError, match="blank"):
        scored_text(" ")


def test_letters():
    assert choice_letter(0) + choice_letter(25) == "AZ"
    with pytest.raises(IndexError, match="no letter"):
        choice_letter(26)


def test_confidences_are_a_softmax():
    confidences = choice_confidences([math.log(0.2), math.log(0.6), math.log(0.2)])
    assert confidences == pytest.approx([0.2, 0.6, 0.2])
    assert choice_confidences([-1e6, -1e6 + math.log(3)]) == pytest.approx([0.25, 0.75])
    assert choice_confidences([0.0, -math.inf]) == [1.0, 0.0]


def test_temperature_flattens():
    cold, warm = (choice_confidences([0.0, -1.0], temperature)[0] for temperature in (0.5, 5.0))
    assert 0.5 < warm < cold
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="temperature"):
            choice_confidences([0.0, -1.0], temperature)


@pytest.mark.parametrize(
    "values", [[], [math.nan, 0.0], [0.0, math.nan], [-math.inf] * 2, [math.inf]]
)
def test_likelihoods_that_cannot_be_ranked(values):
    with pytest.raises(ValueError, match="cannot be ranked"):
        choice_confidences(values)
