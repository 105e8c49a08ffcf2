"""Edges: OpenCV's, pixel for pixel; hysteresis that reaches everything; laws of batches."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from recognizers.edges import canny, edge_maps, grayscale, hysteresis, hysteresis_reference
from recognizers.edges import otsu_threshold as otsu
from tests.conftest import clip_files

# On the clips here no pixel differs. Room for one in 10,000 is for an OpenCV that rounds its Otsu
# threshold to another level of an empty stretch of the histogram.
DIFFERENT_SHARE = 1e-4


def opencv_edges(picture: Tensor) -> np.ndarray:
    """bool (H, W): cv2's edges of uint8 (3, H, W), its thresholds set as `edge_maps` sets them."""
    cv2 = pytest.importorskip("cv2")
    gray = cv2.cvtColor(np.ascontiguousarray(picture.permute(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    high, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return cv2.Canny(gray, 0.5 * high, high) > 0


def smooth_pictures(count: int, height: int, width: int) -> Tensor:
    """uint8 (count, 3, height, width): blurred noise, so that edges are long and thin."""
    noise = torch.randn(count, 3, height // 4 + 2, width // 4 + 2)
    picture = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")
    return (picture * 60 + 128 + 4 * torch.randn(picture.shape)).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("path", clip_files())
def test_edges_of_real_frames_are_opencvs(path) -> None:
    from timevlm.video import SamplingPlan, open_video

    pytest.importorskip("cv2")
    plan = SamplingPlan(fps=1, resolution=(224, 224))
    with open_video(path, plan, batch_size=4, workers=1) as reader:
        frames = torch.cat([batch.pixels for batch in islice(reader, 1)])
    for pictures in (frames, frames[:, :, ::2, ::2]):
        expected = np.stack([opencv_edges(picture) for picture in pictures])
        assert expected.any()
        assert (edge_maps(pictures).numpy() != expected).mean() <= DIFFERENT_SHARE


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 64), (61, 47), (96, 96)])
def test_canny_is_opencvs_on_any_size_and_threshold(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    gray = smooth_pictures(1, *size)[0, 0]
    for low, high in [(0, 0), (20, 20), (30, 90), (100, 300), (1000, 3000)]:
        expected = cv2.Canny(gray.numpy(), low, high) > 0
        assert np.array_equal(canny(gray, low, high).numpy(), expected), (low, high)


def test_grey_is_opencvs_for_every_kind_of_colour() -> None:
    cv2 = pytest.importorskip("cv2")
    colors = torch.cartesian_prod(*[torch.arange(0, 256, 15)] * 3).to(torch.uint8)
    expected = cv2.cvtColor(colors[:, None].numpy(), cv2.COLOR_RGB2GRAY)
    assert np.array_equal(grayscale(colors[..., None, None])[:, 0].numpy(), expected)


def test_otsu_is_the_best_split_by_its_definition() -> None:
    gray = grayscale(smooth_pictures(3, 24, 40))
    for picture, found in zip(gray, otsu(gray), strict=True):
        values = picture.double().flatten()
        variances = []
        for level in range(256):
            lower, upper = values[values <= level], values[values > level]
            if len(lower) == 0 or len(upper) == 0:
                variances.append(0.0)
                continue
            share = len(lower) / len(values)
            variances.append(share * (1 - share) * float(lower.mean() - upper.mean()) ** 2)
        assert variances[int(found)] == pytest.approx(max(variances), rel=1e-12)


def test_otsu_of_flat_and_of_two_coloured_pictures() -> None:
    flat = torch.full((8, 8), 90, dtype=torch.uint8)
    halves = flat.clone()
    halves[4:] = 200
    assert otsu(flat) == 0
    assert otsu(halves) == 90  # the lowest of the equally good levels 90 to 199
    assert not edge_maps(flat.expand(3, 8, 8)).any()
    assert edge_maps(halves.expand(3, 8, 8)).any()


def test_hysteresis_follows_a_path_to_its_end() -> None:
    # A snake through the whole picture: 15 rows joined at alternating ends, one strong pixel.
    weak = torch.zeros(1, 29, 40, dtype=torch.bool)
    weak[:, ::2] = True
    weak[:, 1::4, -1] = weak[:, 3::4, 0] = True
    strong = torch.zeros_like(weak)
    strong[:, 0, 0] = True
    assert torch.equal(hysteresis(weak, strong), weak)
    broken = weak.clone()
    broken[:, 15, :] = False  # the path ends in the middle
    reached = hysteresis(broken, strong & broken)
    assert torch.equal(reached[:, :15], broken[:, :15])
    assert not reached[:, 16:].any()


@pytest.mark.parametrize("width", [1, 25, 64, 130])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 1.0])
def test_hysteresis_is_plain_dilation_until_nothing_changes(share: float, width: int) -> None:
    weak = torch.rand(4, 30, width) < 0.45
    strong = weak & (torch.rand(weak.shape) < share)
    assert torch.equal(hysteresis(weak, strong), hysteresis_reference(weak, strong))


def test_a_batch_is_its_pictures_one_by_one_as_bytes_and_as_floats() -> None:
    frames = smooth_pictures(6, 32, 48).view(2, 3, 3, 32, 48)
    edges = edge_maps(frames)
    assert edges.shape == (2, 3, 32, 48)
    assert edges.dtype == torch.bool
    assert 0.01 < edges.float().mean() < 0.5
    alone = torch.stack([edge_maps(frame) for frame in frames.flatten(0, 1)])
    assert torch.equal(edges.flatten(0, 1), alone)
    assert torch.equal(edge_maps(frames.float() / 255), edges)
