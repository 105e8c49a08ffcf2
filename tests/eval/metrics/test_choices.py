"""The golden table of replies: what each rule set makes of them."""

import pytest

from eval.metrics.choices import RULE_SETS, UNPARSED, extract_choice, grade_choice
from eval.metrics.cleaning import clean_reply
from timevlm.errors import InputError

OPTIONS = ("A cat", "Dogs run", "A blue car", "Nobody")
LETTERS = "ABCDEFGH"


def letter(text, options=OPTIONS, rules="ours", bench="videomme"):
    found = extract_choice(text, options, rules=rules, bench=bench).choice
    return None if found is None else LETTERS[found]


# reply, the right letter, what the published scripts make of it where they differ
GOLDEN = [
    ("The answer is B. Dogs", "B", {"lmms": "D"}),
    ("The answer is B. A dog", "B", {"lmms": "A"}),
    ("The best answer is: (C) A cat", "C", {"lmms": "A"}),
    ("A man walks his dog, so B", "B", {"lmms": "A"}),
    ("A. x\nB. y\nThe answer is C", "C", {"lmms": "A"}),
    ("The correct option is B: Cat chases the Ball", "B", {"lmms": "C"}),
    ("b", "B", {"lmms": None, "official": None}),
    ("(b)", "B", {"lmms": None, "official": None}),
    ("Answer: (d)", "D", {}),
    ("Best answer: C", "C", {"official": "B"}),
    ("Because it rains, C", "C", {"official": "B"}),
    ("Dogs run. B", "B", {"official": "D"}),
    ("Both A and B are wrong; C", "C", {}),
    ("It is not A, the answer is B.", "B", {}),
    ("<answer>B</answer>", "B", {}),
    ("**B**", "B", {}),
    (r"\boxed{B}", "B", {}),
    ("<think>maybe A</think>The answer is D", "D", {}),
    ("I think it is a blue car.", "C", {}),
    ("D\nBecause the others are wrong.", "D", {}),
    ("", None, {"timeviper": "A"}),
    ("None of the above", None, {}),
    ("E", None, {}),
    ("A man in a red hat is walking.", None, {}),
]


@pytest.mark.parametrize(("text", "expected", "upstream"), GOLDEN)
def test_golden(text, expected, upstream):
    assert letter(text) == expected
    for rules, theirs in upstream.items():
        assert letter(text, rules=rules) == theirs


def test_an_empty_reply_is_wrong_for_us_and_right_for_others():
    assert not grade_choice("", OPTIONS, 2).correct
    assert grade_choice("", OPTIONS, 2, rules="official", bench="mvbench").correct
    assert grade_choice("", OPTIONS, 0, rules="timeviper").correct
    for text in ("(", ")", "."):
        assert grade_choice(text, OPTIONS, 1, rules="official", bench="mvbench").correct
        assert not grade_choice(text, OPTIONS, 1).correct


@pytest.mark.parametrize(
    ("text", "expected", "rule"),
    [
        ("(c) A blue car", "C", "leading"),
        ("B.", "B", "letter"),
        ("b) Dogs run", "B", "leading"),
        ("C, since the sky is blue", "C", "leading"),
        ("The answer is B because it rains", "B", "anchored"),
        ("The answer is A because it rains", "A", "anchored"),
        ("The answer is C. Option D shows a man.", "C", "anchored"),
        ("The answer is C, not option D.", "C", "anchored"),
        ("I would choose B over A", "B", "anchored"),
        ("B is the correct answer", "B", "anchored"),
        ("answer: b", "B", "anchored"),
        ("answer: a", "A", "anchored"),
        ("Let me think. Answer: B. No, wait. Answer: C", "C", "anchored"),
        ("the right one has to be [D] here", "D", "bracketed"),
        ("It shows dogs run in a park.", "B", "option_text"),
        ("Surely B!", "B", "at_end"),
        ("Reply: B\nReason: it barks", "B", "standalone"),
        ("The answer is a", None, UNPARSED),
        ("The answer is A red hat", None, UNPARSED),
        ("Either B or D", "D", "at_end"),
        ("The answer is E", None, UNPARSED),
        ("<think>The answer is B", None, UNPARSED),
        ("so A?</think>\nC", "C", "letter"),
        ("<answer>A</answer> hm <answer>(B)</answer>", "B", "letter"),
        (r"$\boxed{\text{D}}$", "D", "letter"),
        ("B<|im_end|>", "B", "letter"),
        ("\uff22", "B", "letter"),
        (r"Final answer: \(\boxed{B}\)", "B", "anchored"),
        ("A) is wrong, B) is wrong, C) is right", "C", "anchored"),
        ("Option A is incorrect. Option C is correct.", "C", "anchored"),
        ("A. A cat\nB. Dogs run\nC. A blue car\nD. Nobody", None, UNPARSED),
        ("A. A cat\nB. Dogs run\nC. A blue car\nD. Nobody\n\nB", "B", "at_end"),
    ],
)
def test_each_rule(text, expected, rule):
    found = extract_choice(text, OPTIONS)
    assert (found.choice, found.rule) == (
        None if expected is None else LETTERS.index(expected),
        rule,
    )


