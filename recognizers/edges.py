"""Edge images: Canny's detector with Otsu's threshold, batched, on any device.

LCR reads a video's outlines beside its pictures (arXiv 2411.05636, edge prompt). Two algorithms
make them: Otsu's (IEEE Trans. SMC 9, 1979) picks the grey level that splits a picture's histogram
best, and Canny's (IEEE Trans. PAMI 8, 1986) keeps the ridges of the gradient above that level and
whatever hangs together with them.

Every step is the one that OpenCV takes, in integers, so that a model sees the same edges here as in
a pipeline built on cv2: grey by fixed-point weights, 3x3 Sobel with a replicated border, gradient
length |dx| + |dy|, four directions split at tan 22.5 in 15-bit fixed point, and hysteresis over
eight neighbours. Nothing here has a gradient: an edge map is a function of the pixels alone, so it
is the same however a stream is cut.
"""

import torch
from torch import Tensor

# Fixed-point weights of red, green and blue in 15 bits; they add up to 1 << 15 (ITU-R BT.601).
RED, GREEN, BLUE = 9798, 19235, 3735
# tan(22.5 degrees) in 15 bits; tan(67.5 degrees) is that plus 2.
TAN_22 = 13573
FIXED_BITS = 15
NUM_LEVELS = 256
# Dilations between two looks at whether anything changed: a look waits for the device.
DILATIONS_PER_CHECK = 8
# The lower threshold as a share of Otsu's, which is the upper one.
LOW_SHARE = 0.5


def edge_maps(frames: Tensor, low_share: float = LOW_SHARE) -> Tensor:
    """Edges of every picture: Canny between `low_share` of Otsu's threshold and the threshold.

    Args:
        frames: (..., 3, H, W), uint8 or float in [0, 1], RGB.
        low_share: lower threshold as a share of the upper one, in [0, 1].

    Returns:
        bool (..., H, W), True on edges.
    """
    gray = grayscale(frames)
    high = otsu_threshold(gray)
    low = (high * low_share).floor().to(torch.int64)
    return canny(gray, low, high)


def grayscale(frames: Tensor) -> Tensor:
    """uint8 (..., H, W): the grey of frames (..., 3, H, W), uint8 or float in [0, 1], RGB."""
    if frames.dtype.is_floating_point:
        frames = (frames.float() * 255.0).round_().clamp_(0.0, 255.0)
    red, green, blue = frames.to(torch.int32).unbind(-3)
    half = 1 << (FIXED_BITS - 1)
    return ((red * RED + green * GREEN + blue * BLUE + half) >> FIXED_BITS).to(torch.uint8)


def otsu_threshold(gray: Tensor) -> Tensor:
    """int64 (...): for uint8 gray (..., H, W), the level t that splits it best into <= t and > t.

    Best is the largest variance between the two classes; of equal ones the lowest level. A flat
    picture gives 0. Where the best split falls into a gap of the histogram every level of the gap
    is equally good, and a program that rounds on the way (OpenCV) may name another of them.
    """
    batch_shape, num_pixels = gray.shape[:-2], gray.shape[-2] * gray.shape[-1]
    flat = gray.reshape(-1, num_pixels).to(torch.int64)
    num_pictures = flat.shape[0]
    offsets = torch.arange(num_pictures, device=gray.device)[:, None] * NUM_LEVELS
    histogram = torch.bincount((flat + offsets).view(-1), minlength=num_pictures * NUM_LEVELS)
    histogram = histogram.view(num_pictures, NUM_LEVELS)
    levels = torch.arange(NUM_LEVELS, device=gray.device)
    count = histogram.cumsum(1)  # exact: integers until the one division below
    level_sum = (histogram * levels).cumsum(1)
    total = level_sum[:, -1:]
    # With q = count / N and class means m1, m2: q (1 - q) (m1 - m2)^2 = difference^2 / weight / N^2.
    difference = (level_sum * num_pixels - total * count).to(torch.float64)
    weight = (count * (num_pixels - count)).to(torch.float64)
    variance = torch.where(weight > 0, difference.square() / weight.clamp(min=1.0), 0.0)
    return variance.argmax(dim=1).view(batch_shape)


