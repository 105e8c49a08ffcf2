"""RRM: exact mode is the plain network, sparse mode stays near it, state is a value."""

import pytest
import torch
from torch import nn

from recognizers import concat_rows, load_state, save_state, select_rows
from recognizers.errors import ConfigError, FrameError, StateError
from recognizers.rrm import (
    DifferenceNetwork,
    RRMConfig,
    UnsupportedModuleError,
    calibrate,
    plain_outputs,
    relative_errors,
    wrap,
)
from recognizers.rrm.regions import Box
from tests.recognizers.rrm_networks import NETWORKS, network, video

SIZES = [(64, 64), (67, 49)]
SPARSE = RRMConfig(threshold=0.05, refresh_every=4)


@pytest.fixture(autouse=True)
def _calls_cost_nothing(monkeypatch):
    """At toy sizes the cost model would compute everything whole; here boxes must be at work."""
    for name in ("CALL", "WEIGHT", "SMALL_STAGE"):
        monkeypatch.setattr(f"recognizers.rrm.stages.{name}", 0.0)


def plain(module, frames):
    with torch.no_grad():
        return module(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


def run(streaming, frames, sizes=None, state=None, **options):
    state = state or streaming.init_state(len(frames), *frames.shape[-2:])
    outputs = []
    for chunk in frames.split(sizes or frames.shape[1], dim=1):
        output, state = streaming.step(chunk, state, **options)
        outputs.append(output)
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_mode_is_the_plain_network(name, size):
    module = network(name)
    frames = video(8, *size)
    streaming = wrap(module)
    outputs, state = run(streaming, frames)
    torch.testing.assert_close(outputs, plain(module, frames), rtol=1e-5, atol=1e-5)
    # And it did skip: else this would prove nothing.
    assert max(row.share_skipped for row in streaming.report(state)) > 0.2


def cut(value, box):
    return value[:, :, box.top : box.bottom, box.left : box.right]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_corner_of_every_stage_equals_the_whole(name):
    streaming = wrap(network(name))
    plan = streaming.plan(67, 49)
    values = {plan.input: torch.randn(1, 3, 67, 49)}
    for stage in plan.stages:
        values[stage.output] = stage.run(*(values[edge] for edge in stage.inputs))
        if not stage.is_local:
            continue
        height, width = stage.size
        for top in {0, height // 2, height - 1}:
            for left in {0, width // 3, width - 1}:
                box = Box(top, min(top + 2, height), left, min(left + 3, width))
                patch = stage.patch(box)
                inputs = []
                for edge in stage.inputs:
                    value = values[edge]
                    if plan.edges[edge].is_map:
                        value = cut(value, stage.input_box(patch, edge, tuple(value.shape[2:])))
                    inputs.append(value)
                inner = Box(
                    box.top - patch.top,
                    box.bottom - patch.top,
                    box.left - patch.left,
                    box.right - patch.left,
                )
                torch.testing.assert_close(
                    cut(stage.run(*inputs), inner),
                    cut(values[stage.output], box),
                    rtol=1e-5,
                    atol=1e-5,
                )


@pytest.mark.parametrize("name", NETWORKS)
def test_published_equation_agrees_and_its_rounding_adds_up(name):
    module = network(name)
    frames = video(8, 40, 40)
    reference, state = DifferenceNetwork(module), {}
    outputs = []
    for frame in frames.unbind(1):
        output, state = reference.step(frame, state)
        outputs.append(output)
    expected = plain(module, frames)
    torch.testing.assert_close(torch.stack(outputs, dim=1), expected, rtol=1e-3, atol=1e-3)


def test_recomputing_does_not_drift_where_adding_differences_does():
    module = network("resnet")
    torch.manual_seed(1)
    loud, quiet = 1e3 * torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)
    reference, streaming = DifferenceNetwork(module), wrap(module)
    state, ours = {}, streaming.init_state(1, 32, 32)
    for _ in range(20):
        for frame in (loud, quiet):
            published, state = reference.step(frame, state)
            output, ours = streaming.step(frame[:, None], ours)
    with torch.no_grad():
        expected = module(quiet)
    drift = float((published - expected).abs().max())
    assert float((output[:, 0] - expected).abs().max()) < 1e-5 < drift


# --- The law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [RRMConfig(), SPARSE], ids=["exact", "sparse"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "inception"])
def test_any_chunking_gives_the_same(name, config, dtype):
    streaming = wrap(network(name), config).to(dtype)
    frames = video(9, 48, 40).to(dtype)
    whole, last = run(streaming, frames)
    for sizes in (1, [2, 7], [5, 4]):
        outputs, state = run(streaming, frames, sizes)
        assert torch.equal(outputs, whole)
        assert all(torch.equal(state[leaf], last[leaf]) for leaf in last)
    # From a carried state.
    _, carried = run(streaming, frames[:, :4])
    assert torch.equal(run(streaming, frames[:, 4:], 2, carried)[0], whole[:, 4:])


@pytest.mark.parametrize("config", [RRMConfig(), SPARSE], ids=["exact", "sparse"])
def test_streams_in_a_batch_equal_each_alone(config):
    streaming = wrap(network("mobilenet"), config)
    frames = video(6, 48, 40, batch_size=3)
    together, state = run(streaming, frames, 2)
    for row in range(3):
        alone, alone_state = run(streaming, frames[row : row + 1], 2)
        assert torch.equal(together[row : row + 1], alone)
        picked = select_rows(state, row)
        assert all(torch.equal(picked[leaf], alone_state[leaf]) for leaf in picked)


def test_streams_of_different_age_share_a_batch():
    streaming = wrap(network("mobilenet"), SPARSE)
    frames = video(8, 48, 40, batch_size=2)
    whole, _ = run(streaming, frames)
    _, old = run(streaming, frames[:1, :5])
    both = concat_rows([old, streaming.init_state(1, 48, 40)])
    outputs, _ = run(streaming, torch.cat([frames[:1, 5:], frames[1:, :3]]), state=both)
    assert torch.equal(outputs[0], whole[0, 5:])
    assert torch.equal(outputs[1], whole[1, :3])


@pytest.mark.parametrize("config", [RRMConfig(), SPARSE], ids=["exact", "sparse"])
def test_state_given_in_is_left_as_it_is_unless_given_up(config):
    streaming = wrap(network("inception"), config)
    frames = video(6, 48, 40)
    _, state = run(streaming, frames[:, :2])
    copy = {leaf: value.clone() for leaf, value in state.items()}
    kept = frames.clone()
    outputs, _ = run(streaming, frames[:, 2:], 1, state)
    assert all(torch.equal(state[leaf], copy[leaf]) for leaf in state)
    assert torch.equal(frames, kept)
    assert torch.equal(run(streaming, frames[:, 2:], 1, copy, consume=True)[0], outputs)
    assert torch.equal(frames, kept)


def test_state_survives_a_file(tmp_path):
    streaming = wrap(network("preactivation"), SPARSE)
    frames = video(6, 32, 32)
    whole, _ = run(streaming, frames)
    _, state = run(streaming, frames[:, :3])
    save_state(state, tmp_path / "state")
    assert streaming.report(load_state(tmp_path / "state")) == streaming.report(state)
    assert torch.equal(
        run(streaming, frames[:, 3:], state=load_state(tmp_path / "state"))[0], whole[:, 3:]
    )


# --- Sparse mode ----------------------------------------------------------------------------------


def test_still_video_costs_nothing_after_the_first_frame():
    streaming = wrap(network("mobilenet"), RRMConfig(threshold=0.01, refresh_every=0))
    frames = video(1, 64, 64).repeat(1, 10, 1, 1, 1)
    outputs, state = run(streaming, frames)
    assert torch.equal(outputs[:, 0], outputs[:, -1])
    assert all(row.share_skipped == pytest.approx(0.9) for row in streaming.report(state))
    assert {row.layer for row in streaming.report(state)} >= {"head.2", "head.5"}


def test_slow_change_adds_up_until_it_counts():
    module = network("resnet")
    threshold = 0.2
    streaming = wrap(module, RRMConfig(threshold=threshold, refresh_every=0))
    start = video(1, 32, 32)
    steps = torch.linspace(0, 2, 41)[:, None, None, None]
    frames = start + steps  # each frame is far below the threshold from the one before
    _, state = run(streaming, frames)
    distance = (state["edge.pictures"] - frames[:, -1]).square().mean(1).sqrt()
    scale = float(state["scales"].max())
    assert float(distance.max()) <= threshold * scale
    assert float((frames[:, -1] - frames[:, 0]).abs().min()) > threshold * scale


def test_refresh_measures_and_clears_the_error():
    module = network("resnet")
    frames = video(4, 48, 48)
    frames += 0.05 * torch.randn(frames.shape)
    streaming = wrap(module, RRMConfig(threshold=0.3, refresh_every=3))
    outputs, state = run(streaming, frames)
    expected = plain(module, frames)
    errors = relative_errors(outputs[0], expected[0])
    # Frame 0 fills the state, frame 3 is the third after it.
    assert errors[3] < 1e-5 < errors[1]
    assert 1e-5 < float(state["error"]) < 1
    never = wrap(module, RRMConfig(threshold=0.3, refresh_every=0))
    stale = run(never, frames)[0]
    assert float(relative_errors(stale[0], expected[0])[3]) == pytest.approx(
        float(state["error"]), rel=1e-3
    )


def test_thresholds_follow_the_target_error():
    module = network("resnet")
    frames = video(1, 48, 48) + torch.linspace(0, 2, 40)[:, None, None, None]
    frames += 0.05 * torch.randn(frames.shape)
    expected = plain(module, frames)[0]
    errors = []
    for target in (None, 0.02):
        config = RRMConfig(threshold=0.5, refresh_every=4, target_error=target)
        outputs, state = run(wrap(module, config), frames)
        errors.append(float(relative_errors(outputs[0], expected)[20:].mean()))
    assert float(state["gain"]) < 1
    assert errors[1] < 0.03 < errors[0]


def test_lower_threshold_less_error_more_work():
    module = network("mobilenet")
    frames = video(5, 64, 64)
    frames += 0.03 * torch.randn(frames.shape)
    errors, skipped = [], []
    for threshold in (0.5, 0.1, 0.0):
        streaming = wrap(module, RRMConfig(threshold=threshold, refresh_every=0))
        outputs, state = run(streaming, frames)
        errors.append(float(relative_errors(outputs[0], plain(module, frames)[0]).mean()))
        rows = streaming.report(state)
        skipped.append(sum(row.share_skipped for row in rows) / len(rows))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5
    assert skipped[0] > skipped[1] > skipped[2]


def test_frame_that_is_new_all_over_runs_as_the_plain_network():
    streaming = wrap(network("resnet"), RRMConfig(threshold=0.05, refresh_every=0))
    frames = torch.randn(1, 4, 3, 48, 48)
    outputs, state = run(streaming, frames)
    assert torch.equal(outputs[0], plain_outputs(streaming, frames[0]))
    assert all(row.share_skipped == 0 for row in streaming.report(state))


@pytest.mark.parametrize("config", [RRMConfig(), SPARSE], ids=["exact", "sparse"])
def test_camera_that_moves_and_then_rests(config):
    streaming = wrap(network("resnet"), config)
    resting = video(14, 48, 48)[:, 6:].repeat(1, 3, 1, 1, 1)
    frames = torch.cat([torch.randn(1, 9, 3, 48, 48), resting], dim=1)
    whole, state = run(streaming, frames)
    assert torch.equal(run(streaming, frames, [1, 5, 4, 23])[0], whole)
    expected = plain(streaming.plain, frames)
    torch.testing.assert_close(whole[:, :9], expected[:, :9], rtol=1e-5, atol=1e-5)
    if config.exact:
        torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)
        assert max(row.share_skipped for row in streaming.report(state)) > 0.1
        assert int(state["wait"]) == int(state["moving"]) == 0


def test_looking_in_vain_is_noticed_below_the_dense_share():
    streaming = wrap(network("resnet"), RRMConfig(threshold=0.01, refresh_every=0))
    frames = torch.randn(1, 1, 3, 48, 48).repeat(1, 8, 1, 1, 1)
    frames[:, 1:, :, 12:36] = torch.randn(1, 7, 3, 24, 48)  # half of every frame
    outputs, state = run(streaming, frames)
    assert int(state["moving"]) > 1
    # Frames that are not looked at are exact.
    exact = relative_errors(outputs[0], plain(streaming.plain, frames)[0]) < 1e-6
    assert int(exact.sum()) >= 4


def test_not_a_number_is_never_skipped():
    streaming = wrap(network("resnet"), SPARSE)
    frames = video(2, 32, 32)
    frames[:, 1, :, 4, 4] = float("nan")
    outputs, _ = run(streaming, frames)
    assert outputs[:, 0].isfinite().all()
    assert outputs[:, 1].isnan().any()


def test_calibration_keeps_to_the_target():
    module = network("resnet")
    frames = video(6, 48, 48)[0]
    frames = frames + 0.05 * torch.randn(frames.shape)
    config = calibrate(module, frames, target_error=0.02, trials=4)
    assert not config.exact
    outputs, _ = run(wrap(module, config), frames[None])
    expected = plain_outputs(wrap(module), frames)
    assert float(relative_errors(outputs[0], expected).mean()) <= 0.02
    assert config.input_threshold == pytest.approx(config.threshold / 2)
    with pytest.raises(ConfigError, match="target_error 2"):
        calibrate(module, frames, target_error=2)


# --- What is refused ------------------------------------------------------------------------------


class Odd(nn.Module):
    """A network with one strange layer or call."""

    def __init__(self, layer=None, call=None):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.strange = layer or nn.Identity()
        self.call = call

    def forward(self, x):
        x = self.strange(self.first(x))
        return self.call(x) if self.call else x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Odd(nn.ConvTranspose2d(4, 4, 2)), r"ConvTranspose2d \(strange\) is not supported"),
        (Odd(nn.InstanceNorm2d(4)), r"InstanceNorm2d \(strange\)"),
        (Odd(nn.Conv2d(4, 4, 3, padding_mode="circular")), "padding_mode 'circular'"),
        (Odd(nn.Conv2d(4, 4, 2, padding="same")), "padding 'same' and an even window"),
        (Odd(nn.MaxPool2d(2, return_indices=True)), "return_indices"),
        (Odd(call=lambda x: x.cumsum(1)), "method or attribute 'cumsum'"),
        (Odd(call=torch.fft.rfft2), "function 'fft_rfft2'"),
        (Odd(call=lambda x: torch.cat([x, x], dim=2)), "cat over axis 2"),
        (Odd(call=lambda x: x.mean(1)), "mean over 1"),
        (Odd(call=lambda x: (x, x)), "must return one tensor"),
        (Odd(call=lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
    ],
)
def test_unsupported_parts_are_named(module, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        wrap(module)


def test_joins_without_a_form_per_region_are_named():
    module = Odd(call=lambda x: x + torch.flatten(x, 1)[:, :0] if False else x)
    wrap(module)  # the plain part is fine
    with pytest.raises(UnsupportedModuleError, match="neither a map of its size"):
        wrap(Odd(call=lambda x: x + torch.nn.functional.adaptive_avg_pool2d(x, (1, 8)))).init_state(
            1, 8, 8
        )


def test_module_is_left_as_it_is():
    module = network("mobilenet").train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    streaming = wrap(module)
    run(streaming, video(3, 32, 32))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in streaming.parameters())


