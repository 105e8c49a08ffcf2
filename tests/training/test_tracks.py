"""Labels of vision tokens follow the tokens through merging and dropping."""

import math
from itertools import accumulate

import pytest
import torch

from tests.helpers import (
    ATTENTION,
    FRAME_SIDE,
    UNIFORM,
    small_config,
    tiny_model,
    tiny_processor,
)
from timevlm.comparing import SLOWEST
from timevlm.llm.config import TransV
from timevlm.llm.state import state_tensors
from timevlm.llm.transv import kept_counts
from timevlm.synth.palette import COLOURS, SHAPES
from timevlm.training.batches import BatchConfig, make_batch, sample_videos
from timevlm.training.kinds import BASIC, FULL, MOVE_SIZE
from timevlm.training.labels import patch_labels
from timevlm.training.objective import AnswerObjective, track_layer
from timevlm.training.tracks import (
    FULLY_SHOWN,
    MOVE_SCALE,
    TrackHead,
    drop_as_read,
    measure_loss,
    measure_targets,
    of_frames,
    scene_loss,
    target_parts,
    track_targets,
    wanted_tokens,
)

CONFIG = BatchConfig(num_videos=2, turns_per_video=3, max_frames=6)
TRACK_SIZES = BASIC.track_sizes


def batch_and_labels(model):
    samples = sample_videos(CONFIG, 3)
    grid = FRAME_SIDE // model.config.vision.patch_size
    size = (FRAME_SIDE, FRAME_SIDE)
    batch = make_batch(CONFIG, tiny_processor(), samples, size=size, seed=3)
    return batch, patch_labels(samples, grid, outline=False)


def test_targets_are_probabilities_of_the_labels():
    _, labels = batch_and_labels(tiny_model())
    *parts, moves = target_parts(track_targets(labels), BASIC)
    assert torch.equal(moves, MOVE_SCALE * labels.moves)
    for part, wanted in zip(parts[:5], (*labels[:4], labels.earlier_colours), strict=True):
        is_asked = wanted >= 0
        assert torch.equal(part.argmax(dim=-1)[is_asked], wanted[is_asked])
        assert torch.equal(part.sum(dim=-1), is_asked.float())
    assert torch.equal(labels.earlier_colours < 0, labels.shapes == len(BASIC.shapes))
    assert torch.equal(parts[5].argmax(dim=-1)[:, 0], labels.scenes)


@pytest.mark.parametrize(
    ("transv", "layer"),
    [
        ((UNIFORM, ATTENTION), 4),  # where tokens wait for the question
        ((), 4),  # the last layer that mixes tokens
        ((UNIFORM,), 4),
        (({**UNIFORM, "layer": 4},), 4),
        ((UNIFORM, {**UNIFORM, "layer": 5, "keep": 0.2}), 4),
    ],
)
def test_watching_for_tracks_gives_the_same_state(transv, layer):
    model = tiny_model(transv)
    assert model.config.llm.pattern[layer] == "*"
    assert track_layer(model.config.llm) == layer
    objective = AnswerObjective(model, tiny_processor().prefix_ids())
    batch, labels = batch_and_labels(model)
    with torch.no_grad():
        plain = objective.watch(batch).consolidated()
        tracked = objective.watch_tracking(batch, labels)
        loss = objective.tracks(tracked.tokens, tracked.targets)
    expected = state_tensors(plain)
    for name, tensor in state_tensors(tracked.state).items():
        assert torch.equal(tensor, expected[name]), name
    assert float(loss) > 0
    kept = batch.video_lengths
    for compression in model.config.llm.transv:
        if compression.layer < layer:
            kept = kept_counts(compression, batch.video_lengths, kept)
    assert tracked.targets.shape[1] == int(kept.max()) == tracked.seconds.shape[1]
    if tracked.state.held_video.parts:
        tokens, _ = tracked.state.held_video.merged()
        assert torch.equal(tokens, tracked.tokens)


def test_a_model_without_attention_is_asked_for_tracks_alone():
    llm = small_config("M-M-", vocab_size=len(tiny_processor().tokenizer) + 3).to_dict()
    model = tiny_model((), llm_config=llm, timestamp_token_ids=None, named_token_ids=None)
    batch, labels = batch_and_labels(model)
    losses = AnswerObjective(model, tiny_processor().prefix_ids())(batch, labels)
    assert float(losses.tracks.detach()) > 0
    assert float(losses.measures) == 0.0


def test_labels_are_dropped_as_the_tokens_are():
    transv = (TransV(layer=0, keep=0.5, rule="uniform"), TransV(layer=1, keep=0.3, rule="uniform"))
    lengths = torch.tensor([12, 7])
    numbers = torch.arange(12.0).expand(2, -1)[..., None]
    left = drop_as_read(numbers, lengths, transv)
    for row, length in zip(left, lengths.tolist(), strict=True):
        alone = drop_as_read(numbers[:1, :length], torch.tensor([length]), transv)[0]
        assert torch.equal(row[: len(alone)], alone)
        assert len(alone) == transv[1].num_kept(length, transv[0].num_kept(length, length))
        assert (alone.diff(dim=0) > 0).all()


