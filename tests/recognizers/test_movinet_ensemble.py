"""Ensembles: which member reads which frame, and the law of streams for them too."""

from dataclasses import replace

import pytest
import torch

import recognizers
from recognizers.errors import ConfigError
from recognizers.movinet import EnsembleConfig, MoViNetEnsemble, fused, temporal_ensemble
from tests.recognizers.movinet_networks import network, run, tiny_config, video


def pair(stream=True):
    config = tiny_config(stream=stream)
    return network(config, seed=0), network(config, seed=1)


def every_frame():
    """Both members read every frame, as A4 and A5 in A6."""
    members = pair()
    config = EnsembleConfig(num_classes=5, members=tuple(m.config for m in members), stride=1)
    return MoViNetEnsemble(config, members=members).eval()


makers = pytest.mark.parametrize(
    "make", [lambda: temporal_ensemble(*pair()), every_frame], ids=["temporal", "every frame"]
)


@pytest.mark.parametrize("stream", [False, True])
def test_temporal_ensemble_averages_two_half_rate_networks(stream):
    first, second = pair(stream)
    clip = video(2, 7)
    with torch.inference_mode():
        expected = (first(clip[:, 0::2]) + second(clip[:, 1::2])) / 2
        torch.testing.assert_close(temporal_ensemble(first, second)(clip), expected)


def test_every_output_is_the_mean_of_the_last_ones():
    first, second = pair()
    clip = video(1, 6)
    with torch.inference_mode():
        evens, _ = run(first, clip[:, 0::2], 3)
        odds, _ = run(second, clip[:, 1::2], 3)
        logits, _ = run(temporal_ensemble(first, second), clip, 6)
    torch.testing.assert_close(logits[:, 0], evens[:, 0])
    for t in range(1, 6):
        expected = (evens[:, t // 2] + odds[:, (t - 1) // 2]) / 2
        torch.testing.assert_close(logits[:, t], expected, atol=1e-5, rtol=1e-4)


@makers
@pytest.mark.parametrize("chunks", [1, 2, [3, 1, 4], [7, 1]], ids=str)
def test_any_chunking_is_the_whole_clip(make, chunks):
    model = make()
    frames = video(2, 8)
    with torch.inference_mode():
        whole, end = run(model, frames, 8)
        logits, state = run(model, frames, chunks)
        torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(frames), whole[:, -1], atol=1e-5, rtol=1e-4)
    for name in end:
        torch.testing.assert_close(state[name], end[name], atol=1e-4, rtol=1e-4)


@makers
def test_law_holds_in_bf16(make):
    model = make().to(torch.bfloat16)
    frames = video(1, 7)
    with torch.inference_mode():
        whole, _ = run(model, frames, 7)
        logits, _ = run(model, frames, [2, 1, 4])
    assert logits.dtype == torch.bfloat16
    assert (logits - whole).abs().max() < 0.03 * whole.abs().max()


@makers
def test_streams_of_other_phases_share_a_batch(make):
    model = make()
    early, late = video(1, 8, seed=3), video(1, 5, seed=4)
    with torch.inference_mode():
        _, state = run(model, early[:, :3], 3)
        before = {name: leaf.clone() for name, leaf in state.items()}
        both = recognizers.concat_rows([state, model.init_state(1, 19, 26)])
        logits, _ = run(model, torch.cat([early[:, 3:], late]), [1, 4], both)
        torch.testing.assert_close(logits[:1], run(model, early, 8)[0][:, 3:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logits[1:], run(model, late, 5)[0], atol=1e-5, rtol=1e-4)
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_members_may_be_folded():
    first, second = pair()
    frames = video(1, 5)
    with torch.inference_mode():
        expected, _ = run(temporal_ensemble(first, second), frames, 2)
        logits, _ = run(temporal_ensemble(fused(first), fused(second)), frames, 2)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_ensemble_is_saved_and_loaded(tmp_path):
    model = temporal_ensemble(*pair()).eval()
    model.save_pretrained(tmp_path)
    back = MoViNetEnsemble.from_pretrained(tmp_path)
    clip = video(1, 4)
    with torch.inference_mode():
        assert back.config == model.config
        assert torch.equal(back(clip), model(clip))


def test_contradicting_members_are_refused():
    config = tiny_config()
    with pytest.raises(ConfigError, match="some frames would have no reader"):
        EnsembleConfig(members=(config,), stride=2)
    with pytest.raises(ConfigError, match="use one kind"):
        EnsembleConfig(members=(config, tiny_config(stream=False)))
    first, _ = pair()
    with pytest.raises(ConfigError, match="5 and 4 classes"):
        temporal_ensemble(first, network(replace(config, num_classes=4)))


def test_released_ensemble_names_build_the_members_they_say():
    with torch.device("meta"):
        a6 = recognizers.create("movinet-a6-stream", num_classes=3)
        halved = recognizers.create("movinet-a0-stream-ensemble")
    assert [len(member.blocks) for member in a6.members] == [47, 59]
    assert a6.config.stride == 1
    assert {member.config.num_classes for member in a6.members} == {3}
    assert halved.config.stride == 2
    assert halved.config.members[0] == halved.config.members[1]
