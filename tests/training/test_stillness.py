"""When nothing moves: spans against the raw specs, and labels of frames against the spans."""

from itertools import pairwise

import pytest
import torch

from timevlm.synth.full.footage import FootageVideo, sample_footage
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.batches import VideoSample
from timevlm.training.kinds import FULL
from timevlm.training.labels import patch_labels
from timevlm.training.stillness import (
    MOVING,
    OPEN,
    STILL,
    still_labels,
    still_on_frames,
    still_spans,
)
from timevlm.training.tracks import track_targets

VIDEOS = [sample_footage(seed, "train") for seed in range(40)]
VIDEOS += [sample_video(seed, level="full") for seed in range(40)]


def busy_spans(spec):
    """When objects, drifters, cameras and lights are known to move."""
    for scene in spec.scenes:
        for part in (scene.camera, scene.light):
            if part is not None:
                yield part.start_seconds, part.end_seconds
        for item in scene.objects:
            if item.motion != "still":
                yield item.motion_start_seconds, item.motion_end_seconds
        if isinstance(spec, FootageVideo):
            for drifter in scene.drifters:
                yield drifter.start_seconds, drifter.end_seconds


def test_nothing_moves_in_still_spans():
    seen = {True: 0, False: 0}
    for spec in VIDEOS:
        is_footage = isinstance(spec, FootageVideo)
        spans = still_spans(spec)
        if spans is None:
            assert is_footage
            assert any(shot.tremble for shot in spec.scenes)
            continue
        for start, end in spans:
            seen[is_footage] += 1
            assert all(end <= begin or start >= finish for begin, finish in busy_spans(spec))
    assert min(seen.values()) > 10


def test_frames_are_labelled_by_the_spans_and_nothing_is_said_of_what_is_open():
    counts = {STILL: 0, MOVING: 0, OPEN: 0}
    for spec in VIDEOS:
        seconds = frame_seconds(spec, 1.0)
        spans, labels = still_spans(spec), still_labels(spec, seconds).tolist()
        assert labels[0] == OPEN  # one picture shows no rest
        for (before, now), label in zip(pairwise(seconds.tolist()), labels[1:], strict=True):
            counts[label] += 1
            if spans is None:
                assert label == OPEN
            else:
                assert (label == STILL) == any(s <= before and now <= e for s, e in spans)
    assert min(counts.values()) > 50


def test_answers_tell_whole_intervals_between_frames():
    frames = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    for spans, shown in (
        ([(0.0, 3.0)], [(0.0, 3.0)]),
        ([(0.5, 3.5)], [(1.0, 3.0)]),
        ([(0.5, 2.4)], [(1.0, 3.0)]),  # of one interval alone its second frame is told as well
        ([(3.6, 5.5)], [(4.0, 5.5)]),  # what the last frame begins lasts as long as the video
        ([(0.0, 1.2), (3.0, 5.0)], [(0.0, 2.0), (3.0, 5.5)]),
        ([(0.2, 1.8)], [(0.2, 1.8)]),  # too short for two frames: as it is
        ([], []),
    ):
        assert still_on_frames(spans, frames, 5.5) == shown
    assert still_on_frames([(0.0, 0.5)], [0.0], 0.5) == [(0.0, 0.5)]


def test_answers_do_not_hang_on_when_a_clock_starts():
    """Adding 712.3 to tenths of a second and taking it away again leaves some a hair off."""
    frames, spans = [t / 10 for t in range(200)], [(1.3, 4.1), (6.7, 7.9), (9.2, 20.0)]
    for shift in (0.1, 100.7, 712.3, 9_999.9):
        late = [(t + shift) - shift for t in frames]
        told = still_on_frames(spans, late, 20.0)
        for span, expected in zip(told, still_on_frames(spans, frames, 20.0), strict=True):
            assert span == pytest.approx(expected)


def test_answers_are_what_labels_of_frames_say():
    told = 0
    for spec in VIDEOS:
        spans, seconds = still_spans(spec), frame_seconds(spec, 1.0)
        labels = still_labels(spec, seconds).tolist()
        if not spans or STILL not in labels:
            continue
        shown = still_on_frames(spans, seconds.tolist(), spec.duration_seconds)
        told += len(shown)
        for frame, label in enumerate(labels[1:]):
            inside = any(a <= seconds[frame] and seconds[frame + 1] <= b for a, b in shown)
            alone = STILL in labels[frame : frame + 1]  # an interval alone takes in one more
            assert inside if label == STILL else (not inside or alone)
    assert told > 30


def test_targets_say_so_and_leave_open_frames_without_a_lesson():
    last = sum(FULL.track_sizes)
    for spec in VIDEOS[:10]:
        sample = VideoSample(spec=spec, seconds=frame_seconds(spec, 1.0), shift=0.0)
        labels = patch_labels([sample], 2, outline=False)
        targets = track_targets(labels, FULL)[..., last - 2 : last]
        expected = {
            STILL: torch.tensor([1.0, 0.0]),
            MOVING: torch.tensor([0.0, 1.0]),
            OPEN: torch.tensor([0.0, 0.0]),
        }
        for frame, label in enumerate(labels.stills.tolist()):
            assert torch.equal(targets[frame], expected[label].expand(4, 2))
