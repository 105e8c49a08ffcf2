"""Tokens that know when their frame is shown."""

import pytest
import torch

from tests.helpers import random_pixels, tiny_config
from timevlm.errors import InputError
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.tasks.timestamps import timestamp_text
from timevlm.tokenization import build_tokenizer
from timevlm.vision.times import (
    NONE,
    TimeEmbedding,
    TimestampEmbedding,
    time_digits,
    timestamp_pieces,
)

TIMES = [0.0, 0.04, 1.25, 7.5, 9.95, 10.0, 26.0, 100.0, 1020.35, 3599.96, 86399.9]


@pytest.mark.parametrize("seconds", TIMES)
def test_digits_are_those_of_the_timestamp(seconds):
    (digits,) = time_digits(torch.tensor([seconds], dtype=torch.float64)).tolist()
    text = "".join(map(str, reversed(digits)))
    assert f"<{int(text[:-1])}.{text[-1]}s>" == timestamp_text(seconds)


@pytest.mark.parametrize("seconds", [*TIMES, 9999.94, 10_000.0, 360_001.0])
def test_pieces_are_the_words_of_the_timestamp(seconds):
    *pairs, tenth = timestamp_pieces(torch.tensor([seconds], dtype=torch.float64))[0].tolist()
    first, *others = [pair for pair in pairs if pair != NONE]
    words = [f"<{first}", *(f"{pair:02d}" for pair in others), f".{tenth}s>"]
    tokenizer = build_tokenizer([])
    assert tokenizer.tokenize(timestamp_text(seconds)) == words
    assert pairs == [first, *others, NONE, NONE][:3]


def test_each_word_of_a_timestamp_adds_its_own_vector():
    told = TimestampEmbedding(8)
    firsts, pairs, ends = (torch.randn(n, 8) for n in (100, 100, 10))
    told.begin_as(firsts, pairs, ends)
    expected = torch.stack(
        [
            firsts[12] + ends[5],
            firsts[3] + pairs[12] + ends[0],
            firsts[1] + pairs[0] + pairs[7] + ends[9],
        ]
    )
    found = told(torch.tensor([12.5, 312.0, 10_007.9]))
    torch.testing.assert_close(found, expected)


def test_only_vision_tokens_are_told_late():
    model = TimeVLMForConditionalGeneration(tiny_config())
    frame, seconds = model.config.frame_token_id, torch.tensor([2.0, 31.5])
    late = model.tell_late(torch.tensor([[9, frame, frame, 8, 9, frame, frame]]), seconds)
    told = model.timestamps(seconds)
    assert torch.equal(late[0, [1, 2, 5, 6]], told.repeat_interleave(2, dim=0))
    assert not late[0, [0, 3, 4]].any()
    with pytest.raises(InputError, match="times of its 2 frames, got 1"):
        model.tell_late(torch.tensor([[9, frame, frame, 8, 9, frame, frame]]), seconds[:1])


def test_each_digit_adds_its_own_vector():
    times = TimeEmbedding(8)
    vectors = times.weight.detach().T.unflatten(0, (-1, 10))  # (places, digits, dim)
    expected = vectors[0, 5] + vectors[1, 2] + vectors[2, 1] + vectors[3:, 0].sum(dim=0)
    torch.testing.assert_close(times(torch.tensor([12.5]))[0], expected)


def test_every_token_of_a_frame_hears_its_time_alone():
    model = TimeVLMForConditionalGeneration(tiny_config(time_embedding=True))
    pixels = random_pixels(3)
    seconds = torch.tensor([0.0, 1.5, 40.0])
    told = model.encode_frames(pixels, seconds)
    plain, _ = model.merge_patches(model.vision(pixels), None, model.frame_changes(pixels))
    expected = model.times(seconds)[:, None].expand_as(plain)
    torch.testing.assert_close(told - plain, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("seconds", "given"), [(None, "none"), (torch.zeros(2), "2")])
def test_missing_times_are_an_error(seconds, given):
    model = TimeVLMForConditionalGeneration(tiny_config(time_embedding=True))
    with pytest.raises(InputError, match=f"times of its 3 frames, got {given}"):
        model.encode_frames(random_pixels(3), seconds)
