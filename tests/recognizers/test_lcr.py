"""LCR: the streaming law, the published sizes, what each part promises, where it explodes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import recognizers
from recognizers import lcr
from recognizers.base import State, StreamingRecognizer, concat_rows, select_rows
from recognizers.errors import ConfigError, FrameError, StateError, UnknownNameError
from recognizers.lcr import LCR, LCRConfig, multiply_adds, rotary_tables, rotate, tube_mask
from recognizers.lcr_cell import LCRLayer, bounded_update, published_update
from recognizers.wkv import bi_wkv_reference

SMALL = LCRConfig(num_classes=5, dim=16, depth=2, num_heads=2, patch_size=8)
HEIGHT, WIDTH = 24, 32
CUTS = [[7], [1] * 7, [3, 1, 3], [2, 5]]
# Every part of bf16 rounds alike however a stream is cut, save for products of other batch sizes.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def small(cell: str = "bounded", dtype: torch.dtype = torch.float32, **changes: object) -> LCR:
    """A model whose every part shows in its logits: edges let in, weights of some size."""
    torch.manual_seed(0)
    model = LCR(replace(SMALL, cell=cell, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("edge_patches"):
                parameter.normal_(std=0.05)
            elif name == "edge_class_token":
                parameter.normal_(std=0.3)
            elif parameter.ndim == 2:
                parameter.mul_(1.5)
    return model.to(dtype)


def clip(batch_size: int = 2, num_frames: int = 7) -> Tensor:
    """uint8 (B, T, 3, H, W) of drifting blots, so that edges are neither all nor none."""
    coarse = torch.randint(0, 256, (batch_size, num_frames, 3, HEIGHT // 4, WIDTH // 4))
    picture = coarse.repeat_interleave(4, dim=-2).repeat_interleave(4, dim=-1)
    return picture.to(torch.uint8)


def in_cuts(model: LCR, frames: Tensor, cuts: list[int], state: State) -> tuple[Tensor, State]:
    logits = []
    for part in frames.split(cuts, dim=1):
        part_logits, state = model.step(part, state)
        logits.append(part_logits)
    return torch.cat(logits, dim=1), state


@pytest.mark.parametrize("cell", ["published", "bounded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_any_cut_of_a_stream_is_the_whole_from_zero_and_from_a_carried_state(cell, dtype) -> None:
    model, tolerance = small(cell, dtype), TOLERANCE[dtype]
    zero = model.init_state(2, HEIGHT, WIDTH)
    _, carried = model.step(clip(num_frames=4), zero)
    frames = clip()
    for start in (zero, carried):
        whole, after = model.step(frames, start)
        assert whole.shape == (2, 7, 5)
        assert whole.std() > 0.1
        for cuts in CUTS:
            pieces, after_pieces = in_cuts(model, frames, cuts, start)
            torch.testing.assert_close(pieces, whole, rtol=tolerance, atol=tolerance)
            for name, leaf in after.items():
                torch.testing.assert_close(after_pieces[name], leaf, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        model(frames), model.step(frames, zero)[0][:, -1], rtol=tolerance, atol=tolerance
    )


@torch.no_grad()
def test_the_inner_cut_of_long_inputs_changes_nothing(monkeypatch) -> None:
    model, frames = small(), clip()
    whole, _ = model.step(frames, model.init_state(2, HEIGHT, WIDTH))
    monkeypatch.setattr(lcr, "CHUNK_NUMBERS", 2 * 13 * 16 * 3)  # three frames at a time
    again, _ = model.step(frames, model.init_state(2, HEIGHT, WIDTH))
    torch.testing.assert_close(again, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_interleaved_and_batched_streams_are_each_alone(dtype: torch.dtype) -> None:
    model, tolerance = small(dtype=dtype), TOLERANCE[dtype]
    frames = clip()
    alone = [model.step(frames[i : i + 1], model.init_state(1, HEIGHT, WIDTH))[0] for i in (0, 1)]
    states = [model.init_state(1, HEIGHT, WIDTH) for _ in range(2)]
    for t in range(3):  # turn by turn
        for i in (0, 1):
            logits, states[i] = model.step(frames[i : i + 1, t : t + 1], states[i])
            torch.testing.assert_close(
                logits, alone[i][:, t : t + 1], rtol=tolerance, atol=tolerance
            )
    # The second stream now starts over while the first goes on, in one batch.
    joined = concat_rows([states[0], model.init_state(1, HEIGHT, WIDTH)])
    both = torch.cat([frames[:1, 3:], frames[1:, :4]])
    logits, after = model.step(both, joined)
    torch.testing.assert_close(logits[:1], alone[0][:, 3:], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(logits[1:], alone[1][:, :4], rtol=tolerance, atol=tolerance)
    assert select_rows(after, 0)["hidden"].shape == (1, 2, 13, 16)


@torch.no_grad()
def test_a_step_leaves_its_state_alone_and_cannot_see_ahead() -> None:
    model, frames = small(), clip()
    state = model.init_state(2, HEIGHT, WIDTH)
    logits, _ = model.step(frames, state)
    assert all(not leaf.any() for leaf in state.values())
    changed = frames.clone()
    changed[:, 5:] = 255 - changed[:, 5:]
    other, _ = model.step(changed, state)
    torch.testing.assert_close(other[:, :5], logits[:, :5])
    assert not torch.allclose(other[:, 5:], logits[:, 5:])


@torch.no_grad()
def test_a_layer_is_its_equations() -> None:
    layer = LCRLayer(8, 2, 4, cell="published", keys="edges", depth_share=0.0)
    x, e, h, c = (
        torch.randn(1, 5, 8),
        torch.randn(1, 5, 8),
        torch.randn(1, 5, 8),
        torch.randn(1, 5, 8),
    )
    gate, mixing = layer.gate, layer.gate.channel_mixing
    w_rg = torch.cat([gate.frame_receptance_gate.weight, gate.hidden_receptance_gate.weight], dim=1)
    r, g = (torch.cat([gate.norm(x), h], dim=-1) @ w_rg.T).chunk(2, dim=-1)
    k, v = (e @ gate.key_value.weight.T).chunk(2, dim=-1)
    wkv = bi_wkv_reference(gate.decay, gate.bonus, k, v)
    heads = [torch.nn.functional.layer_norm(part, (4,)) for part in (r * wkv).chunk(2, dim=-1)]
    a = x + (torch.nn.functional.silu(g) * torch.cat(heads, dim=-1)) @ gate.output.weight.T
    rk = mixing.norm(a) @ mixing.receptance_key.weight.T
    big_a = a + rk[..., :8].sigmoid() * (rk[..., 8:].relu() ** 2 @ mixing.value.weight.T)
    cell = e * (big_a.tanh() + c) + c
    output, class_cell, after = layer(x[:, None], e[:, None], h, c)
    torch.testing.assert_close(after, cell)
    torch.testing.assert_close(class_cell[:, 0], cell[:, 0])
    torch.testing.assert_close(output[:, 0], cell.tanh() * big_a.sigmoid())


def test_the_published_cell_explodes_and_the_bounded_one_cannot() -> None:
    edge, gate = torch.full((1, 1, 4), 0.5), torch.full((1, 1, 4), 2.0)
    published = bounded = torch.zeros(1, 1, 4)
    sizes = []
    for _ in range(300):
        published, bounded = (
            published_update(published, gate, edge),
            bounded_update(bounded, gate, edge),
        )
        sizes.append(float(published.max()))
        assert bounded.abs().max() <= 1.0
    # C_t + tanh(A) grows by 1 + e every frame: beyond float32 after log(3.4e38) / log(1.5) frames.
    assert sizes[99] == pytest.approx(math.tanh(2.0) * (1.5**100 - 1), rel=1e-4)
    assert math.isinf(sizes[219])
    # Once infinite, an edge prompt below -1 turns the cell into no number at all.
    assert published_update(published, gate, -1.5 * torch.ones_like(edge)).isnan().all()


def test_the_bounded_cell_writes_as_the_published_does_and_forgets_only_where_it_writes() -> None:
    cell, gate = torch.rand(50) * 2 - 1, 5 * torch.randn(50)
    nothing = torch.zeros(50)
    assert torch.equal(bounded_update(cell, gate, nothing), cell)
    assert torch.equal(published_update(cell, gate, nothing), cell)
    edge = 1e-3 * torch.randn(50)
    fresh = [update(nothing, gate, edge) for update in (bounded_update, published_update)]
    torch.testing.assert_close(*fresh, rtol=1e-5, atol=0)
    for size in (0.1, 1.0, 10.0, 1000.0):
        assert bounded_update(cell, gate, size * torch.randn(50)).abs().max() <= 1.0


@pytest.mark.parametrize(("cell", "explodes"), [("published", True), ("bounded", False)])
@torch.no_grad()
def test_a_long_stream_ends_in_numbers_only_with_the_bounded_cell(
    cell: str, explodes: bool
) -> None:
    model, frames = small(cell), clip(1, 1).expand(-1, 600, -1, -1, -1)
    logits, state = model.step(frames, model.init_state(1, HEIGHT, WIDTH))
    assert (not logits[:, -1].isfinite().all()) == explodes
    assert (float(state["cell"].abs().nan_to_num(math.inf).max()) > 1.0) == explodes


def test_the_jester_model_has_the_published_size() -> None:
    with torch.device("meta"):
        model = recognizers.create("lcr-jester")
    num_parameters = sum(p.numel() for p in model.parameters())
    assert model.config.num_classes == 27
    assert model.config.cell == "published"
    assert round(num_parameters / 1e6, 2) == 5.14
    # One frame of 224x224; 0.022 T are 22 frames of multiply-adds (docs/recognizers/lcr.md).
    assert round(22 * multiply_adds(model.config, 224, 224) / 1e12, 3) == 0.022


def test_counted_multiply_adds_are_those_that_run() -> None:
    model = small()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.step(clip(1, 3), model.init_state(1, HEIGHT, WIDTH))
    assert counter.get_total_flops() == 2 * 3 * multiply_adds(model.config, HEIGHT, WIDTH)


def test_the_tiny_model_fits_the_pre_filter(tmp_path) -> None:
    model = recognizers.create("lcr-tiny", labels=["nothing", "something"])
    assert model.labels == ("nothing", "something")
    folder = model.half().save_pretrained(tmp_path / "tiny")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6


@torch.no_grad()
def test_saved_and_loaded_is_the_same_model(tmp_path) -> None:
    model, frames = small("published", mask_ratio=0.5), clip()
    loaded = StreamingRecognizer.from_pretrained(model.save_pretrained(tmp_path))
    assert isinstance(loaded, LCR)
    assert loaded.config == model.config
    assert torch.equal(loaded(frames), model(frames))


def test_edges_say_nothing_at_first_and_then_learn() -> None:
    model, frames = LCR(SMALL), clip()
    logits = model(frames)
    with torch.no_grad():
        prompts = model._tokens(frames, None)[1][:, :, 1:]
    assert not prompts.any()
    logits.square().sum().backward()
    assert model.edge_patches.weight.grad.abs().max() > 0


def silent_parameters(model: LCR) -> set[str]:
    """Names of the parameters that the loss says nothing to."""
    model(clip()).square().sum().backward()
    return {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}


def test_every_weight_learns_but_as_printed_the_pictures_do_not_reach_the_class() -> None:
    assert not silent_parameters(small("published"))
    assert not silent_parameters(small("bounded"))
    printed = small("published", keys="edges")
    assert silent_parameters(printed) == {"patches.weight", "patches.bias"}
    # The same outlines in other colours: nothing but the edges is told apart.
    gray = torch.full((1, 1, 3, HEIGHT, WIDTH), 60, dtype=torch.uint8)
    gray[..., 8:20, 10:26] = 160
    other = gray.clone()
    other[..., :, :] = torch.where(gray == 60, 70, 150).to(torch.uint8)
    with torch.no_grad():
        assert torch.equal(printed(gray), printed(other))
        assert not torch.equal(small()(gray), small()(other))


def test_rotary_positions_keep_lengths_and_know_only_differences() -> None:
    cosine, sine = rotary_tables((5, 6), 16, 100.0, torch.zeros(1, dtype=torch.float64))
    tokens = torch.randn(30, 16, dtype=torch.float64)
    turned = rotate(tokens, cosine, sine)
    torch.testing.assert_close(turned.norm(dim=-1), tokens.norm(dim=-1))
    torch.testing.assert_close(turned[0], tokens[0])
    query, key = torch.randn(2, 16, dtype=torch.float64)
    queries, keys = (rotate(x.expand(30, 16), cosine, sine).view(5, 6, 16) for x in (query, key))
    one = queries[1, 2] @ keys[3, 5]
    torch.testing.assert_close(queries[0, 0] @ keys[2, 3], one)
    assert (queries[1, 2] @ keys[3, 4] - one).abs() > 1e-6


def test_a_tube_mask_hides_the_same_patches_in_every_frame() -> None:
    kept = tube_mask(4, 12, 0.75)
    assert kept.shape == (4, 3)
    assert (kept.diff(dim=1) > 0).all()
    assert tube_mask(1, 12, 0.99).shape == (1, 1)
    model, frames = small(mask_ratio=0.5), clip()
    assert "kept" not in model.init_state(2, HEIGHT, WIDTH)
    state = model.train().init_state(2, HEIGHT, WIDTH)
    assert state["hidden"].shape == (2, 2, 7, 16)
    # What a mask hides cannot be seen, in no frame; what it keeps is read where it was.
    patches = torch.zeros(2, 12)
    patches.scatter_(1, state["kept"], 1.0)
    tokens, _ = model._tokens(frames, state["kept"])
    everything, _ = model._tokens(frames, None)
    for row in range(2):
        seen = torch.cat([torch.ones(1), patches[row]]).bool()
        torch.testing.assert_close(tokens[row], everything[row][:, seen])
    whole, _ = model.step(frames, state)
    pieces, _ = in_cuts(model, frames, [3, 4], state)
    torch.testing.assert_close(pieces, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "lstm"}, "choose one of published, bounded"),
        ({"keys": "all"}, "choose one of edges, both"),
        ({"dim": 18}, "give a multiple of 4"),
        ({"num_heads": 3}, "of num_heads"),
        ({"depth": 0}, "depth=0: give 1 or more"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0: give a share"),
        ({"rotary_base": 0.0}, "rotary_base=0.0"),
    ],
)
def test_contradicting_sizes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **changes)


def test_wrong_shapes_are_refused_with_the_next_step() -> None:
    model = small()
    with pytest.raises(FrameError, match="resize it to multiples of 8"):
        model.init_state(1, 30, 32)
    with pytest.raises(FrameError, match="give \\(batch, time"):
        model(torch.zeros(3, HEIGHT, WIDTH))
    state = model.init_state(1, HEIGHT, WIDTH)
    with pytest.raises(StateError, match="make it with init_state\\(2, 24, 32\\)"):
        model.step(clip(), state)
    with pytest.raises(StateError, match="12 patches, frames of 1 of 8"):
        model.step(clip(1)[..., :16, :], state)
    with pytest.raises(StateError, match="lacks cell: make it with this model's init_state"):
        model.step(clip(1), {"hidden": state["hidden"]})
    with pytest.raises(UnknownNameError, match="lcr-jester"):
        recognizers.create("lcr-jestr")
