"""The "rrm" family: the law, training, files."""

from dataclasses import replace

import pytest
import torch

import recognizers
from recognizers import StreamingRecognizer, concat_rows
from recognizers.errors import ConfigError, StateError
from recognizers.rrm import RRMRecognizer, RRMRecognizerConfig
from tests.recognizers.rrm_networks import _row, video

CONFIG = RRMRecognizerConfig(
    num_classes=4,
    stem_width=8,
    blocks=(_row(3, 16, 12, False, 2), _row(3, 24, 12, False, 1)),
    features=16,
    hidden=16,
)


def model(**changes):
    torch.manual_seed(0)
    return RRMRecognizer(replace(CONFIG, **changes)).eval()


def clip(num_frames, batch_size=1):
    return video(num_frames, 32, 40, batch_size=batch_size).mul(0.2).add(0.5).clamp(0, 1)


def run(network, frames, sizes):
    state = network.init_state(len(frames), *frames.shape[-2:])
    logits = []
    for chunk in frames.split(sizes, dim=1):
        part, state = network.step(chunk, state)
        logits.append(part)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_whole_equals_chunked_equals_forward(threshold, dtype):
    network = model(threshold=threshold).to(dtype)
    frames = clip(8, batch_size=2).to(dtype)
    whole = run(network, frames, 8)
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == torch.float32 else 2e-2}
    for sizes in (1, [3, 5]):
        torch.testing.assert_close(run(network, frames, sizes), whole, **tolerance)
    torch.testing.assert_close(network(frames), whole[:, -1], **tolerance)


def test_interleaved_streams_equal_each_alone():
    network = model(threshold=0.05)
    frames = clip(6, batch_size=2)
    states = [network.init_state(1, 32, 40) for _ in range(2)]
    logits = [[], []]
    for time in range(6):
        for row in range(2):
            part, states[row] = network.step(frames[row : row + 1, time : time + 1], states[row])
            logits[row].append(part)
    for row in range(2):
        alone = run(network, frames[row : row + 1], 6)
        torch.testing.assert_close(torch.cat(logits[row], dim=1), alone, rtol=0, atol=1e-6)
    assert concat_rows(states)["count"].tolist() == [6, 6]


def test_uint8_frames_are_scaled():
    network = model()
    frames = clip(2).mul(255).round()
    torch.testing.assert_close(network(frames.to(torch.uint8)), network(frames / 255))


def test_training_mode_gives_gradients_and_eval_sees_the_new_weights():
    network = model(dropout=0.0).train()
    frames = clip(4)
    before = network.eval()(frames)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()
    network(frames).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    optimizer.step()
    assert not torch.allclose(network.eval()(frames), before)


def test_exact_streaming_equals_the_network_at_work_in_training():
    network = model(dropout=0.0)
    frames = clip(6)
    streamed = run(network, frames, 2)
    features = network.network(network.normalize(frames).flatten(0, 1)).unflatten(0, (1, 6))
    state = network.init_state(1, 32, 40)
    expected, _, _ = network._pool(features, state["means"], state["count"])
    torch.testing.assert_close(streamed, expected, rtol=1e-5, atol=1e-5)


def test_loaded_weights_take_effect(tmp_path):
    network = model()
    frames = clip(3)
    network.save_pretrained(tmp_path)
    back = StreamingRecognizer.from_pretrained(tmp_path)
    assert back.config == network.config
    torch.testing.assert_close(back(frames), network(frames))
    other = RRMRecognizer(CONFIG).eval()
    other(frames)  # its folded network is made here, from other weights
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(frames), network(frames))
    assert not any("streaming" in name for name in network.state_dict())


def test_tiny_recognizer_is_small_and_reads_96_pixels():
    network = recognizers.create("rrm-tiny", labels=["still", "moves"]).eval()
    assert sum(value.numel() for value in network.state_dict().values()) * 2 < 1.5e6
    still = torch.rand(1, 1, 3, 96, 96).repeat(1, 4, 1, 1, 1)
    logits, state = network.step(still, network.init_state(1, 96, 96))
    assert logits.shape == (1, 4, 2)
    assert min(row.share_skipped for row in network.report(state)) == pytest.approx(0.75)


def test_bad_settings_and_states_are_refused():
    with pytest.raises(ConfigError, match="decays"):
        replace(CONFIG, decays=(1.0,))
    with pytest.raises(ConfigError, match="dropout 1"):
        replace(CONFIG, dropout=1.0)
    with pytest.raises(ConfigError, match="threshold = -1"):
        replace(CONFIG, threshold=-1)
    network = model()
    with pytest.raises(StateError, match="batch of 2"):
        network.step(clip(1, batch_size=2), network.init_state(1, 32, 40))
    with pytest.raises(StateError, match="dtype"):
        network.init_state(1, 32, 40, dtype=torch.bfloat16)
