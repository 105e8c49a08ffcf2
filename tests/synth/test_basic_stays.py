"""Level "basic" is frozen: trained weights and reported numbers refer to these very videos.

If a test here fails, the change belongs into level "full" (or the world needs a new version).
"""

import hashlib
import json

import torch

from timevlm.synth.captions import make_captions
from timevlm.synth.grounding import make_grounding
from timevlm.synth.questions import make_questions
from timevlm.synth.render import render_frames
from timevlm.synth.wording import vocabulary_texts
from timevlm.synth.world import SPLITS, frame_seconds, sample_video

SPECS = [sample_video(seed, split=split) for split in SPLITS for seed in range(5)]


def _digest(value):
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_specs_stay():
    assert _digest([spec.to_dict() for spec in SPECS]) == "986731e7c7dca7db"


def test_questions_stay():
    asked = [
        [q.family, q.kind, q.text, q.answer, q.choices, q.answer_spans]
        for spec in SPECS
        for q in make_questions(spec, 3, per_family=3)
    ]
    assert _digest(asked) == "babf0a54080d9b57"


def test_grounding_and_captions_stay():
    queries = [[q.text, q.spans] for spec in SPECS for q in make_grounding(spec, 3, limit=6)]
    assert _digest([queries, [make_captions(spec) for spec in SPECS]]) == "a458e083a8504dd0"


def test_the_vocabulary_stays():
    assert _digest(vocabulary_texts()) == "fbede2e8d17f81af"


def test_pixels_stay():
    """Every pixel, as sums that a rounding step elsewhere (another CPU's sqrt) hardly moves."""
    frames = render_frames([(spec, frame_seconds(spec, 0.5)) for spec in SPECS], (96, 96))
    weights = torch.linspace(0.5, 1.5, 96 * 96, dtype=torch.float64).view(96, 96)
    sums = (frames.double() * weights).mean(dim=(2, 3))  # (N, 3)
    waves = torch.sin(torch.arange(sums.numel(), dtype=torch.float64)).view_as(sums)
    found = [sums.mean().item(), (sums * waves).mean().item(), sums.std().item()]
    assert len(frames) == 362
    torch.testing.assert_close(
        found, [69.93270544778196, 0.19083914038885902, 19.74233292137887], rtol=0, atol=2e-4
    )


def test_pixels_of_a_frame_stay_bit_for_bit():
    spec = sample_video(3)
    frame = render_frames([(spec, torch.tensor([1.0]))], (32, 32))
    assert hashlib.sha256(frame.numpy().tobytes()).hexdigest()[:16] == "d2cfb5ef20b5c3fd"
