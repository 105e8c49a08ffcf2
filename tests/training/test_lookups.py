"""Prompts are taught to look at what their answer is to be seen in."""

import math
from itertools import accumulate

import pytest
import torch

from tests.training.test_tracks import looks_of
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.kinds import BASIC, FULL, MOVE_SIZE
from timevlm.training.lookups import lookups_of
from timevlm.training.tracks import lookup_loss
from timevlm.training.turns import Turn, make_turns

TARGETS = looks_of(("red", "ring"), ("blue", "ring"), ("red", "star"), None)
SECONDS = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
ATTENTION = torch.tensor([[0.5, 0.2, 0.1, 0.05]])  # the rest falls on text
WHOLE = ((0.0, 9.0),)


def loss_of(turn: Turn, ranking: torch.Tensor = ATTENTION) -> float:
    return float(lookup_loss(ranking, TARGETS, SECONDS, lookups_of([turn])))


def missed(*found: float) -> float:
    """The loss of so much attention on each span."""
    return sum(-math.log(each + 1e-4) for each in found) / len(found)


@pytest.mark.parametrize(
    ("prompt", "answer", "spans", "expected"),
    [
        ("What colour is the ring?", "red", WHOLE, missed(0.5)),
        ("Which shape is red?", "ring", WHOLE, missed(0.5)),
        ("What does the ring do?", "moves left", WHOLE, missed(0.5 + 0.2)),
        ("What colour is the object that spins?", "red", WHOLE, missed(0.5 + 0.1)),
        ("What does the ring do?", "moves left", ((1.0, 3.0),), missed(0.2)),
        # In the order of time, each has to be found.
        (
            "What comes after the red ring?",
            "a blue ring",
            ((0.0, 0.0), (1.0, 1.0)),
            missed(0.5, 0.2),
        ),
        # Nothing is named: the seconds alone count, and any token of theirs.
        ("Does it get darker?", "yes", ((2.0, 3.0),), missed(0.1 + 0.05)),
        # What is not shown, or no longer, is missed in any token.
        ("What colour is the star?", "green", WHOLE, missed(0.5 + 0.2 + 0.1 + 0.05)),
        ("When: the red ring vanishes", "<3.0s>", ((3.0, 3.0),), missed(0.05)),
        ("What colour is the ring?", "red", ((5.0, 6.0),), 0.0),  # not shown then
        ("What colour is the ring?", "red", ((5.0, 6.0), (0.0, 0.0)), missed(0.5)),
        ("Is there a ring?", "no", (), 0.0),
    ],
)
def test_lookups_are_the_attention_on_what_is_asked_for(prompt, answer, spans, expected):
    turn = Turn(family="any", prompt=prompt, answer=answer, spans=spans)
    assert loss_of(turn) == pytest.approx(expected, abs=1e-5)


def test_rows_are_summed_and_padding_adds_nothing():
    turns = [
        Turn(family="shape", prompt="Which shape is blue?", answer="ring", spans=WHOLE),
        Turn(family="order", prompt="?", answer="a star", spans=((0.0, 1.0), (2.0, 3.0))),
    ]
    both = lookups_of(turns)
    rows = (each.expand(2, *each.shape[1:]) for each in (ATTENTION, TARGETS, SECONDS))
    loss = lookup_loss(*rows, both)
    assert float(loss) == pytest.approx(sum(map(loss_of, turns)), abs=1e-5)
    alone = both.of_rows(torch.tensor([1]))
    assert float(lookup_loss(ATTENTION, TARGETS, SECONDS, alone)) == pytest.approx(
        loss_of(turns[1]), abs=1e-5
    )


@pytest.mark.parametrize("family", ["caption", "count"])
def test_rows_about_everything_want_even_attention_on_the_objects(family):
    turn = Turn(family=family, prompt="p", answer="a", spans=((0.0, 1.0), (2.0, 3.0)))
    third = 1 / 3
    assert loss_of(turn, torch.tensor([[third, third, third, 0.0]])) == pytest.approx(0, abs=1e-5)
    one_sided = loss_of(turn, torch.tensor([[0.99, 0.0, 0.0, 0.01]]))
    beside = loss_of(turn, torch.tensor([[0.2, 0.2, 0.2, 0.4]]))
    assert one_sided > beside > 0.4
    here = Turn(family=family, prompt="p", answer="a", spans=((0.0, 1.0),))
    assert loss_of(here, torch.tensor([[0.5, 0.5, 0.0, 0.0]])) == pytest.approx(0.0, abs=1e-5)
    rings = Turn(family=family, prompt="How many rings? a ring", answer="two", spans=WHOLE)
    assert loss_of(rings, torch.tensor([[0.5, 0.5, 0.0, 0.0]])) == pytest.approx(0.0, abs=1e-5)
    nowhere = Turn(family=family, prompt="p", answer="a", spans=((5.0, 6.0),))
    assert loss_of(nowhere) == 0.0


