"""What goes into a batch: levels, lengths, and the share of long videos."""

import pytest
import torch

from timevlm.errors import InputError
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.spec import VideoSpec
from timevlm.training.batches import SHORT_FRAMES, BatchConfig, sample_videos
from timevlm.training.loop import CURRICULUM, WHOLE_AFTER, curriculum_config


@pytest.mark.parametrize(("level", "kind"), [("basic", VideoSpec), ("full", FullVideo)])
@pytest.mark.parametrize("max_frames", [20, SHORT_FRAMES])
def test_frames_cover_the_whole_video_whatever_their_number(level, kind, max_frames):
    config = BatchConfig(level=level, num_videos=30, max_frames=max_frames)
    for sample in sample_videos(config, 0):
        assert type(sample.spec) is kind
        assert len(sample.seconds) <= max_frames
        gap = float(sample.seconds[1:].diff().max())
        assert sample.seconds[0] == 0.0
        assert sample.spec.duration_seconds - float(sample.seconds[-1]) <= gap + 0.05


@pytest.mark.parametrize("level", ["basic", "full"])
def test_a_share_of_the_videos_is_long(level):
    config = BatchConfig(level=level, num_videos=12, max_frames=160, long_share=0.5)
    samples = sample_videos(config, 1)
    long = [s for s in samples if s.spec.duration_seconds > 70]
    assert 2 <= len(long) <= 10
    for sample in samples:
        assert len(sample.seconds) <= 160
    for sample in long:
        assert torch.equal(sample.seconds, torch.arange(len(sample.seconds)).double())
    assert [s.spec for s in sample_videos(config, 1)] == [s.spec for s in samples]


@pytest.mark.parametrize("level", ["basic", "full"])
def test_a_share_of_the_videos_is_cut_down_to_one_scene(level):
    whole = sample_videos(BatchConfig(level=level, num_videos=24), 1)
    assert min(len(s.spec.scenes) for s in whole) > 1
    cut = sample_videos(BatchConfig(level=level, num_videos=24, single_scene_share=0.5), 1)
    assert 6 <= sum(len(s.spec.scenes) == 1 for s in cut) <= 18
    assert {len(s.spec.scenes) for s in cut} > {1, 2}


@pytest.mark.parametrize("long_share", [0.0, 1.0])
def test_a_share_of_the_videos_is_read_at_any_rate(long_share):
    even = BatchConfig(num_videos=20, max_frames=160, long_share=long_share)
    odd = BatchConfig(num_videos=20, max_frames=160, long_share=long_share, odd_rate_share=0.5)
    gaps = []
    for config in (even, odd):
        samples = sample_videos(config, 1)
        assert all(len(s.seconds) <= 160 for s in samples)
        gaps.append([round(float(s.seconds[1] - s.seconds[0]), 6) for s in samples])
    usual = {0.48, 0.5, 1.0, 2.0}  # one is stretched to end with the video
    assert set(gaps[0]) <= usual
    unusual = [gap for gap in gaps[1] if gap not in usual]
    assert 4 <= len(unusual) <= 16
    assert all(0.5 <= gap <= 2.5 for gap in unusual)


def test_videos_grow_from_single_scenes_to_long_ones():
    batches = BatchConfig(num_videos=4, max_frames=512)
    shares = [i / 200 for i in range(201)]
    chosen = [curriculum_config(batches, share) for share in shares]
    scenes = [9 if c.max_scenes is None else c.max_scenes for c in chosen]
    assert scenes == sorted(scenes)
    assert set(scenes) == {1, 2, 3, 9}
    whole = [c.max_frames for c, s in zip(chosen, shares, strict=True) if s >= CURRICULUM[-1][0]]
    assert whole == sorted(whole)
    assert set(whole) == {64, 128, 256, 512}
    assert curriculum_config(batches, WHOLE_AFTER).max_frames == 512
    assert curriculum_config(batches, 0.0, ()) == batches
    short = BatchConfig(num_videos=4)
    assert curriculum_config(short, 0.7) == short


def test_eventful_videos_have_more_colours_that_turn_pairs_and_crowds():
    def events(share: float) -> list[tuple[int, int, int]]:
        config = BatchConfig(level="full", num_videos=80, eventful_share=share)
        return [
            (
                sum(item.changes for item in scene.objects),
                scene.pair is not None,
                len(scene.objects) > 2,
            )
            for sample in sample_videos(config, 0)
            for scene in sample.spec.scenes
        ]

    usual, eventful = events(0.0), events(1.0)
    for few, many in zip(zip(*usual, strict=True), zip(*eventful, strict=True), strict=True):
        assert sum(many) / len(many) > 1.2 * sum(few) / len(few)
    assert events(1.0) == eventful


@pytest.mark.parametrize(
    "changes",
    [
        {"level": "fuller"},
        {"num_videos": 0},
        {"long_share": 1.5},
        {"single_scene_share": -0.1},
        {"odd_rate_share": 2},
        {"level": "full", "footage_share": -0.5},
        {"level": "full", "eventful_share": 1.5},
        {"eventful_share": 0.5},
        {"max_frames": 0},
        {"frame_rates": ()},
        {"frame_rates": (1.0, 0.0)},
        {"kind_weights": {"scene.nth": 0.0}},
        {"length_power": 1.5},
    ],
)
def test_impossible_batches_are_refused(changes):
    with pytest.raises(InputError):
        BatchConfig(**changes)
