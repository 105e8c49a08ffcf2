import random

import pytest

from timevlm.tasks.captioning import (
    drop_repeats,
    format_captions,
    is_monotone,
    parse_captions,
)

WORDS = ["a", "red", "circle", "moves", "left,", "then", "stops.", "-", ">", "\u732b", "12"]


def random_captions(rng):
    starts = sorted(rng.randrange(600) for _ in range(rng.randrange(1, 6)))
    return [
        (
            start / 10,
            (start + rng.randrange(90)) / 10,
            " ".join(rng.choices(WORDS, k=rng.randrange(1, 8))),
        )
        for start in starts
    ]


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
        "<5.0s> - <9.0s> red\n<4.0s> - <9.0s> blue",
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
        [(1, 2, "red"), (0, 2, "blue")],
    ],
)
def test_format_refuses_what_parse_would(captions):
    with pytest.raises(ValueError, match=r"caption|span"):
        format_captions(captions)


def test_only_exact_repeats_of_neighbours_go():
    a, b, later = (0.0, 1.0, "red"), (0.0, 1.0, "blue"), (1.0, 2.0, "red")
    assert drop_repeats([a, a, b, a, a, later, later]) == [a, b, a, later]
    assert drop_repeats((a, a)) == [a]
    assert drop_repeats([]) == []


def test_monotone_means_starts_that_never_go_back():
    assert is_monotone([(0, 9, "x"), (0, 1, "y"), (4, 5, "z")])
    assert is_monotone([(1.04, 2, "x"), (1.0, 2, "y")])
    assert not is_monotone([(1, 2, "x"), (0.9, 2, "y")])
