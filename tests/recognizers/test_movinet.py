"""MoViNet: the published network, and the law that a stream has no chunks."""

import json

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

import recognizers
from recognizers.errors import ConfigError, StateError
from recognizers.movinet import (
    ARCHITECTURES,
    PUBLISHED,
    BlockConfig,
    architecture,
    count,
    fused,
    load_published,
)
from recognizers.movinet.layers import (
    average_pool_by_two,
    cumulative_mean,
    frame_counts,
    pad_same,
    position_encoding,
)
from tests.conftest import golden_files
from tests.recognizers.movinet_networks import (
    network,
    run,
    seeded_weights,
    tiny_config,
    video,
)

STREAMS = {
    "released": {},
    "encoded": {"position_encoding": True},
    "3d": {"conv_type": "3d", "squeeze_type": "3d"},
    "swish, space only": {"activation": "swish", "gate": "sigmoid", "squeeze_type": "2d"},
    "no squeeze": {"squeeze_type": "none"},
}
streams = pytest.mark.parametrize("changes", STREAMS.values(), ids=STREAMS)
makers = pytest.mark.parametrize("make", [lambda model: model, fused], ids=["plain", "fused"])


# --- The published network -------------------------------------------------------------------


@makers
@pytest.mark.parametrize("path", golden_files("movinet_"))
def test_published_numbers(path, make):
    with safe_open(path, "pt") as golden:
        metadata = golden.metadata()
        clip = golden.get_tensor("video").transpose(1, 2)
        expected = golden.get_tensor("logits")
        chunks = json.loads(metadata["chunks"])
        expected_chunks = golden.get_tensor("chunk_logits") if chunks else []
    model = make(load_published(seeded_weights(path.parent, json.loads(metadata["shapes"]))))
    assert model.config.causal == metadata["variant"].endswith("stream")
    with torch.inference_mode():
        torch.testing.assert_close(model(clip), expected, atol=1e-4, rtol=0)
        if chunks:
            state = model.init_state(1, *clip.shape[-2:])
            for chunk, expected_logits in zip(
                clip.split(chunks, dim=1), expected_chunks, strict=True
            ):
                logits, state = model.step(chunk, state)
                torch.testing.assert_close(logits[:, -1], expected_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tables_give_the_released_checkpoint_sizes(name):
    cost = count(architecture(name, stream=False), 1, 64, 64)
    published = PUBLISHED[name].checkpoint_megabytes * 2**20
    # The release rounds to whole megabytes.
    assert cost.checkpoint_bytes == pytest.approx(published, abs=0.7 * 2**20)


@pytest.mark.parametrize("name", ["a0", "a1"])
def test_parameters_are_the_papers_where_the_release_is_the_papers_network(name):
    cost = count(architecture(name, stream=False), 1, 64, 64)
    assert cost.parameters / 1e6 == pytest.approx(PUBLISHED[name].megaparameters, abs=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_operations_are_the_papers(name):
    published = PUBLISHED[name]
    size = published.resolution
    cost = count(architecture(name, stream=False), published.num_frames, size, size)
    # The released A2 is larger than the paper's, in parameters too (5.2M against 4.8M).
    tolerance = 0.13 if name == "a2" else 0.04
    assert cost.multiply_adds / 1e9 == pytest.approx(published.gflops, rel=tolerance)


@streams
def test_counted_operations_are_those_that_torch_counts(changes):
    from torch.utils.flop_counter import FlopCounterMode

    model = network(tiny_config(**changes))
    clip = video(1, 3)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(clip)
    cost = count(model.config, 3, *clip.shape[-2:])
    # A 3-D convolution also computes at the buffered frames in torch's formula or not at all.
    assert 2 * cost.multiply_adds == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_state_is_as_large_as_counted():
    model = network(tiny_config())
    state = model.init_state(1, 19, 26)
    floats = sum(leaf.numel() for leaf in state.values())
    assert count(model.config, 1, 19, 26).state_bytes == 4 * floats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate": "relu"}, "choose from sigmoid, hard_sigmoid"),
        ({"dropout": 1.0}, "rate in"),
        ({"num_classes": 0}, "at least one class"),
        ({"stem_channels": 12}, "reads 8 channels after 12"),
    ],
)
def test_contradicting_configs_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**change)


