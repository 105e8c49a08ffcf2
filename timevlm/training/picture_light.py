"""What the light of a video does from its beginning to its end, measured in its frames."""

from torch import Tensor

from timevlm.synth.full.palette import LIGHT_CHANGES, LIGHT_STEADY

LIGHT_CHOICES = (LIGHT_CHANGES["brighter"], LIGHT_CHANGES["darker"], LIGHT_STEADY)
# The light of the last seconds beside that of the first: it changed if the ratio and the difference
# (levels of 0..255) are at least this.
MIN_LIGHT_RATIO = 1.25
MIN_LIGHT_LEVELS = 10.0
LIGHT_SECONDS = 1.5


def light_change(pixels: Tensor, seconds: Tensor) -> str:
    """One of `LIGHT_CHOICES`, from the mean levels of the first and the last 1.5 seconds."""
    first = float(pixels[seconds <= seconds[0] + LIGHT_SECONDS].float().mean())
    last = float(pixels[seconds >= seconds[-1] - LIGHT_SECONDS].float().mean())
    high, low = max(first, last), min(first, last)
    brighter, darker, steady = LIGHT_CHOICES
    if high < MIN_LIGHT_RATIO * low or high - low < MIN_LIGHT_LEVELS:
        return steady
    return brighter if last > first else darker
