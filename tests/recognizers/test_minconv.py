"""MinConv cells against the published numbers, the baselines by their equations, the classifier."""

import json
import zlib

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from recognizers import create, load_state, save_state, select_rows
from recognizers.base import StreamingRecognizer, concat_rows
from recognizers.convrnn import ConvGRUCell, ConvLSTMCell, PaddedConv2d, RecurrentStack
from recognizers.errors import ConfigError, FrameError, StateError, WeightsError
from recognizers.minconv import (
    MINCONV_CELLS,
    MinConvClassifier,
    MinConvConfig,
    build_cell,
    cell_from_published,
)
from recognizers.scan import SCANS
from tests.conftest import golden_files

CELLS = (*MINCONV_CELLS, "convlstm", "convgru")
NAMES = ("minconv", "minconv-lstm", "minconv-gru", "minconv-explstm")


def seeded_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The weights of a golden file: every tensor is drawn from its own name."""
    weights = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        values = torch.randn(tuple(shape), generator=generator)
        scale = 0.1 if name.endswith("bias") else values[0].numel() ** -0.5
        weights[name] = values * scale
    return weights


# --- Published numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("path", golden_files("minconv"))
def test_published_numbers_from_both_initial_states(path, scan) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        x, parallel, sequential = (file.get_tensor(k) for k in ("x", "parallel", "sequential"))
    weights = seeded_weights(json.loads(metadata["shapes"]))
    cell = cell_from_published(metadata["kind"], weights, scan=scan)
    zero = cell.init_state(x.shape[0], *x.shape[3:])
    with torch.no_grad():
        half = {name: torch.full_like(leaf, 0.5) for name, leaf in zero.items()}
        for initial, expected in ((half, parallel), (zero, sequential)):
            hidden, _ = cell(x, initial)
            torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)
            state, steps = initial, []
            for t in range(x.shape[1]):
                step, state = cell(x[:, t : t + 1], state)
                steps.append(step)
            torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-4, atol=1e-5)


def test_published_weights_that_do_not_fit() -> None:
    weights = {"conv.0.weight": torch.zeros(6, 2, 3, 3), "conv.0.bias": torch.zeros(6)}
    assert cell_from_published("minconvlstm", weights).hidden_channels == 2
    assert cell_from_published("minconvgru", weights).hidden_channels == 3
    cylinder = {name.replace("0", "1"): value for name, value in weights.items()}
    assert cell_from_published("minconvlstm", cylinder).conv.padding_kind == "cylinder"
    without_bias = {"conv.0.weight": weights["conv.0.weight"]}
    assert cell_from_published("minconvlstm", without_bias).conv.bias is None
    with pytest.raises(ConfigError, match="'convlstm': allowed are minconvlstm"):
        cell_from_published("convlstm", weights)
    with pytest.raises(WeightsError, match=r"conv_a\.0\.weight"):
        cell_from_published("minconvlstm", {**weights, "conv_a.0.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="do not fit"):
        cell_from_published("minconvlstm", {**weights, "conv.0.bias": torch.zeros(5)})
    with pytest.raises(WeightsError, match="height, width"):
        cell_from_published("minconvlstm", {"conv.0.weight": torch.zeros(6, 2)})


# --- The law --------------------------------------------------------------------------------------


def carried_state(cell, x: Tensor) -> dict[str, Tensor]:
    """Any state at all: MinConv's is in the gates' reach whatever its sign."""
    return {
        name: torch.randn_like(leaf)
        for name, leaf in cell.init_state(x.shape[0], *x.shape[3:]).items()
    }


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_cut_of_a_stack_is_the_whole(name, dtype) -> None:
    stack = RecurrentStack([build_cell(name, 4, 4) for _ in range(2)]).to(dtype)
    x = torch.randn(2, 9, 4, 5, 6, dtype=dtype)
    zero = stack.init_state(2, 5, 6)
    assert {leaf.dtype for leaf in zero.values()} == {torch.float32}
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for initial in (zero, {k: torch.randn_like(v) for k, v in zero.items()}):
        with torch.no_grad():
            whole, _, end = stack(x, initial)
            for cuts in ((9,), (1,) * 9, (4, 3, 2)):
                state, parts = initial, []
                for part in x.split(cuts, dim=1):
                    out, _, state = stack(part, state)
                    parts.append(out)
                torch.testing.assert_close(
                    torch.cat(parts, dim=1), whole, rtol=tolerance, atol=tolerance
                )
                torch.testing.assert_close(state, end, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CELLS)
def test_state_goes_in_and_is_left_as_it_is(name) -> None:
    cell = build_cell(name, 2, 3)
    x = torch.randn(2, 4, 2, 5, 6)
    state = carried_state(cell, x)
    kept = {key: leaf.clone() for key, leaf in state.items()}
    before = {key: leaf.clone() for key, leaf in cell.state_dict().items()}
    _, after = cell(x, state)
    assert set(after) == set(state)
    assert all(state[key].equal(kept[key]) for key in state)
    assert all(value.equal(before[key]) for key, value in cell.state_dict().items())


@pytest.mark.parametrize("name", CELLS)
def test_gradient_reaches_the_initial_state(name) -> None:
    cell = build_cell(name, 2, 2).double()
    x = torch.randn(1, 3, 2, 3, 3, dtype=torch.float64)
    leaves = tuple(
        leaf.double().requires_grad_() for leaf in carried_state(cell, x.float()).values()
    )

    def run(*values: Tensor) -> Tensor:
        return cell(x, dict(zip(cell.state_names, values, strict=True)))[0]

    assert torch.autograd.gradcheck(run, leaves)


# --- Baselines, padding, refusals -----------------------------------------------------------------


def test_convlstm_step_is_the_equations() -> None:
    cell = ConvLSTMCell(2, 3)
    x = torch.randn(1, 1, 2, 4, 4)
    state = carried_state(cell, x)
    gates = torch.nn.functional.conv2d(
        torch.cat([x[:, 0], state["hidden"]], dim=1), cell.conv.weight, cell.conv.bias, padding=1
    )
    f, i, o, g = gates.split(3, dim=1)
    c = f.sigmoid() * state["cell"] + i.sigmoid() * g.tanh()
    hidden, after = cell(x, state)
    torch.testing.assert_close(after["cell"], c)
    torch.testing.assert_close(hidden[:, 0], o.sigmoid() * c.tanh())


def test_convgru_step_is_the_equations() -> None:
    cell = ConvGRUCell(2, 3)
    x = torch.randn(1, 1, 2, 4, 4)
    h = carried_state(cell, x)["hidden"]
    z, r = cell.gates(torch.cat([x[:, 0], h], dim=1)).sigmoid().split(3, dim=1)
    value = cell.candidate(torch.cat([x[:, 0], r * h], dim=1)).tanh()
    torch.testing.assert_close(cell(x, {"hidden": h})[0][:, 0], (1 - z) * h + z * value)


def test_padding_says_what_lies_beyond_the_border() -> None:
    x = torch.randn(1, 1, 5, 6)
    for kind, wraps in (
        ("zeros", (False, False)),
        ("circular", (True, True)),
        ("cylinder", (False, True)),
    ):
        conv = PaddedConv2d(1, 1, kernel_size=3, padding_kind=kind)
        out = conv(x)
        assert out.shape == x.shape
        for dim, wrapped in zip((2, 3), wraps, strict=True):
            rolled = conv(x.roll(2, dims=dim)).roll(-2, dims=dim)
            assert torch.allclose(rolled, out, atol=1e-6) == wrapped
    with pytest.raises(ConfigError, match="'mirror': allowed are zeros"):
        PaddedConv2d(1, 1, padding_kind="mirror")
    with pytest.raises(ConfigError, match="odd"):
        PaddedConv2d(1, 1, kernel_size=4)


def test_refusals_name_value_and_next_step() -> None:
    with pytest.raises(ConfigError, match="'minconv': allowed are minconvlstm"):
        build_cell("minconv", 2, 2)
    with pytest.raises(ConfigError, match="scan 'quick'"):
        build_cell("minconvgru", 2, 2, scan="quick")
    with pytest.raises(ConfigError, match="residual"):
        RecurrentStack([build_cell("minconvgru", 2, 3)])
    with pytest.raises(ConfigError, match="at least one layer"):
        RecurrentStack([])
    cell = build_cell("minconvgru", 2, 3)
    with pytest.raises(FrameError, match="2 channels"):
        cell(torch.zeros(1, 1, 3, 4, 4), cell.init_state(1, 4, 4))
    with pytest.raises(StateError, match="init_state"):
        cell(torch.zeros(1, 1, 2, 4, 4), cell.init_state(1, 4, 5))
    with pytest.raises(StateError, match=r"lacks 0\.hidden"):
        RecurrentStack([build_cell("minconvgru", 2, 2)])(torch.zeros(1, 1, 2, 4, 4), {})


# --- The classifier -------------------------------------------------------------------------------


def small(**changes: object) -> MinConvClassifier:
    config = MinConvConfig(**{"num_classes": 3, "stem_channels": (4, 6), **changes})
    return MinConvClassifier(config).eval()


@pytest.mark.parametrize("name", NAMES)
def test_names_build_light_classifiers(name) -> None:
    model = create(name, labels=["still", "moves"])
    assert model.labels == ("still", "moves")
    assert sum(p.numel() for p in model.parameters()) * 4 <= 3 * 10**6
    assert model(torch.rand(1, 2, 3, 96, 96)).shape == (1, 2)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_cut_of_a_stream_is_the_whole(cell, dtype) -> None:
    model = small(cell=cell).to(dtype)
    frames = torch.rand(2, 7, 3, 17, 22)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    with torch.no_grad():
        zero = model.init_state(2, 17, 22)
        _, carried = model.step(torch.rand(2, 3, 3, 17, 22), zero)
        for initial in (zero, carried):
            whole, _ = model.step(frames, initial)
            for cuts in ((1,) * 7, (3, 4), (5, 1, 1)):
                state, parts = initial, []
                for part in frames.split(cuts, dim=1):
                    logits, state = model.step(part, state)
                    parts.append(logits)
                torch.testing.assert_close(
                    torch.cat(parts, dim=1), whole, rtol=tolerance, atol=tolerance
                )


def test_small_blocks_give_the_same_logits(monkeypatch) -> None:
    model, frames = small(), torch.rand(1, 9, 3, 16, 16)
    with torch.no_grad():
        whole, _ = model.step(frames, model.init_state(1, 16, 16))
        monkeypatch.setattr("recognizers.convrnn.BLOCK_ELEMENTS", 1)
        blocks, _ = model.step(frames, model.init_state(1, 16, 16))
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_streams_that_share_a_batch_equal_each_alone(tmp_path) -> None:
    model, frames = small(), torch.rand(2, 6, 3, 16, 20)
    alone = [model.step(frames[i : i + 1], model.init_state(1, 16, 20))[0] for i in range(2)]
    # Stream 1 starts two frames later, leaves early, and its state travels through a file.
    first, state = model.step(frames[:1, :2], model.init_state(1, 16, 20))
    both = concat_rows([state, model.init_state(1, 16, 20)])
    paired = torch.stack([frames[0, 2:6], frames[1, :4]])
    logits, both = model.step(paired, both)
    save_state(select_rows(both, 1), tmp_path / "stream.safetensors")
    rest, _ = model.step(frames[1:, 4:], load_state(tmp_path / "stream.safetensors"))
    torch.testing.assert_close(torch.cat([first, logits[:1]], dim=1), alone[0])
    torch.testing.assert_close(torch.cat([logits[1:], rest], dim=1), alone[1])


def test_saved_and_loaded_again(tmp_path) -> None:
    model = small(cell="minconvgru")
    model.save_pretrained(tmp_path)
    again = StreamingRecognizer.from_pretrained(tmp_path)
    assert again.config == model.config
    clip = (torch.rand(1, 4, 3, 16, 16) * 255).byte()
    with torch.no_grad():
        assert again(clip).equal(model(clip))


def test_uint8_frames_are_frames_in_0_to_1() -> None:
    model, clip = small(), (torch.rand(1, 3, 3, 16, 16) * 255).byte()
    with torch.no_grad():
        torch.testing.assert_close(model(clip), model(clip.float() / 255))


def test_classifier_refuses_what_does_not_fit() -> None:
    model = small()
    with pytest.raises(StateError, match="16x24"):
        model.step(torch.rand(1, 1, 3, 16, 24), model.init_state(1, 16, 16))
    with pytest.raises(StateError, match="2 streams"):
        model.step(torch.rand(2, 1, 3, 16, 16), model.init_state(1, 16, 16))
    with pytest.raises(ConfigError, match="stem"):
        MinConvConfig(num_classes=2, stem_channels=())
    with pytest.raises(ConfigError, match="0 classes"):
        MinConvConfig(num_classes=0)


def test_it_learns_which_way_a_square_moves() -> None:
    # Only the order of frames tells the classes apart: the same pictures in reverse.
    frames = torch.zeros(8, 6, 3, 16, 16)
    for row in range(8):
        for t in range(6):
            frames[row, t, :, 2 * (row % 4) : 2 * (row % 4) + 5, 2 * t : 2 * t + 5] = 1.0
    frames[4:] = frames[4:].flip(1)
    labels = torch.arange(8) // 4
    model = small(num_classes=2, num_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(frames), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(frames).argmax(dim=1) == labels).all()
