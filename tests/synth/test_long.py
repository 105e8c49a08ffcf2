import itertools
import re

import pytest
import torch

from timevlm.errors import InputError
from timevlm.synth.long import (
    make_needle_questions,
    needles,
    render_blocks,
    sample_long_video,
)
from timevlm.synth.render import render_frames
from timevlm.tasks.qa import check_choices


@pytest.mark.parametrize("level", ["basic", "full"])
@pytest.mark.parametrize("num_seconds", [40, 128, 600])
def test_a_long_video_is_whole_and_hides_its_needles(level, num_seconds):
    for seed in range(3):
        spec = sample_long_video(seed, num_seconds, level=level)
        assert spec == sample_long_video(seed, num_seconds, level=level)
        assert spec.level == level
        assert spec.duration_seconds == spec.scenes[-1].end_seconds == num_seconds
        for scene, following in itertools.pairwise(spec.scenes):
            assert scene.end_seconds == following.start_seconds
        lengths = [s.end_seconds - s.start_seconds for s in spec.scenes]
        assert 4 - 1e-6 <= min(lengths) <= max(lengths) <= 12 + 1e-6
        found = needles(spec)
        assert len(found) == 3 or num_seconds < 600
        for track in found:
            assert len(track.scene.objects) == 1
            assert track.visible == (track.scene.start_seconds, track.scene.end_seconds)
            same = [o for s in spec.scenes for o in s.objects if o.shape == track.item.shape]
            assert same == [track.item]


@pytest.mark.parametrize("level", ["basic", "full"])
def test_needle_questions_have_their_answers_in_a_needle(level):
    kinds = set()
    for seed in range(6):
        spec = sample_long_video(seed, 300, level=level)
        looks = {track.item.shape: track.item for track in needles(spec)}
        for question in make_needle_questions(spec, 1):
            check_choices(question.choices)
            assert question.answer in question.choices
            kinds.add(question.kind)
            words = re.findall(r"[a-z]+", question.text)
            named = [shape for shape in looks if shape in words]
            assert named, question.text
            if question.kind == "colour.of_shape":
                assert question.answer == looks[named[0]].colour
            if question.kind == "order.first":
                starts = {f"the {n}": looks[n].appear_seconds for n in named}
                assert question.answer == min(starts, key=starts.get)
    assert kinds == {
        *("colour.of_shape", "motion.of_object", "when.appear", "exist.object"),
        *("order.first", "order.last"),
    }


@pytest.mark.parametrize("level", ["basic", "full"])
def test_frames_are_painted_a_piece_at_a_time(level):
    spec = sample_long_video(0, 3000, level=level)
    seconds = 2000.0 + torch.arange(12, dtype=torch.float64)
    blocks = list(render_blocks(spec, seconds, (24, 24), num_frames=5))
    assert [len(block) for block in blocks] == [5, 5, 2]
    assert torch.equal(torch.cat(blocks), render_frames([(spec, seconds)], (24, 24)))


def test_what_cannot_be_made_is_refused():
    with pytest.raises(InputError, match="long video of 20 s with 3 needles cannot be made"):
        sample_long_video(0, 20)
    with pytest.raises(InputError, match="with 4 needles"):
        sample_long_video(0, 100, num_needles=4)
    with pytest.raises(InputError, match="have no split 'compositional'"):
        sample_long_video(0, 100, split="compositional")
