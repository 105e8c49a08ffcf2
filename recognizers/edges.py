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
    red, green, blue = frames.unbind(-3)
    gray = red.to(torch.int32).mul_(RED)
    gray.add_(green.to(torch.int32), alpha=GREEN).add_(blue.to(torch.int32), alpha=BLUE)
    return (gray.add_(1 << (FIXED_BITS - 1)) >> FIXED_BITS).to(torch.uint8)


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
    # The variance between classes, q (1 - q) (m1 - m2)^2 with q = count / N, times N^2.
    difference = (level_sum * num_pixels - total * count).to(torch.float64)
    weight = (count * (num_pixels - count)).to(torch.float64)
    variance = torch.where(weight > 0, difference.square() / weight.clamp(min=1.0), 0.0)
    return variance.argmax(dim=1).view(batch_shape)


def canny(gray: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Canny's edges, as cv2.Canny(gray, low, high) with its defaults finds them.

    Args:
        gray: uint8 (..., H, W).
        low: (...) or one number, at least 0; a ridge at or below it is never an edge.
        high: (...) or one number, at least `low`; a ridge above it always is one.

    Returns:
        bool (..., H, W): ridges above `high`, and those above `low` that are connected to them.
    """
    batch_shape, (height, width) = gray.shape[:-2], gray.shape[-2:]
    sobel = _framed_sobel(gray.reshape(-1, height, width))
    length = sobel[0]
    # Few pixels pass the lower threshold, so all that follows works on a list of those.
    above = (length > _per_picture(low, batch_shape, length)).view(-1).nonzero().squeeze(1)
    ridge = above[_is_ridge(sobel, above)]
    strong = (length > _per_picture(high, batch_shape, length)).view(-1)[ridge]
    edge = ridge[hysteresis(ridge, strong, length.shape)]
    edges = torch.zeros(length.shape, dtype=torch.bool, device=gray.device)
    edges.view(-1)[edge] = True
    return edges[:, 1:-1, 1:-1].reshape(*batch_shape, height, width)


def hysteresis(weak: Tensor, strong: Tensor, shape: torch.Size) -> Tensor:
    """Which weak pixels a path of weak eight-neighbours joins to a strong one.

    Dilation of the strong pixels inside the weak ones, by one pixel a round until a round adds
    none, whatever the length of the path. Only the pixels that the round before added look around
    them, so that all rounds together cost what the weak pixels number; `hysteresis_reference` is
    the dilation of whole pictures, the slow twin.

    Args:
        weak: int64 (n,), flat indices of weak pixels, strong ones among them, in a batch of
            pictures with a border of one pixel in which nothing is weak.
        strong: bool (n,), which of them are strong.
        shape: (N, H + 2, W + 2), the batch with its borders.

    Returns:
        bool (n,).
    """
    row, device = shape[2], weak.device
    around = torch.tensor([-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1], device=device)
    waiting = torch.zeros(shape.numel(), dtype=torch.bool, device=device)
    waiting[weak[~strong]] = True
    finder = torch.empty(shape.numel(), dtype=torch.int64, device=device)
    added = weak[strong]
    while added.numel():
        found = (added[:, None] + around).view(-1)
        found = found[waiting[found]]
        # Several neighbours may find one pixel: it is added for the one whose number it keeps.
        number = torch.arange(found.numel(), device=device)
        finder[found] = number
        added = found[finder[found] == number]
        waiting[added] = False
    return ~waiting[weak]


def hysteresis_reference(weak: Tensor, strong: Tensor) -> Tensor:
    """bool (N, H, W): `strong`, dilated inside `weak` until nothing changes."""
    grown = strong
    while True:
        around = torch.nn.functional.max_pool2d(grown.float(), 3, stride=1, padding=1)
        larger = (around > 0) & weak
        if torch.equal(larger, grown):
            return grown
        grown = larger


def _is_ridge(sobel: tuple[Tensor, Tensor, Tensor], where: Tensor) -> Tensor:
    """Whether the gradient length peaks across the edge, bool (n,), at flat indices `where`.

    A ridge is longer than one neighbour along the gradient and at least as long as the other
    (longer than both on diagonals): a plateau of two pixels gives one edge, not two or none.
    """
    row = sobel[0].shape[2]
    length, across, down = (values.view(-1) for values in sobel)
    dx, dy = across[where].to(torch.int32), down[where].to(torch.int32)
    steep, gentle = dy.abs() << FIXED_BITS, dx.abs()
    horizontal = steep < gentle * TAN_22
    vertical = steep > gentle * (TAN_22 + (2 << FIXED_BITS))
    # Step to the neighbour along the gradient: right, down, or one of the diagonals.
    step = torch.where((dx ^ dy) >= 0, row + 1, row - 1)
    step = torch.where(vertical, row, step)
    step = torch.where(horizontal, 1, step)
    here, before, after = length[where], length[where - step], length[where + step]
    return (here > before) & (here >= after + ~(horizontal | vertical))


def _framed_sobel(gray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|dx| + |dy|, dx and dy of uint8 gray (N, H, W), int16 (N, H + 2, W + 2).

    3x3 Sobel with the border replicated. The results have a frame of one pixel in which the
    length is 0, so that every pixel of the picture has eight neighbours.
    """
    height, width = gray.shape[1:]
    rows = torch.arange(-2, height + 2, device=gray.device).clamp(0, height - 1)
    columns = torch.arange(-2, width + 2, device=gray.device).clamp(0, width - 1)
    padded = gray.index_select(1, rows).index_select(2, columns).to(torch.int16)
    middle = padded[:, 1:-1]
    smooth = padded[:, :-2] + padded[:, 2:]
    smooth.add_(middle, alpha=2)
    across = smooth[:, :, 2:] - smooth[:, :, :-2]
    drop = padded[:, 2:] - padded[:, :-2]
    down = drop[:, :, :-2] + drop[:, :, 2:]
    down.add_(drop[:, :, 1:-1], alpha=2)
    length = across.abs().add_(down.abs())
    length[:, 0] = length[:, -1] = 0
    length[:, :, 0] = length[:, :, -1] = 0
    return length, across, down


def _per_picture(threshold: Tensor | int, batch_shape: torch.Size, like: Tensor) -> Tensor:
    """A threshold as (N or 1, 1, 1), int16 as the gradient lengths beside it."""
    threshold = torch.as_tensor(threshold, dtype=like.dtype, device=like.device)
    if threshold.ndim:
        threshold = threshold.expand(batch_shape)
    return threshold.reshape(-1, 1, 1)