def test_blocks_refuse_even_kernels_and_long_strides():
    with pytest.raises(ConfigError, match="odd"):
        BlockConfig(in_channels=8, expand_channels=8, out_channels=8, kernel=(2, 3))
    with pytest.raises(ConfigError, match="use 1 or 2"):
        BlockConfig(in_channels=8, expand_channels=8, out_channels=8, kernel=(3, 3), stride=3)
    with pytest.raises(ConfigError, match="choose from a0"):
        architecture("a7", stream=True)


# --- The law ---------------------------------------------------------------------------------


@makers
@streams
@pytest.mark.parametrize("chunks", [1, 2, [3, 1, 5], [8, 1]], ids=str)
def test_any_chunking_is_the_whole_clip(changes, chunks, make):
    model = make(network(tiny_config(**changes)))
    frames = video(2, 9)
    with torch.inference_mode():
        whole, end = run(model, frames, 9)
        logits, state = run(model, frames, chunks)
        torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(frames), whole[:, -1], atol=1e-5, rtol=1e-4)
    for name in end:
        torch.testing.assert_close(state[name], end[name], atol=1e-4, rtol=1e-4)


@makers
@streams
def test_law_holds_in_bf16(changes, make):
    # bf16 keeps 8 bits: kernels of other batch sizes round differently, by some units of 2 ** -8.
    model = make(network(tiny_config(**changes)).to(torch.bfloat16))
    frames = video(1, 9)
    with torch.inference_mode():
        whole, _ = run(model, frames, 9)
        exact, _ = run(network(tiny_config(**changes)), frames, 9)
        scale = exact.abs().max()
        for chunks in (1, [3, 1, 5]):
            logits, state = run(model, frames, chunks)
            assert logits.dtype == torch.bfloat16
            assert state["head.total"].dtype == torch.float32
            assert (logits - whole).float().abs().max() < 0.03 * scale
    assert (whole.float() - exact).abs().max() < 0.06 * scale


@makers
def test_carried_state_is_left_as_it_was(make):
    model = make(network(tiny_config()))
    frames = video(2, 6)
    with torch.inference_mode():
        _, state = run(model, frames[:, :3], 3)
        before = {name: leaf.clone() for name, leaf in state.items()}
        first, _ = run(model, frames[:, 3:], 1, state)
        again, _ = run(model, frames[:, 3:], 3, state)
    assert all(torch.equal(state[name], before[name]) for name in state)
    torch.testing.assert_close(first, again, atol=1e-5, rtol=1e-4)


@makers
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_interleaved_streams_are_each_alone(make, dtype):
    model = make(network(tiny_config()).to(dtype))
    videos = video(1, 6, seed=1), video(1, 6, seed=2)
    with torch.inference_mode():
        alone = [run(model, frames, 2)[0] for frames in videos]
        states = [model.init_state(1, 19, 26) for _ in videos]
        logits = [[], []]
        for start in (0, 2, 4):
            for stream, frames in enumerate(videos):
                out, states[stream] = model.step(frames[:, start : start + 2], states[stream])
                logits[stream].append(out)
    for stream in range(2):
        assert torch.equal(torch.cat(logits[stream], 1), alone[stream])


