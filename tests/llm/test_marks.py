"""Marks stay with the vision tokens they were given to, and looks are the attention to these."""

import pytest
import torch

from tests.helpers import small_config, small_lm
from tests.llm.rows import CASES, PREFIX, RAGGED_VIDEOS, TEXT, TOLERANCE, VIDEO, random_rows
from timevlm.llm import Spans
from timevlm.llm.attention import rank_keys
from timevlm.llm.transv import kept_counts
from timevlm.training.tracks import drop_as_read

POINTING = [
    name
    for name, (pattern, changes) in CASES.items()
    if small_config(pattern, **changes).pointing_layer is not None
]


@pytest.mark.parametrize("sizes", [[VIDEO], [7, 7, 7, 7, 1]])
@pytest.mark.parametrize("name", POINTING)
@torch.inference_mode()
def test_marks_stay_with_their_tokens(name, sizes):
    pattern, changes = CASES[name]
    lm, rows = small_lm(pattern, **changes), random_rows(batch=4)
    marks = torch.stack([torch.arange(VIDEO), -torch.arange(VIDEO)], dim=1).expand(4, -1, -1)
    state = lm.init_state(torch.tensor(RAGGED_VIDEOS))
    state = lm.read_prefix(rows.prefix, state)
    start = 0
    for part in rows.video.split(sizes, dim=1):
        lengths = (torch.tensor(RAGGED_VIDEOS) - start).clamp(0, part.shape[1])
        here = marks[:, start : start + part.shape[1]]
        state = lm.read_video(part, state, lengths, here)
        start += part.shape[1]
    original = lengths = torch.tensor(RAGGED_VIDEOS)
    arriving = [c for c in lm.config.transv if c.layer <= lm.config.pointing_layer]
    held = drop_as_read(marks, original, arriving)
    for c in arriving:
        if c.rule == "uniform":
            lengths = kept_counts(c, original, lengths)
    out = lm.read_prompt(rows.text, state).state
    for i, length in enumerate(lengths.tolist()):
        expected = held[i, :length]
        if out.kept is not None:
            expected = expected[out.kept[i, :length]]
        assert int(out.num_marks[i]) == len(expected)
        assert torch.equal(out.marks[i, : len(expected)], expected)


@pytest.mark.parametrize("name", POINTING)
@torch.inference_mode()
def test_looks_are_the_attention_to_kept_vision_tokens(name):
    pattern, changes = CASES[name]
    lm, rows = small_lm(pattern, **changes), random_rows(batch=1)
    state = lm.init_state(torch.tensor([VIDEO]))
    marks = torch.arange(VIDEO)[None, :, None]
    state = lm.read_video(rows.video, lm.read_prefix(rows.prefix, state), marks=marks)
    first = lm.read_prompt(rows.text[:, :6], state)
    second = lm.read_text(rows.text[:, 6:], first.state)
    together = lm.read_prompt(rows.text, state, rank_index=torch.tensor([5]))
    if not first.state.marks.shape[1]:
        assert lm.video_looks(first) is None
        return
    parts, whole = (lm.video_looks(first), lm.video_looks(second)), lm.video_looks(together)
    looks = torch.cat([part.shares for part in parts], dim=1)
    torch.testing.assert_close(looks, whole.shares, **TOLERANCE)
    matches = torch.cat([part.matches for part in parts], dim=1)
    torch.testing.assert_close(matches, whole.matches, **TOLERANCE)
    for part in parts:
        torch.testing.assert_close(part.values, whole.values, **TOLERANCE)
    sizes = [torch.tensor([n]) for n in (PREFIX, VIDEO, TEXT)]
    whole_row = torch.cat([rows.prefix, rows.video, rows.text], dim=1)
    _, inputs = lm(whole_row, Spans(*sizes), torch.tensor([5]))
    layer, num_kept = lm.config.pointing_layer, int(together.state.num_marks)
    block = lm.backbone.layers[layer]
    x = block.norm(inputs[layer])
    for t in range(TEXT):
        expected = rank_keys(
            block.mixer, x[:, PREFIX + num_kept + t], x[:, PREFIX : PREFIX + num_kept], None
        )
        torch.testing.assert_close(looks[:, t], expected, **TOLERANCE)
    handed_on = lm.values_of(inputs[layer])[:, PREFIX : PREFIX + num_kept]
    torch.testing.assert_close(whole.values, handed_on, **TOLERANCE)
