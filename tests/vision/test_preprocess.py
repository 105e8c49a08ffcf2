"""Frames to tower input: the formula, sizes, and refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from timevlm.errors import InputError
from timevlm.vision.preprocess import preprocess, resize

MEAN, STD = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)


def test_normalises_each_channel():
    pixels = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8)
    out = preprocess(pixels, (8, 6), MEAN, STD)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(out, (pixels / 255 - mean) / std, atol=1e-6, rtol=1e-6)
    assert preprocess(pixels, (8, 6), MEAN, STD, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("source", [(90, 160), (24, 24), (31, 17)])
def test_resizes_like_an_image_library(source):
    # A picture with structure; PIL's bicubic is antialiased and rounds to whole levels.
    coarse = torch.rand(1, 3, 9, 9)
    picture = F.interpolate(coarse, source, mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    ours = resize(picture, (24, 24))
    image = Image.fromarray(picture[0].permute(1, 2, 0).numpy())
    theirs = torch.from_numpy(np.array(image.resize((24, 24), Image.Resampling.BICUBIC)))
    assert ours.dtype == torch.uint8
    difference = (ours[0].permute(1, 2, 0).float() - theirs.float()).abs()
    assert difference.max() <= 4  # both round between their two passes, in another order
    assert difference.mean() < 0.5


def test_frames_of_the_right_size_are_not_touched():
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert resize(pixels, (16, 16)) is pixels


def test_no_frames_are_fine():
    out = preprocess(torch.zeros(0, 3, 40, 50, dtype=torch.uint8), (16, 16), MEAN, STD)
    assert out.shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(1, 4, 4, 3, dtype=torch.uint8),
    ],
)
def test_refuses_what_is_not_frames(pixels):
    with pytest.raises(InputError, match="give uint8 pixels"):
        preprocess(pixels, (4, 4), MEAN, STD)