def canny(gray: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Canny's edges, as cv2.Canny(gray, low, high) with its defaults finds them.

    Args:
        gray: uint8 (..., H, W).
        low: (...) or one number; a ridge at or below it is never an edge.
        high: (...) or one number, at least `low`; a ridge above it always is one.

    Returns:
        bool (..., H, W): ridges above `high`, and those above `low` that are connected to them.
    """
    batch_shape, (height, width) = gray.shape[:-2], gray.shape[-2:]
    length, ridge = _gradient_ridges(gray.reshape(-1, height, width))
    weak = ridge & (length > _per_picture(low, batch_shape, length))
    strong = weak & (length > _per_picture(high, batch_shape, length))
    return hysteresis(weak, strong).view(*batch_shape, height, width)


def hysteresis(weak: Tensor, strong: Tensor) -> Tensor:
    """The pixels of `weak` that a path of eight-neighbours inside `weak` joins to `strong`.

    Complete, whatever the length of the path: `strong` grows by one pixel a round until a round
    changes nothing. Args and result: bool (N, H, W); `strong` is a part of `weak`.
    """
    num_pictures, height, width = weak.shape
    # One row and column of border, so that a round is shifts and bit operations on whole batches.
    bordered = torch.zeros(
        num_pictures, height + 2, width + 2, dtype=torch.uint8, device=weak.device
    )
    grown = bordered[:, 1:-1, 1:-1]
    grown.copy_(strong)
    allowed = weak.to(torch.uint8)
    while True:
        before = grown.clone()
        for _ in range(DILATIONS_PER_CHECK):
            column = bordered[:, :-2] | bordered[:, 1:-1]
            column |= bordered[:, 2:]
            block = column[:, :, :-2] | column[:, :, 1:-1]
            block |= column[:, :, 2:]
            torch.bitwise_and(block, allowed, out=grown)
        if torch.equal(grown, before):
            return before.bool()


def _gradient_ridges(gray: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient length int16 (N, H, W) of uint8 gray (N, H, W), and where it peaks across an edge.

    A ridge is longer than one neighbour along the gradient and at least as long as the other
    (longer than both on diagonals): a plateau of two pixels gives one edge, not two or none.
    """
    length, across, down = _sobel(gray)
    framed = torch.nn.functional.pad(length, (1, 1, 1, 1))
    centre, first, last = slice(1, -1), slice(None, -2), slice(2, None)
    steep = down.abs().to(torch.int32) << FIXED_BITS
    gentle = across.abs().to(torch.int32)
    horizontal = steep < gentle * TAN_22
    vertical = steep > gentle * (TAN_22 + (2 << FIXED_BITS))
    diagonal = ~(horizontal | vertical)
    falling = (across ^ down) >= 0  # both derivatives of one sign: from top left to bottom right

    def along(rows: slice, columns: slice) -> Tensor:
        return framed[:, rows, columns]

    before = torch.where(falling, along(first, first), along(first, last))
    after = torch.where(falling, along(last, last), along(last, first))
    before = torch.where(vertical, along(first, centre), before)
    after = torch.where(vertical, along(last, centre), after)
    before = torch.where(horizontal, along(centre, first), before)
    after = torch.where(horizontal, along(centre, last), after)
    return length, (length > before) & (length >= after + diagonal)


def _sobel(gray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|dx| + |dy|, dx and dy, int16 (N, H, W), of 3x3 Sobel with the border replicated."""
    rows = torch.arange(-1, gray.shape[1] + 1, device=gray.device).clamp(0, gray.shape[1] - 1)
    columns = torch.arange(-1, gray.shape[2] + 1, device=gray.device).clamp(0, gray.shape[2] - 1)
    padded = gray.index_select(1, rows).index_select(2, columns).to(torch.int16)
    middle = padded[:, 1:-1]
    smooth = padded[:, :-2] + padded[:, 2:] + middle + middle
    across = smooth[:, :, 2:] - smooth[:, :, :-2]
    drop = padded[:, 2:] - padded[:, :-2]
    middle = drop[:, :, 1:-1]
    down = drop[:, :, :-2] + drop[:, :, 2:] + middle + middle
    return across.abs() + down.abs(), across, down


def _per_picture(threshold: Tensor | int, batch_shape: torch.Size, like: Tensor) -> Tensor:
    """A threshold as (N or 1, 1, 1) beside the gradient lengths."""
    threshold = torch.as_tensor(threshold, device=like.device)
    if threshold.ndim:
        threshold = threshold.expand(batch_shape)
    return threshold.reshape(-1, 1, 1)
