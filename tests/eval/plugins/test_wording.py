import pytest

from eval.benchmarks import prompts
from eval.plugins.wording import Asked, read_prompt

OPTIONS = ("red", "a green star", "blue")
QUESTION = "Which shape\nis seen first?"


@pytest.mark.parametrize(
    "prompt",
    [
        prompts.plain_choice(QUESTION, OPTIONS).text,
        prompts.timeviper_choice(QUESTION, OPTIONS).text,
        f"{QUESTION}\nA) red\n\nB) a green star\nC) blue",
        f"Question: {QUESTION}\nOptions:\nA: red\nB: a green\n   star\nC: blue\nAnswer:",
        f"question:{QUESTION}\nOption:\n(A) red\n(B) a green star\n(C) blue\nOnly say it. D",
        "Select the best answer to the following multiple-choice question. Say a letter.\n"
        f"{QUESTION}\nA. red\nB. a green star\nC. blue\nThe best answer is:",
        "These are frames. Select the best answer to the following multiple-choice question.\n\n"
        f"Question: {QUESTION}\nA. red\nB. a green star\nC. blue\nAnswer: ",
    ],
)
def test_question_and_options_come_out_of_any_form(prompt):
    assert read_prompt(prompt) == Asked(QUESTION, OPTIONS)


@pytest.mark.parametrize(
    "prompt",
    [
        "What is red?",
        "What is red?\nB. a\nC. b",  # letters begin with A
        "What is red?\nA. a\nC. b",  # and count up
        "A. a\nB. b",  # no question
        "He said:\nA. moment please",
    ],
)
def test_other_prompts_stay_whole(prompt):
    assert read_prompt(f" {prompt}\n") == Asked(prompt)


def test_subtitles_stay_with_the_question():
    instruction = "Select the best answer to the following multiple-choice question."
    prompt = f"Subtitles:\nhello there\n{instruction}"
    assert read_prompt(f"{prompt}\nQuestion: Who?\nA. he\nB. she").question == (
        "Subtitles:\nhello there\nWho?"
    )


def test_the_last_list_of_options_counts():
    prompt = "A: Hello.\nB: Hi.\nWho spoke first?\nA. he\nB. she\nAnswer:"
    assert read_prompt(prompt) == Asked("A: Hello.\nB: Hi.\nWho spoke first?", ("he", "she"))


def test_as_many_options_as_there_are_letters():
    options = tuple(f"number {n}" for n in range(26))
    assert read_prompt(f"Which?\n{prompts.dotted(options)}").options == options


def test_an_event_to_find():
    prompt = (
        "Find it. Now I will give you the textual sentence: person opens a door.. "
        "Please return its start time and end time."
    )
    assert read_prompt(prompt) == Asked("person opens a door", is_event=True)