def test_how_long_something_lasts_needs_all_that_shows_it():
    turn = Turn(family="duration", prompt="How long is the ring in view?", answer="two seconds")
    assert lookups_of([turn], FULL).every.tolist() == [True]
    assert lookups_of([turn], BASIC).every.tolist() == [False]


def test_looks_are_named_in_the_words_of_the_level():
    turn = Turn(family="size", prompt="What size is the cyan ring?", answer="small")
    asked = lookups_of([turn], FULL)
    names = (*FULL.shapes, *FULL.colours)
    named = [name for name, has in zip(names, asked.looks[0].tolist(), strict=True) if has]
    assert named == ["ring", "cyan"]


def test_the_one_text_that_a_turn_tells_is_looked_up():
    """At <47.0s> "cake" is written on the second token, "47" on the third, "42" on the last."""
    at = dict(zip(FULL.lessons, accumulate((0, *FULL.track_sizes)), strict=False))
    targets = torch.zeros(1, 4, sum(FULL.track_sizes) + MOVE_SIZE)
    targets[..., len(FULL.shapes)] = 1.0  # background
    targets[0, 1, at["word"] + FULL.texts[0].index("cake")] = 1.0
    for token, (tens, ones) in {2: "47", 3: "42"}.items():
        targets[0, token, at["tens"] + FULL.texts[1].index(tens)] = 1.0
        targets[0, token, at["ones"] + FULL.texts[2].index(ones)] = 1.0

    def loss(prompt: str, answer: str) -> float:
        turn = Turn(family="reading", prompt=prompt, answer=answer, spans=WHOLE)
        return float(lookup_loss(ATTENTION, targets, SECONDS, lookups_of([turn], FULL), FULL))

    question = "What is written at <47.0s>?"
    assert loss(question, "cake") == pytest.approx(missed(0.2), abs=1e-5)
    assert loss(question, "47") == pytest.approx(missed(0.1), abs=1e-5)
    assert loss("When can you read 42?", "at <1.0s>") == pytest.approx(missed(0.05), abs=1e-5)
    both = "Which of these comes first? the text 47 appears, the text cake appears."
    assert loss(both, "the text 47 appears") == pytest.approx(missed(0.85), abs=1e-5)


def test_the_one_motion_of_something_without_a_name_is_looked_up():
    """The second token's object spins, the third's grows."""
    first = list(accumulate((0, *FULL.track_sizes)))[list(FULL.lessons).index("motion")]
    targets = torch.zeros(1, 4, sum(FULL.track_sizes) + MOVE_SIZE)
    targets[..., 0] = 1.0
    for token, motion in {1: "spin", 2: "grow"}.items():
        targets[0, token, first + FULL.motions.index(motion)] = 1.0

    def loss(prompt: str, answer: str = "yes") -> float:
        turn = Turn(family="exist", prompt=prompt, answer=answer, spans=WHOLE)
        return float(lookup_loss(ATTENTION, targets, SECONDS, lookups_of([turn], FULL), FULL))

    for asked in ("When: something that spins", "Does anything spin?", "an object is spinning"):
        assert loss(asked) == pytest.approx(missed(0.2), abs=1e-5)
    assert loss("What happens?", "something grows") == pytest.approx(missed(0.1), abs=1e-5)
    for asked in ("When: nothing moves", "When: everything stays still", "Does it spin or grow?"):
        assert loss(asked) == pytest.approx(missed(0.85), abs=1e-5)


@pytest.mark.parametrize("level", ["basic", "full"])
@pytest.mark.parametrize("shift", [0.0, 700.0])
def test_answers_rest_on_frames_of_the_video(level, shift):
    with_spans = 0
    for seed in range(6):
        spec = sample_video(seed, level=level)
        frames = (frame_seconds(spec, 1.0) + shift).tolist()
        for turn in make_turns(spec, frames, shift, seed=1, num_turns=24):
            with_spans += bool(turn.spans)
            assert all(start in frames and end in frames for start, end in turn.spans), turn
            assert list(turn.spans) == sorted(turn.spans)
    assert with_spans > 120  # of 144: all but those about what is not there