@makers
@streams
def test_streams_join_and_leave_a_batch_at_any_time(changes, make):
    model = make(network(tiny_config(**changes)))
    early, late = video(1, 7, seed=3), video(1, 4, seed=4)
    with torch.inference_mode():
        _, state = run(model, early[:, :3], 3)
        both = recognizers.concat_rows([state, model.init_state(1, 19, 26)])
        logits, both = run(model, torch.cat([early[:, 3:], late]), [1, 3], both)
        torch.testing.assert_close(logits[:1], run(model, early, 7)[0][:, 3:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logits[1:], run(model, late, 4)[0], atol=1e-5, rtol=1e-4)
        assert both["num_frames"].tolist() == [7, 4]


@streams
def test_later_frames_change_no_earlier_output(changes):
    model = network(tiny_config(**changes))
    frames = video(1, 6)
    changed = frames.clone()
    changed[:, 4:] = 1 - changed[:, 4:]
    with torch.inference_mode():
        before, after = run(model, frames, 6)[0], run(model, changed, 6)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_position_encoding_tells_the_frames_apart():
    plain, encoded = network(tiny_config()), network(tiny_config(position_encoding=True))
    encoded.load_state_dict(plain.state_dict(), strict=False)
    frames = video(1, 4)
    with torch.inference_mode():
        assert not torch.allclose(plain(frames), encoded(frames), atol=1e-4)
        for name, parameter in encoded.named_parameters():
            if name.endswith("position_scale"):
                parameter.zero_()
        assert torch.equal(plain(frames), encoded(frames))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("conv_type", ["3d", "2plus1d"])
def test_folded_network_is_the_plain_one(stream, conv_type):
    model = network(tiny_config(stream=stream, conv_type=conv_type))
    fast = fused(model)
    with torch.inference_mode():
        for size in ((19, 26), (32, 32), (5, 3), (1, 1)):
            clip = video(2, 6, *size)
            torch.testing.assert_close(fast(clip), model(clip), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["movinet-a0-stream", "movinet-a0-base"])
def test_folded_a0_is_the_plain_one(name):
    config = architecture("a0", stream=name.endswith("stream"), num_classes=10)
    model = network(config)
    clip = video(1, 3, 44, 50)
    with torch.inference_mode():
        expected = model(clip)
        torch.testing.assert_close(fused(model)(clip), expected, atol=1e-4, rtol=1e-4)


def test_plain_and_folded_network_share_a_stream():
    model = network(tiny_config())
    fast = fused(model)
    frames = video(1, 6)
    with torch.inference_mode():
        whole, _ = run(model, frames, 6)
        _, state = run(model, frames[:, :2], 1)
        _, state = run(fast, frames[:, 2:4], 1, state)
        logits, _ = run(model, frames[:, 4:], 2, state)
    torch.testing.assert_close(logits, whole[:, 4:], atol=1e-4, rtol=1e-4)


def test_folding_leaves_the_model_alone_and_cannot_be_saved(tmp_path):
    model = network(tiny_config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = fused(model).to(torch.bfloat16)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="save the model it was made from"):
        fast.save_pretrained(tmp_path)


@makers
def test_base_network_has_no_stream_and_says_so(make):
    model = make(network(tiny_config(stream=False)))
    with pytest.raises(StateError, match="create the stream variant"):
        model.init_state(1, 32, 32)
    with pytest.raises(StateError, match="whole clip"):
        model.step(video(1, 2), {})


@makers
@pytest.mark.parametrize(("batch", "height", "width"), [(2, 19, 26), (1, 26, 19), (1, 38, 26)])
def test_state_of_another_stream_is_refused(make, batch, height, width):
    model = make(network(tiny_config()))
    with pytest.raises(StateError, match="does not fit 1 streams of 19x26"):
        model.step(video(1, 1), model.init_state(batch, height, width))


# --- Layers against their equations --------------------------------------------------------------


def test_cumulative_mean_is_the_mean_so_far():
    x = torch.randn(2, 5, 3)
    earlier = torch.randn(2, 4, 3)
    mean, total = cumulative_mean(x, earlier.sum(1), frame_counts(torch.tensor([4, 4]), 5))
    for t in range(5):
        seen = torch.cat([earlier, x[:, : t + 1]], dim=1)
        torch.testing.assert_close(mean[:, t], seen.mean(1))
    torch.testing.assert_close(total, torch.cat([earlier, x], 1).sum(1))


def test_cumulative_mean_of_a_long_bf16_stream_does_not_stall():
    ones = torch.ones(1, 4096, 1, dtype=torch.bfloat16)
    mean, total = cumulative_mean(
        ones, torch.zeros(1, 1), frame_counts(torch.zeros(1).long(), 4096)
    )
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, ones)
    assert total.item() == 4096


@pytest.mark.parametrize("size", range(1, 9))
def test_average_pool_counts_no_padding(size):
    x = torch.randn(1, 2, size, 9 - size)
    pooled = average_pool_by_two(x)
    padded = pad_same(x, 3, 2)
    counted = pad_same(torch.ones_like(x), 3, 2)
    expected = F.avg_pool2d(padded, 3, 2) / F.avg_pool2d(counted, 3, 2)
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_same_padding_keeps_the_ceiling_of_the_size(kernel, stride):
    for size in range(1, 12):
        padded = pad_same(torch.zeros(1, 1, size, size + 1), kernel, stride)
        out = F.conv2d(padded, torch.zeros(1, 1, kernel, kernel), stride=stride)
        assert out.shape[-2:] == (-(-size // stride), -(-(size + 1) // stride))


def test_position_encoding_is_its_definition():
    encoding = position_encoding(torch.tensor([[7, 8]]), 6)
    for t, position in enumerate((7, 8)):
        for channel in range(3):
            angle = torch.tensor(position / 10_000 ** (2 * channel / 6))
            torch.testing.assert_close(encoding[0, t, channel], angle.sin())
            torch.testing.assert_close(encoding[0, t, 3 + channel], angle.cos())
