"""Tokens that know when their frame is shown."""

import pytest
import torch

from tests.helpers import random_pixels, tiny_config
from timevlm.errors import InputError
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.tasks.timestamps import timestamp_text
from timevlm.tokenization import build_tokenizer
from timevlm.vision.times import NONE, TimeEmbedding, time_digits, timestamp_words

TIMES = [0.0, 0.04, 1.25, 7.5, 9.95, 10.0, 26.0, 100.0, 1020.35, 3599.96, 86399.9]


@pytest.mark.parametrize("seconds", TIMES)
def test_digits_are_those_of_the_timestamp(seconds):
    (digits,) = time_digits(torch.tensor([seconds], dtype=torch.float64)).tolist()
    text = "".join(map(str, reversed(digits)))
    assert f"<{int(text[:-1])}.{text[-1]}s>" == timestamp_text(seconds)


@pytest.mark.parametrize("seconds", [*TIMES, 9999.94, 10_000.0, 360_001.0])
def test_words_are_those_of_the_timestamp(seconds):
    *pairs, tenth = timestamp_words(torch.tensor([seconds], dtype=torch.float64))[0].tolist()
    first, *others = [pair for pair in pairs if pair != NONE]
    words = [f"<{first}", *(f"{pair:02d}" for pair in others), f".{tenth}s>"]
    assert build_tokenizer([]).tokenize(timestamp_text(seconds)) == words
    assert pairs == [first, *others, NONE, NONE][:3]


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
