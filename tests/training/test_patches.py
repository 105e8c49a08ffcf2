"""The objectives of the vision tower learn what they are asked."""

import math

import torch

from tests.helpers import FRAME_SIDE, tiny_model
from timevlm.synth.render import render_frames
from timevlm.synth.world import sample_video
from timevlm.training.batches import VideoSample
from timevlm.training.kinds import FULL, text_parts, word_id
from timevlm.training.labels import patch_labels
from timevlm.training.loop import align_objective, labelled_frames
from timevlm.training.nano import build_nano
from timevlm.training.patches import PatchObjective


def test_patch_objective_falls_when_trained_on_its_labels():
    model = tiny_model()
    spec = sample_video(0)
    sample = VideoSample(spec=spec, seconds=torch.tensor([1.0, 2.0]).double(), shift=0.0)
    labels = patch_labels([sample], FRAME_SIDE // 16)
    pixels = render_frames([(spec, sample.seconds)], (FRAME_SIDE, FRAME_SIDE), "cpu")
    objective = PatchObjective(model)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss, _ = objective(pixels, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < 0.7 * losses[0]


def test_a_text_is_aligned_with_its_own_word():
    torch.manual_seed(0)
    model, processor = build_nano(level="full")
    objective = align_objective(model, processor, FULL)
    nothing = torch.tensor([len(names) for names in FULL.texts])
    texts = nothing.expand(1, 3, 3).clone()
    texts[0, 0] = torch.tensor(text_parts("moon"))
    texts[0, 1] = torch.tensor(text_parts("47"))
    words = model.llm.backbone.embeddings.weight.detach()
    written, is_written = objective._texts(texts, words, torch.tensor(1.0))
    assert is_written.tolist() == [[True, True, False]]
    assert torch.equal(written[0, 0], words[word_id(processor, "moon")])
    assert torch.equal(written[0, 2], torch.zeros_like(written[0, 2]))
    # Numbers with the same tens are nearer than others, and none is like another.
    texts[0] = torch.tensor([text_parts(text) for text in ("47", "42", "91")])
    written, _ = objective._texts(texts, words, torch.tensor(1.0))
    same, other = (written[0, 0] - written[0, 1:]).norm(dim=-1).tolist()
    assert 0.5 < same < other


def test_the_projector_keeps_what_it_says_of_patches_without_text():
    torch.manual_seed(0)
    model, processor = build_nano(level="full")
    objective = align_objective(model, processor, FULL, keep_features=1.0)
    pixels, labels = labelled_frames(model, 0, num_frames=16, kinds=FULL)
    bare = torch.tensor([len(names) for names in FULL.texts]).expand_as(labels.texts)
    assert float(objective(pixels, labels._replace(texts=bare)).detach()) == 0.0
    assert float(objective(pixels, labels).detach()) > 0.01


def test_features_are_kept_where_nothing_is_written():
    torch.manual_seed(0)
    model, _ = build_nano(level="full")
    objective = PatchObjective(model, FULL, keep=1.0)
    pixels, labels = labelled_frames(model, 0, num_frames=16, kinds=FULL)
    written = objective._written(labels.texts)
    assert 0 < int(written.sum()) < written.numel()
    before = model.vision(pixels)
    assert float(objective._moved(before, pixels, ~written).detach()) == 0.0
    moved = before + written[..., None]
    assert float(objective._moved(moved, pixels, ~written).detach()) == 0.0
    assert float(objective._moved(before + 1.0, pixels, ~written).detach()) > 0.1
    # The copy that features are kept near to is not trained.
    assert len(list(objective.parameters())) == len(list(model.vision.parameters())) + 2


def test_frames_without_a_text_are_no_hole_in_the_log():
    torch.manual_seed(0)
    model, _ = build_nano(level="full")
    pixels, labels = labelled_frames(model, 0, num_frames=16, kinds=FULL)
    bare = torch.tensor([len(names) for names in FULL.texts]).expand_as(labels.texts)
    loss, right = PatchObjective(model, FULL, keep=1.0)(pixels, labels._replace(texts=bare))
    assert torch.isfinite(loss)
    assert float(right["text_accuracy"]) == 0.0
