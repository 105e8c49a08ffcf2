"""Sampling plans: which frames, under every combination of fields, and what is said about caps."""

import itertools
import math

import numpy as np
import pytest

from timevlm.errors import PlanError
from timevlm.video.sampling import SamplingPlan

TIMES = np.arange(250) / 25
IRREGULAR = np.cumsum(np.resize([0.033, 0.1, 0.017, 2.0], 40)) + 0.85


def reference(times: np.ndarray, targets: np.ndarray) -> list[int]:
    """The definition, one target at a time: the last frame whose PTS is at most t."""
    chosen = []
    for target in targets:
        shown = [k for k, time in enumerate(times) if time <= target + 1e-7]
        if shown and shown[-1] not in chosen:
            chosen.append(shown[-1])
    return chosen


@pytest.mark.parametrize("times", [TIMES, IRREGULAR], ids=["regular", "irregular"])
@pytest.mark.parametrize("fps", [0.1, 1.0, 3.0, 23.976, 1000.0])
def test_fps_takes_the_frame_on_screen(times: np.ndarray, fps: float) -> None:
    end = times[-1] + 0.04
    chosen = SamplingPlan(fps=fps).select(times, end_seconds=end)
    targets = times[0] + np.arange(math.ceil((end - times[0]) * fps)) / fps
    assert chosen.tolist() == reference(times, targets[targets < end - 1e-7])


@pytest.mark.parametrize("times", [TIMES, IRREGULAR], ids=["regular", "irregular"])
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_uniform_takes_segment_midpoints(times: np.ndarray, count: int) -> None:
    end = times[-1] + 0.04
    chosen = SamplingPlan(max_frames=count).select(times, end_seconds=end)
    targets = times[0] + (np.arange(count) + 0.5) * (end - times[0]) / count
    assert chosen.tolist() == reference(times, targets)


def test_half_a_tick_of_tolerance() -> None:
    rounded = np.round(np.arange(100) / 23.976, 3)  # Matroska stores milliseconds
    chosen = SamplingPlan(fps=23.976).select(rounded, tick_seconds=1e-3)
    assert chosen.tolist() == list(range(100))


def test_every_combination_is_legal_sorted_and_capped() -> None:
    modes = ("auto", "uniform", "fps", "fps_head", "fps_then_uniform")
    ranges = ((None, None), (2.0, None), (None, 5.0), (2.0, 5.0))
    rates, caps = (None, 0.5, 4.0, 1e9), (None, 1, 5, 10**6)
    for mode, (start, end), fps, cap in itertools.product(modes, ranges, rates, caps):
        plan = SamplingPlan(mode=mode, start=start, end=end, fps=fps, max_frames=cap)
        chosen = plan.resolve(TIMES)
        assert chosen.indices.dtype == np.int64
        assert np.all(np.diff(chosen.indices) > 0)
        assert 1 <= chosen.indices.size <= (cap or TIMES.size)
        seconds = TIMES[chosen.indices]
        assert seconds[0] >= (start or 0.0) - 1e-9
        assert seconds[-1] < (end or 10.0)
        assert "\n" not in plan.describe(TIMES)


def test_caps_thin_or_cut_and_say_so() -> None:
    uncapped = SamplingPlan(fps=2, max_frames=20)
    assert uncapped.resolve(TIMES).capped is None
    head = SamplingPlan(fps=2, max_frames=4, mode="fps_head")
    assert TIMES[head.select(TIMES)].tolist() == [0.0, 0.48, 1.0, 1.48]
    assert "first 4 of 20 frames, cut at 2.000 s" in head.describe(TIMES)
    spread = SamplingPlan(fps=2, max_frames=4)
    assert spread.select(TIMES).tolist() == SamplingPlan(max_frames=4).select(TIMES).tolist()
    assert "20 frames thinned to 4, evenly spread" in spread.describe(TIMES)
    strided = SamplingPlan(fps=2, max_frames=6, mode="fps")
    assert TIMES[strided.select(TIMES)].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert "every 4th" in strided.describe(TIMES)
    slow = SamplingPlan(fps=0.3, max_frames=64, mode="uniform")
    assert slow.select(TIMES).size == 3


def test_the_range_is_clipped_to_the_video() -> None:
    times = TIMES + 0.85
    whole = SamplingPlan(fps=1).select(times)
    assert SamplingPlan(fps=1, start=0, end=99).select(times).tolist() == whole.tolist()
    # A frame that is on screen when the range starts belongs to it.
    assert times[SamplingPlan(start=5.0, end=5.05).select(times)][0] == pytest.approx(4.97)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": 5.0, "end": 5.0}, "end=5 s is not after start=5 s"),
        ({"start": 5.0, "end": 2.0}, "end=2 s is not after start=5 s"),
        ({"start": math.nan}, "start=nan is not a time"),
        ({"end": math.inf}, "end=inf is not a time"),
        ({"fps": 0.0}, "fps=0.0 is not a frame rate"),
        ({"fps": -1.0}, "fps=-1.0 is not a frame rate"),
        ({"fps": math.inf}, "fps=inf is not a frame rate"),
        ({"fps": math.nan}, "fps=nan is not a frame rate"),
        ({"max_frames": 0}, "max_frames=0 leaves nothing"),
        ({"mode": "keyframes"}, "unknown sampling mode 'keyframes': use one of auto, uniform"),
        ({"resolution": (0, 5)}, "is not \\(height, width\\)"),
        ({"resolution": (5,)}, "is not \\(height, width\\)"),
    ],
)
def test_contradictions_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        SamplingPlan(**fields)


@pytest.mark.parametrize("fields", [{"start": 10.0}, {"start": 50.0}, {"end": 0.0}, {"end": -3.0}])
def test_nothing_in_the_range_names_the_videos_own(fields: dict) -> None:
    with pytest.raises(PlanError, match=r"the video runs from 0\.000 to 10\.000 s"):
        SamplingPlan(**fields).select(TIMES)


def test_a_single_frame_is_found() -> None:
    assert SamplingPlan(fps=1).select(np.asarray([0.5])).tolist() == [0]
    assert SamplingPlan(max_frames=8).select(np.asarray([0.5])).tolist() == [0]
    with pytest.raises(PlanError, match="no frames"):
        SamplingPlan().select(np.empty(0))


def test_round_trip_as_a_dictionary() -> None:
    plan = SamplingPlan(start=1.0, fps=2.0, max_frames=3, mode="fps", resolution=(224, 160))
    assert SamplingPlan.from_dict(plan.to_dict()) == plan
    assert plan.to_dict()["resolution"] == [224, 160]
    with pytest.raises(PlanError, match="unknown plan fields frames"):
        SamplingPlan.from_dict({"frames": 3})