def test_a_sure_and_right_head_has_no_loss():
    targets = torch.zeros(1, 2, sum(TRACK_SIZES) + MOVE_SIZE)
    head = TrackHead(8)
    start = 0
    with torch.no_grad():
        head.head.weight.zero_()
        head.head.bias.fill_(-40.0)
        head.head.bias[-MOVE_SIZE:] = targets[0, 0, -MOVE_SIZE:]
        for size in TRACK_SIZES:
            targets[..., start] = 1.0
            head.head.bias[start] = 40.0
            start += size
    tokens = torch.randn(1, 2, 8)
    assert float(head(tokens, targets).detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(head(tokens, targets.roll(1, dims=-1)).detach()) > 10


def looks_of(*tokens: tuple[str, str] | None) -> torch.Tensor:
    """Targets (1, L, K) of tokens that show a colour and shape, or background."""
    targets = torch.zeros(1, len(tokens), sum(TRACK_SIZES) + MOVE_SIZE)
    for i, token in enumerate(tokens):
        colour, shape = ("", "") if token is None else token
        shape_index = SHAPES.index(shape) if shape else len(SHAPES)
        colour_index = list(COLOURS).index(colour) if colour else len(COLOURS)
        targets[0, i, shape_index] = targets[0, i, len(SHAPES) + 1 + colour_index] = 1.0
    return targets


def test_frames_tokens_are_told_from_timestamps():
    shown, stamp = looks_of(("red", "ring")), torch.zeros_like(looks_of(None))
    assert of_frames(torch.cat([shown, stamp], dim=1)).tolist() == [[True, False]]


def test_a_token_shows_an_object_by_its_share_of_the_patches():
    full, half, small = (share * looks_of(("red", "ring"), None) for share in (1.0, 0.5, 0.1))
    targets = torch.cat([full, half, small])
    asked = torch.zeros(3, len(SHAPES) + len(COLOURS), dtype=torch.bool)
    anything = wanted_tokens(targets, asked)
    asked[:, SHAPES.index("ring")] = True
    ring = wanted_tokens(targets, asked)
    asked[:, len(SHAPES) + list(COLOURS).index("red")] = True
    red_ring = wanted_tokens(targets, asked)
    expected = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.1 / FULLY_SHOWN, 0.0]])
    for wanted in (anything, ring, red_ring):
        torch.testing.assert_close(wanted, expected)
    asked[:, SHAPES.index("ring")] = False
    asked[:, SHAPES.index("star")] = True
    assert not bool(wanted_tokens(targets, asked).any())


@pytest.mark.parametrize("transv", [(UNIFORM, ATTENTION), (UNIFORM,)])
def test_captions_teach_the_deep_attention_where_it_ranks(transv):
    model = tiny_model(transv)
    objective = AnswerObjective(model, tiny_processor().prefix_ids())
    batch, labels = batch_and_labels(model)
    losses = objective(batch, labels)
    mixer = model.llm.backbone.layers[4].mixer
    if len(transv) == 1:
        assert float(losses.phrases) == 0.0
        return
    (grad,) = torch.autograd.grad(losses.phrases, mixer.q_proj.weight)
    assert float(losses.phrases.detach()) > 0
    assert float(grad.abs().sum()) > 0
    assert float(objective(batch).phrases) == 0.0  # without labels nothing is known to attend to


def test_scenes_of_tokens_are_asked_for_where_there_are_patches():
    at = list(accumulate((0, *FULL.track_sizes)))[list(FULL.lessons).index("scene")]
    targets = torch.zeros(1, 3, sum(FULL.track_sizes) + MOVE_SIZE)
    targets[0, 0, at + 2] = 1.0
    targets[0, 1, at : at + 2] = 0.5  # a dissolve; the last token is a timestamp
    sure = torch.full((1, 3, FULL.lessons["scene"]), -50.0)
    sure[0, 0, 2] = sure[0, 2, 5] = 50.0
    sure[0, 1, :2] = 50.0
    assert float(scene_loss(sure, targets, FULL)) == pytest.approx(math.log(2) / 2, abs=1e-5)
    wrong = sure.clone()
    wrong[0, 2] = sure[0, 0]
    assert float(scene_loss(wrong, targets, FULL)) == float(scene_loss(sure, targets, FULL))
    wrong[0, 0] = sure[0, 2]
    assert float(scene_loss(wrong, targets, FULL)) > 10.0


def test_measures_of_merged_tokens_are_those_of_their_objects():
    model = tiny_model()
    _, labels = batch_and_labels(model)
    speeds = torch.where(labels.places[..., 2] > 0, 0.1, 0.0)
    labels = labels._replace(speeds=speeds)
    patches = measure_targets(labels)
    # Half of a token is background: shares undo that.
    tokens = (patches + torch.zeros_like(patches)) / 2
    x, y, radius = labels.places.unbind(-1)
    truth = torch.stack([x, y, radius.clamp(min=1e-3).log(), (speeds + SLOWEST).log()], dim=-1)
    assert float(measure_loss(truth, patches)) == pytest.approx(0.0, abs=1e-6)
    assert float(measure_loss(truth, tokens)) == pytest.approx(0.0, abs=1e-6)
    assert float(measure_loss(truth + 1.0, patches)) > 1.0
    # Nothing is asked of tokens that hardly show an object, and no speed of what rests.
    assert float(measure_loss(truth + 1.0, patches / 4)) == 0.0
    rests = measure_targets(labels._replace(speeds=torch.zeros_like(speeds)))
    wrong_speed = truth.clone()
    wrong_speed[..., 3] += 5.0
    assert float(measure_loss(wrong_speed, rests)) == pytest.approx(0.0, abs=1e-6)
