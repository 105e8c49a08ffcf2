import random

import pytest

from timevlm.tasks.captioning import (
    format_captions,
    goes_forward,
    list_once,
    listed_items,
    merge_repeats,
    parse_captions,
)
from timevlm.training.evaluate_captions import is_repeated

WORDS = ["a", "red", "circle", "moves", "left,", "then", "stops.", "-", ">", "\u732b", "12"]


def random_captions(rng):
    count = rng.randrange(1, 6)
    starts = sorted(rng.sample(range(600), count))
    ends = sorted(rng.sample(range(600, 690), count))
    return [
        (start / 10, end / 10, " ".join(rng.choices(WORDS, k=rng.randrange(1, 8))))
        for start, end in zip(starts, ends, strict=True)
    ]


def test_a_list_is_taken_apart():
    assert listed_items("a star, a ring, and two circles and a dog") == [
        "a star",
        "a ring",
        "two circles",
        "a dog",
    ]
    assert listed_items("snow falls") == ["snow falls"]


def test_format_by_example():
    captions = [(0, 9, "a red circle moves left"), (9, 12.55, "it stops")]
    text = "<0.0s> - <9.0s> a red circle moves left\n<9.0s> - <12.6s> it stops"
    assert format_captions(captions) == text


def test_parse_undoes_format():
    rng = random.Random(0)
    for _ in range(500):
        captions = random_captions(rng)
        assert parse_captions(format_captions(captions)) == captions


@pytest.mark.parametrize(
    ("text", "once"),
    [
        ("a red star spins", None),
        ("a red star spins and a red star spins", "a red star spins"),
        (
            "a red star spins, a ring grows and a red star spins",
            "a red star spins and a ring grows",
        ),
        (
            "a ring grows, a ring grows, the camera shakes and the light flickers",
            "a ring grows, the camera shakes and the light flickers",
        ),
        ("the cat sits, a dog barks, and the cat sits", "the cat sits, and a dog barks"),
        ("a dog barks and a cat barks", None),
        (
            "a dog sits and barks, a cat sits and barks",
            "a dog sits and barks, a cat sits and barks",
        ),
        ("a red star spins and a red star", None),
        ("", None),
    ],
)
def test_things_of_a_list_are_said_once(text, once):
    once = once or text  # None: as it is
    assert list_once(text) == once
    assert list_once(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "<0.0s> - <9.0s>",
        "<0.0s> - <9.0s> ",
        "<0.0s> - <9.0s>red",
        "<0.0s> - <9.0s>  red",
        "<0.0s> - <9.0s> red ",
        "<0.0s> - <9.0s> red  circle",
        "<0.0s> - <9.0s> red\n",
        "<0.0s> - <9.0s> red <1.0s>",
        "<9.0s> - <0.0s> red",
        "<5.0s> - <8.0s> red\n<4.0s> - <9.0s> blue",
        "<5.0s> - <8.0s> red\n<5.0s> - <9.0s> blue",
        "<5.0s> - <9.0s> red\n<6.0s> - <9.0s> blue",
    ],
)
def test_parse_is_strict(text):
    with pytest.raises(ValueError, match=r"caption|span"):
        parse_captions(text)


@pytest.mark.parametrize(
    "captions",
    [
        [],
        [(0, 1, "")],
        [(0, 1, " red")],
        [(0, 1, "red\nblue")],
        [(0, 1, "red <0.0s>")],
        [(1, 0, "red")],
        [(1, 2, "red"), (0, 3, "blue")],
        [(1, 2, "red"), (1, 3, "blue")],
        [(1, 3, "red"), (2, 3, "blue")],
    ],
)
def test_format_refuses_what_parse_would(captions):
    with pytest.raises(ValueError, match=r"caption|span"):
        format_captions(captions)


def test_what_was_just_said_is_not_said_again():
    red, blue = (0.0, 2.0, "red"), (1.0, 3.0, "blue")
    assert merge_repeats([red, (4.0, 5.0, "Red."), (6.0, 7.0, "red")]) == [(0.0, 7.0, "red")]
    assert merge_repeats([red, blue, (1.5, 4.0, "red")]) == [(0.0, 4.0, "red"), blue]
    assert merge_repeats([red, blue, (4.0, 5.0, "red")]) == [red, blue, (4.0, 5.0, "red")]
    assert merge_repeats([]) == []
    twice = (0.0, 1.0, "a red star spins and a red star spins")
    assert merge_repeats([twice]) == [(0.0, 1.0, "a red star spins")]


def test_merged_captions_do_not_repeat_and_keep_their_order():
    rng = random.Random(1)
    for _ in range(500):
        count = rng.randrange(1, 9)
        starts, ends = (sorted(rng.sample(range(20), count)) for _ in range(2))
        texts = rng.choices("ab", k=count)
        times = [(min(s, e), max(s, e)) for s, e in zip(starts, ends, strict=True)]
        told = [(*time, text) for time, text in zip(times, texts, strict=True)]
        merged = merge_repeats(told)
        assert not any(is_repeated(merged))
        assert [c[0] for c in merged] == sorted(c[0] for c in merged)
        for start, end, text in told:
            assert any(s <= start and end <= e and text == t for s, e, t in merged)


def test_going_forward_means_that_starts_and_ends_rise():
    assert goes_forward([(0, 3, "x"), (1, 4, "y"), (4, 5, "z")])
    assert not goes_forward([(0, 3, "x"), (1, 3, "y")])
    assert not goes_forward([(1.04, 2, "x"), (1.0, 3, "y")])
    assert not goes_forward([(1, 2, "x"), (0.9, 3, "y")])