def test_letters_end_with_the_options_of_the_row():
    assert letter("E", ("a1", "b1", "c1", "d1", "e1", "f1")) == "E"
    assert letter("The answer is (F)", tuple("uvwxyz")) == "F"
    assert letter("C", ("yes", "no")) is None
    assert letter("A", ("only one",)) == "A"


def test_six_options_are_lost_on_a_four_letter_script():
    six = ("one", "two", "three", "four", "five", "six")
    assert letter("E", six, rules="lmms", bench="mlvu") is None
    assert letter("E", six, rules="lmms", bench="lvbench") == "E"


def test_nested_option_texts_take_the_longest_and_equal_ones_take_none():
    nested = ("a car", "a blue car", "a dog", "a cat")
    assert letter("I see a blue car.", nested) == "B"
    assert letter("I see a blue car and a dog.", nested) is None
    assert letter("I see a car.", ("a car", "a car", "a dog")) is None


def test_equal_texts_count_only_where_asked():
    options = ("a ring", "a hat", "a ring", "a shoe")
    assert not grade_choice("C", options, 0).correct
    assert grade_choice("C", options, 0, equal_text_counts=True).correct
    assert not grade_choice("B", options, 0, equal_text_counts=True).correct
    assert not grade_choice("", options, 0, equal_text_counts=True).correct


@pytest.mark.parametrize(
    ("text", "bench", "expected"),
    [
        ("B) Dogs", "mlvu", "B"),
        ("B", "mlvu", "B"),
        ("C. A blue car", "mlvu", None),
        ("(C) A blue car", "lvbench", "C"),
        ("C because", "lvbench", "C"),
        ("Best option: D", "longvideobench", "D"),
        ("", "longvideobench", None),
    ],
)
def test_official_scripts(text, bench, expected):
    assert letter(text, rules="official", bench=bench) == expected


def test_timeviper_reads_characters():
    assert letter("(C) A blue car", rules="timeviper") == "C"
    assert letter("B. Dogs", rules="timeviper") == "B"
    assert letter("The answer is B", rules="timeviper") is None  # "T" is beyond the options


@pytest.mark.parametrize("rules", RULE_SETS)
@pytest.mark.parametrize("position", range(4))
def test_plain_letters_are_read_alike_by_all(rules, position):
    assert letter(LETTERS[position], rules=rules) == LETTERS[position]


def test_reading_is_deterministic_and_total():
    samples = [text for text, _, _ in GOLDEN] + ["(" * 50, "\x00", "A" * 10_000, "A B " * 1000]
    for text in samples:
        assert extract_choice(text, OPTIONS) == extract_choice(text, OPTIONS)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="unknown rule set 'mine'; use one of ours, official"):
        extract_choice("B", OPTIONS, rules="mine")
    with pytest.raises(InputError, match="got 0 options"):
        extract_choice("B", ())
    with pytest.raises(InputError, match="gold 4 is no index into 4 options"):
        grade_choice("B", OPTIONS, 4)


def test_cleaning_keeps_what_is_said():
    assert clean_reply("<think>a</think> B ") == "B"
    assert clean_reply("plain text") == "plain text"
    assert clean_reply("<answer>") == ""
    assert clean_reply("B <think>or C</think>") == "B"
    assert clean_reply("a</thinking>b<THINK>c") == "b"
    assert clean_reply("<think>" * 20_000) == ""
