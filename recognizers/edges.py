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

All of it runs on whole pictures, in narrow integers. On a CPU a comparison, a choice between two
tensors and a list of the True pixels each cost ten times a subtraction, so conditions are kept as
signs: what is negative holds, and the AND of two numbers is negative where both are. Hysteresis,
which takes many rounds, grows eight pictures at once, each in a bit of its own.
"""

import torch
import torch.nn.functional as F
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
    flat = gray.reshape(-1, num_pixels).to(torch.int32)
    num_pictures = flat.shape[0]
    offsets = torch.arange(num_pictures, device=gray.device, dtype=torch.int32) * NUM_LEVELS
    flat.add_(offsets[:, None])
    histogram = torch.bincount(flat.view(-1), minlength=num_pictures * NUM_LEVELS)
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
    batch_shape, size = gray.shape[:-2], gray.shape[-2:]
    length, across, down = _sobel(gray.reshape(-1, *size))
    here = length[:, 1:-1, 1:-1]
    ridge = _ridge_sign(length, across, down)
    weak = ridge & (_per_picture(low, batch_shape, length) - here)
    strong = weak & (_per_picture(high, batch_shape, length) - here)
    return hysteresis(weak < 0, strong < 0).view(*batch_shape, *size)


def hysteresis(weak: Tensor, strong: Tensor) -> Tensor:
    """Which weak pixels a path of weak eight-neighbours joins to a strong one.

    Dilation of the strong pixels inside the weak ones, by one pixel a round until a round adds
    none, whatever the length of the path; eight pictures at a time, one in each bit.
    `hysteresis_reference` is the slow twin.

    Args:
        weak: bool (N, H, W), strong pixels among them.
        strong: bool (N, H, W).

    Returns:
        bool (N, H, W).
    """
    # A column and a row of padding end each row and picture, so that all are one line in which
    # neighbours in a column lie `line` apart.
    size, line = weak.shape, weak.shape[2] + 1
    allowed, grown = _pack(weak), _pack(strong)
    row, larger = torch.empty_like(grown), torch.empty_like(grown)
    while True:
        row.copy_(grown)
        row[1:].bitwise_or_(grown[:-1])
        row[:-1].bitwise_or_(grown[1:])
        larger.copy_(row)
        larger[line:].bitwise_or_(row[:-line])
        larger[:-line].bitwise_or_(row[line:])
        larger.bitwise_and_(allowed)
        if torch.equal(larger, grown):
            return _unpack(grown, size)
        grown, larger = larger, grown


def hysteresis_reference(weak: Tensor, strong: Tensor) -> Tensor:
    """bool (N, H, W): `strong`, dilated inside `weak` until nothing changes."""
    grown = strong
    while True:
        around = F.max_pool2d(grown.float(), 3, stride=1, padding=1)
        larger = (around > 0) & weak
        if torch.equal(larger, grown):
            return grown
        grown = larger


def _pack(masks: Tensor) -> Tensor:
    """bool (N, H, W) as one line of uint8: eight masks in its bits, H + 1 rows of W + 1 each."""
    count, height, width = masks.shape
    packed = masks.new_zeros(-(-count // 8), height + 1, width + 1, dtype=torch.uint8)
    for bit in range(min(8, count)):
        some = masks[bit::8]
        packed[: len(some), :-1, :-1] |= some.to(torch.uint8) << bit
    return packed.view(-1)


def _unpack(packed: Tensor, size: torch.Size) -> Tensor:
    """bool of `size` of what `_pack` made."""
    masks = torch.empty(size, dtype=torch.bool, device=packed.device)
    packed = packed.view(-1, size[1] + 1, size[2] + 1)[:, :-1, :-1]
    for bit in range(min(8, size[0])):
        some = masks[bit::8]
        some.copy_((packed[: len(some)] >> bit) & 1)
    return masks


def _ridge_sign(length: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Negative where the gradient length peaks across the edge, int16 (N, H, W).

    A ridge is longer than one neighbour along the gradient and at least as long as the other
    (longer than both on diagonals): a plateau of two pixels gives one edge, not two or none.
    `length` has a frame of one pixel around the others.
    """
    here = length[:, 1:-1, 1:-1]
    # Masks, all ones or all zeros. The gradient points right, down, or along one of the diagonals:
    # `falling` from above left to below right, or the other one.
    steep = down.abs().to(torch.int32).bitwise_left_shift_(FIXED_BITS)
    gentle = across.abs().to(torch.int32)
    horizontal = (steep - gentle * TAN_22).bitwise_right_shift_(31).to(torch.int16)
    gentle.mul_(TAN_22 + (2 << FIXED_BITS)).sub_(steep)
    vertical = gentle.bitwise_right_shift_(31).to(torch.int16)
    opposed = (across ^ down).bitwise_right_shift_(15)
    found = (length[:, :-2, :-2] - here).bitwise_and_(length[:, 2:, 2:] - here)
    rising = (length[:, :-2, 2:] - here).bitwise_and_(length[:, 2:, :-2] - here)
    # Both are chosen from by exclusive or: a ^ ((a ^ b) & mask) is b under the mask, a elsewhere.
    for mask, other in (
        (opposed, rising),
        (vertical, (length[:, :-2, 1:-1] - here) & (length[:, 2:, 1:-1] - here).sub_(1)),
        (horizontal, (length[:, 1:-1, :-2] - here) & (length[:, 1:-1, 2:] - here).sub_(1)),
    ):
        found ^= other.bitwise_xor_(found).bitwise_and_(mask)
    return found


def _sobel(gray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|dx| + |dy|, (N, H + 2, W + 2), and dx and dy, (N, H, W), of uint8 gray; int16.

    3x3 Sobel with the border replicated. The length has a frame of zeros, so that every pixel of
    the picture has eight neighbours.
    """
    num_pictures, height, width = gray.shape
    padded = gray.new_empty(num_pictures, height + 2, width + 2, dtype=torch.int16)
    padded[:, 1:-1, 1:-1] = gray
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = gray[:, 0], gray[:, -1]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    smooth = padded[:, :-2] + padded[:, 2:]
    smooth.add_(padded[:, 1:-1], alpha=2)
    across = smooth[:, :, 2:] - smooth[:, :, :-2]
    drop = padded[:, 2:] - padded[:, :-2]
    down = drop[:, :, :-2] + drop[:, :, 2:]
    down.add_(drop[:, :, 1:-1], alpha=2)
    return F.pad(across.abs().add_(down.abs()), (1, 1, 1, 1)), across, down


def _per_picture(threshold: Tensor | int, batch_shape: torch.Size, like: Tensor) -> Tensor:
    """A threshold as (N or 1, 1, 1), int16 as the gradient lengths beside it."""
    threshold = torch.as_tensor(threshold, dtype=like.dtype, device=like.device)
    if threshold.ndim:
        threshold = threshold.expand(batch_shape)
    return threshold.reshape(-1, 1, 1)
