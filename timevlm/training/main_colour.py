"""The main colour of a picture: measured in the pixels of real footage, known of a made-up video.

No question of level "full" is about it, so that its benchmark stays as it is; training asks for it
besides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from timevlm.synth.full.spec import FullScene

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "grey")
WORDINGS = (
    "What is the main colour of the video?",
    "Which colour covers most of the picture?",
    "What colour is the picture for the most part?",
    "What is the main colour of the picture?",
    "Which colour does the video show most?",
    "What colour is most of the video?",
)
AT_WORDINGS = (
    "What is the main colour of the picture at {time}?",
    "Which colour covers most of the picture at {time}?",
    "What colour is most of the picture at {time}?",
)
MIN_SHARE = 0.6  # of a made-up video's background that has one colour, for it to be the main one

# Degrees of hue at which a colour begins; red goes on after pink.
_HUES = (
    (0.0, "red"),
    (18.0, "orange"),
    (45.0, "yellow"),
    (70.0, "green"),
    (170.0, "blue"),
    (260.0, "purple"),
    (300.0, "pink"),
    (340.0, "red"),
)


def colour_index(rgb: Tensor) -> Tensor:
    """Which of `COLOURS` each colour `(..., 3)` of levels 0 to 1 is called: int64 (...)."""
    high, argmax = rgb.max(dim=-1)
    low = rgb.amin(dim=-1)
    spread = (high - low).clamp(min=1e-6)
    red, green, blue = rgb.unbind(dim=-1)
    sectors = torch.stack(
        [(green - blue) / spread % 6, (blue - red) / spread + 2, (red - green) / spread + 4]
    )
    hue = 60 * sectors.gather(0, argmax[None])[0]
    starts = torch.tensor([start for start, _ in _HUES])
    places = torch.tensor([COLOURS.index(name) for _, name in _HUES])
    index = places[torch.bucketize(hue, starts, right=True) - 1]
    is_plain = (high - low) < 0.2 * high.clamp(min=0.25)
    index = torch.where(is_plain, COLOURS.index("grey"), index)
    index = torch.where(is_plain & (high > 0.8), COLOURS.index("white"), index)
    return torch.where(high < 0.2, COLOURS.index("black"), index)


def main_colour(pixels: Tensor) -> str:
    """The colour that most pixels of uint8 frames (N, 3, H, W) have, out of `COLOURS`."""
    sample = pixels[:: max(1, len(pixels) // 32), :, ::4, ::4].float() / 255
    index = colour_index(sample.movedim(1, -1))
    return COLOURS[int(torch.bincount(index.flatten(), minlength=len(COLOURS)).argmax())]


def background_colour(scenes: Sequence[FullScene]) -> str | None:
    """The main colour of made-up scenes' backgrounds; None where no colour is the main one."""
    ends, seconds = [], []
    for scene in scenes:
        ground = scene.background
        second = ground.rgb if ground.kind == "flat" else ground.second_rgb
        lit = torch.tensor([ground.rgb, second]) * scene.brightness / 255
        ends.append(lit.clamp(max=1.0))
        seconds += [scene.end_seconds - scene.start_seconds] * 2
    share = torch.zeros(len(COLOURS)).index_add_(
        0, colour_index(torch.cat(ends)), torch.tensor(seconds)
    )
    share = share / share.sum()
    best = int(share.argmax())
    return COLOURS[best] if float(share[best]) >= MIN_SHARE else None
