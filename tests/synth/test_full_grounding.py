import dataclasses
import itertools
import string

import pytest
import torch

from tests.synth.full_answers import SPECS, TESTS
from timevlm.synth.captions import make_captions
from timevlm.synth.full.captions import make_summary
from timevlm.synth.full.grounding import FINDERS
from timevlm.synth.full.palette import CAMERA_MOVES, MOTIONS, TRANSITIONS
from timevlm.synth.full.timeline import FullTimeline
from timevlm.synth.full.wording import GROUNDING_WORDINGS
from timevlm.synth.grounding import make_grounding
from timevlm.synth.render import render_frames
from timevlm.synth.wording import vocabulary_texts
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.tasks.captioning import format_captions, parse_captions
from timevlm.training.nano import build_processor
from timevlm.training.turns import make_turns

QUERIES = [(spec, q) for spec in (*SPECS, *TESTS) for q in make_grounding(spec, 2, limit=8)]


def _of(kind):
    found = [(spec, query) for spec, query in QUERIES if query.kind == kind]
    assert found
    return found


def test_every_kind_is_found_and_its_spans_are_sorted_apart_and_inside():
    assert {query.kind for _, query in QUERIES} == set(GROUNDING_WORDINGS) == set(FINDERS)
    for spec, query in QUERIES:
        edges = [second for span in query.spans for second in span]
        assert query.spans
        assert edges == sorted(set(edges))
        assert 0.0 <= edges[0] < edges[-1] <= spec.duration_seconds


def test_one_seed_gives_the_same_queries():
    assert make_grounding(SPECS[0], 5) == make_grounding(SPECS[0], 5)
    assert len({query.text for query in make_grounding(SPECS[0], 5)}) > 1


def _merged(spans):
    result = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def test_objects_and_shapes():
    for spec, query in _of("shape"):
        shape = next(s for s in query.text.replace(".", "").split() if s in _shapes(spec))
        spans = [
            (item.appear_seconds, item.vanish_seconds)
            for scene in spec.scenes
            for item in scene.objects
            if item.shape == shape
        ]
        assert query.spans == _merged(spans)


def _shapes(spec):
    return {item.shape for scene in spec.scenes for item in scene.objects}


def test_anything_that_moves_in_a_way():
    for spec, query in _of("any_motion"):
        said = [m for m, w in MOTIONS.items() if w.does in query.text or w.doing in query.text]
        motion = max(said, key=lambda name: len(MOTIONS[name].does))
        spans = [
            (item.motion_start_seconds, item.motion_end_seconds)
            for scene in spec.scenes
            for item in scene.objects
            if item.motion == motion
        ]
        assert query.spans == _merged(spans)


def test_cameras_transitions_and_texts():
    for spec, query in _of("camera"):
        kinds = [
            k for k, w in CAMERA_MOVES.items() if w.does in query.text or w.doing in query.text
        ]
        moves = [s.camera for s in spec.scenes if s.camera and s.camera.kind in kinds]
        assert query.spans == _merged([(m.start_seconds, m.end_seconds) for m in moves])
    for spec, query in _of("transition"):
        kind = next(k for k, noun in TRANSITIONS.items() if noun in query.text)
        ends = [s for s in spec.scenes if s.transition_kind == kind]
        for scene, (start, end) in zip(ends, query.spans, strict=False):
            assert start < scene.end_seconds <= end
        assert len(query.spans) == len(ends)
    for spec, query in _of("text"):
        shown = [s.overlay for s in spec.scenes if s.overlay and s.overlay.text in query.text]
        assert query.spans == tuple((o.start_seconds, o.end_seconds) for o in shown)


@pytest.mark.parametrize("seed", range(6))
def test_where_nothing_moves_pictures_are_equal_and_elsewhere_they_are_not(seed):
    spec = sample_video(seed, split="val", level="full")
    scenes = [dataclasses.replace(s, noise_level=0.0) for s in spec.scenes]
    spec = dataclasses.replace(spec, scenes=tuple(scenes), jpeg_scale=None)
    timeline = FullTimeline(spec)
    still, moments = timeline.still_spans(), timeline.moments
    dark = timeline.transition_spans("black")
    step = 0.25
    times = torch.arange(0.0, spec.duration_seconds - 0.01, step, dtype=torch.float64)
    frames = render_frames([(spec, times)], (64, 64))
    for i, (one, other) in enumerate(itertools.pairwise(frames)):
        start, end = i * step, (i + 1) * step
        if any(start < moment <= end for moment in moments):
            continue
        inside = any(a <= start and end <= b for a, b in still)
        black = any(a <= start < b for a, b in dark)
        blinks = any(
            item.motion == "blink" and item.motion_start_seconds <= start < item.motion_end_seconds
            for scene in spec.scenes
            for item in scene.objects
        )
        flickers = any(
            s.light is not None
            and s.light.kind == "flicker"
            and s.light.start_seconds <= start < s.light.end_seconds
            for s in spec.scenes
        )
        if inside or black:
            assert torch.equal(one, other), start
        elif not blinks and not flickers and not _short_rest(timeline, start):
            assert not torch.equal(one, other), start


def _short_rest(timeline, seconds):
    """Whether nothing happens to move in a rest that is too short to be called one."""
    spec = timeline.spec
    parts = [t.moving for t in timeline.tracks if t.item.motion != "still"]
    parts += [
        (p.start_seconds, p.end_seconds) for s in spec.scenes for p in (s.camera, s.light) if p
    ]
    parts += timeline.soft_windows
    return not any(start <= seconds < end for start, end in parts)


def test_captions_follow_the_scenes_and_can_be_parsed():
    for spec in SPECS:
        captions = make_captions(spec)
        assert [c[:2] for c in captions] == [scene.shown for scene in spec.scenes]
        rounded = [(round(s, 1), round(e, 1), text) for s, e, text in captions]
        assert parse_captions(format_captions(captions)) == rounded
        for scene, (_, _, text) in zip(spec.scenes, captions, strict=True):
            for item in scene.objects:
                assert item.colour in text
                assert item.shape in text
                assert MOTIONS[item.motion].does in text
            assert ("camera" in text) == (scene.camera is not None)
            assert ("light" in text) == (scene.light is not None)
            assert ("text" in text) == (scene.overlay is not None)
        assert all(colour in make_summary(spec) for colour in _first_colours(spec))


def _first_colours(spec):
    return {item.colour for scene in spec.scenes for item in scene.objects}


def test_all_turns_are_made_of_whole_words():
    """A word tokenizer of the vocabulary never has to spell."""
    tokenizer = build_processor("full").tokenizer
    # A letter that is no word of its own stands for a word that was spelled.
    letters = set(string.ascii_letters) - {"a", "s"}
    spelled = set(tokenizer.convert_tokens_to_ids(sorted(letters)))
    for spec in (*SPECS[:25], *TESTS[:10]):
        seconds = frame_seconds(spec, 1.0).tolist()
        turns = make_turns(spec, seconds, 0.0, 3, 40)
        assert {turn.family for turn in turns} >= {"caption", "grounding"}
        for text in [t for turn in turns for t in (turn.prompt, turn.answer)]:
            assert not spelled & set(tokenizer.encode(text, add_special_tokens=False)), text


def test_the_vocabulary_of_basic_is_a_part_of_full():
    assert set(vocabulary_texts()) <= set(vocabulary_texts("full"))
