"""Training through stream buffers: the right gradients, and memory that the clip does not set."""

import pytest
import torch
from torch.nn import functional as F

from recognizers.base import detach
from recognizers.errors import FrameError
from recognizers.movinet import backward_through_stream, subclips
from tests.recognizers.movinet_networks import network, tiny_config, video

TARGET = torch.tensor([1, 3])


def gradients(model):
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


def assert_same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-4)


def test_one_subclip_is_ordinary_backward():
    model = network(tiny_config(dropout=0.0)).train()
    clip = video(2, 6)
    loss = F.cross_entropy(model(clip), TARGET)
    loss.backward()
    expected = gradients(model)
    value, _ = backward_through_stream(model, clip, TARGET, subclip_length=6)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert_same_gradients(gradients(model), expected)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_gradients_are_those_of_subclips_from_carried_constants(length):
    """The slow twin keeps every graph and takes one backward at the end."""
    model = network(tiny_config())
    clip = video(2, 6)
    state, total = model.init_state(2, 19, 26), 0.0
    for start in range(0, 6, length):
        piece = clip[:, start : start + length]
        logits, state = model.step(piece, detach(state))
        total = total + F.cross_entropy(logits[:, -1], TARGET) * piece.shape[1] / 6
    total.backward()
    expected = gradients(model)
    value, end = backward_through_stream(model, clip, TARGET, subclip_length=length)
    assert value == pytest.approx(total.item(), rel=1e-5)
    assert_same_gradients(gradients(model), expected)
    assert not any(leaf.requires_grad for leaf in end.values())
    assert all(torch.equal(end[name], state[name]) for name in end)


def test_a_clip_may_go_on_from_a_carried_state():
    model = network(tiny_config())
    clip = video(2, 6)
    _, whole = backward_through_stream(model, clip, TARGET, subclip_length=2)
    _, half = backward_through_stream(model, clip[:, :4], TARGET, subclip_length=2)
    _, end = backward_through_stream(model, clip[:, 4:], TARGET, subclip_length=2, state=half)
    for name in whole:
        torch.testing.assert_close(end[name], whole[name], atol=1e-6, rtol=1e-5)


class SavedBytes:
    """Bytes that autograd holds for backward: the highest at once."""

    def __init__(self):
        self.held = self.peak = 0

    def pack(self, tensor):
        return _Held(tensor, self)

    def unpack(self, held):
        return held.tensor


class _Held:
    def __init__(self, tensor, counter):
        self.tensor, self.counter = tensor, counter
        self.size = tensor.numel() * tensor.element_size()
        counter.held += self.size
        counter.peak = max(counter.peak, counter.held)

    def __del__(self):
        self.counter.held -= self.size


@pytest.mark.parametrize("num_frames", [8, 24])
def test_memory_is_that_of_one_subclip(num_frames):
    model = network(tiny_config()).train()

    def peak(frames, length):
        counter = SavedBytes()
        with torch.autograd.graph.saved_tensors_hooks(counter.pack, counter.unpack):
            backward_through_stream(model, frames, TARGET, subclip_length=length)
        assert counter.held == 0
        return counter.peak

    one, many = peak(video(2, 4), 4), peak(video(2, num_frames), 4)
    assert many <= 1.02 * one
    assert peak(video(2, num_frames), num_frames) > 1.8 * one


def test_a_network_learns_the_direction_of_motion_through_subclips():
    torch.manual_seed(0)
    model = network(tiny_config(num_classes=2, dropout=0.0, norm_momentum=0.5)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    clip = torch.zeros(4, 6, 3, 16, 16)
    for t in range(6):
        for row in range(4):
            column = 2 * t + row if row % 2 == 0 else 14 - 2 * t - row // 2
            clip[row, t, :, 4:12, column % 14 : column % 14 + 2] = 1.0
    target = torch.tensor([0, 1, 0, 1])
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = backward_through_stream(model, clip, target, subclip_length=3)
        optimizer.step()
        losses.append(loss)
    assert min(losses[-5:]) < 0.3 * losses[0]


def test_stochastic_depth_drops_whole_branches_in_training_alone():
    model = network(tiny_config(stochastic_depth=0.9))
    clip = video(2, 3)
    with torch.no_grad():
        assert torch.equal(model(clip), model(clip))
        model.train()
        assert not torch.equal(
            model.features(clip, model.init_state(2, 19, 26))[0][:, -1],
            model.features(clip, model.init_state(2, 19, 26))[0][:, -1],
        )


def test_subclips_cover_the_clip_in_order():
    clip = video(1, 7)
    pieces = list(subclips(clip, 3))
    assert [piece.shape[1] for piece in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat(pieces, dim=1), clip)
    with pytest.raises(FrameError, match="use at least one"):
        list(subclips(clip, 0))