def test_bad_frames_states_and_settings_are_refused():
    streaming = wrap(network("resnet"))
    state = streaming.init_state(1, 32, 32)
    with pytest.raises(FrameError, match="give \\(batch, time, 3, height, width\\)"):
        streaming.step(torch.zeros(1, 3, 32, 32), state)
    with pytest.raises(StateError, match=r"edge\.pictures has shape"):
        streaming.step(torch.zeros(1, 1, 3, 40, 32), state)
    with pytest.raises(StateError, match="is missing"):
        streaming.step(torch.zeros(1, 1, 3, 32, 32), {})
    with pytest.raises(FrameError, match="do not fit the network"):
        wrap(nn.Conv2d(3, 4, 9)).init_state(1, 4, 4)
    with pytest.raises(ConfigError, match="threshold = -1"):
        RRMConfig(threshold=-1)
    with pytest.raises(ConfigError, match="both 0"):
        RRMConfig(threshold=0.1, input_threshold=0.0)
    with pytest.raises(ConfigError, match=r"target_error 0\.1 with refresh_every 0"):
        RRMConfig(target_error=0.1, refresh_every=0)
    with pytest.raises(ConfigError, match="dense_share = 0"):
        RRMConfig(dense_share=0)
    with pytest.raises(ConfigError, match="refresh_every -1"):
        RRMConfig(refresh_every=-1)
