"""Ablations: every variant can be built, trained and measured, and a grid can be gone on with."""

from dataclasses import replace

import pytest
import torch

from tests.helpers import small_config, tiny_config, tiny_vlm
from timevlm.api import TimeVLM
from timevlm.errors import InputError
from timevlm.llm import TransV
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.training import ablate
from timevlm.training.ablate import (
    GRIDS,
    AblationConfig,
    AveragePooledModel,
    Variant,
    build_variant,
    grid_variants,
    run_grid,
    with_shut_gates,
)

NANO_PATTERN = "M-*-M-*-"
LLM = small_config(NANO_PATTERN)


def start() -> TimeVLM:
    """A tiny model with nano's pattern."""
    vlm = tiny_vlm()
    llm = {**vlm.model.config.llm_config, "pattern": NANO_PATTERN, "transv": []}
    model = TimeVLMForConditionalGeneration(tiny_config(llm_config=llm, place_embedding=True))
    return TimeVLM(model, vlm.processor, "start")


def test_the_compression_grid_has_every_rule_ratio_and_placement():
    variants = grid_variants("compression", LLM)
    assert len(variants) == len({v.name for v in variants}) == 1 + 4 * 3 * 2
    for variant in variants[1:]:
        last = variant.transv[-1]
        assert last["keep"] in ablate.KEEPS
        assert last["layer"] in (2, 6)
    with pytest.raises(InputError, match="two attention layers"):
        grid_variants("compression", replace(LLM, pattern="M-M-M-*-", transv=()))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_variant_of_a_grid_can_be_built(grid):
    begun = start()
    shared = begun.model.state_dict()
    sizes = []
    for variant in grid_variants(grid, LLM):
        if variant.tokens_per_frame is not None and variant.tokens_per_frame > 4:
            continue  # the tiny model's frames have four patches
        model, processor = build_variant(begun, variant)
        assert processor.tokens_per_frame == model.config.tokens_per_frame
        for name in ("vision.", "projector.", "places.", "llm.backbone.embeddings."):
            mine = {k: v for k, v in model.state_dict().items() if k.startswith(name)}
            assert mine
            assert all(torch.equal(value, shared[k]) for k, value in mine.items())
        sizes.append(sum(p.numel() for p in model.llm.parameters()))
    if grid == "mixers":
        a_unit = 2 * 32 * NANO_PATTERN.count("-")
        assert max(sizes) - min(sizes) <= a_unit


def test_kept_layers_are_the_starts_and_transv_is_drawn_anew():
    begun = start()
    shared = begun.model.state_dict()
    for variant in grid_variants("compression", LLM):
        model, _ = build_variant(begun, variant, keep_layers=True)
        mine = model.state_dict()
        same = {k for k, v in mine.items() if k in shared and torch.equal(v, shared[k])}
        drawn = {k for k in mine if ".merge_modules." in k or k.endswith(".alpha")}
        assert set(mine) - same == drawn
        assert not any(mine[k].any() for k in drawn if k.endswith(".alpha"))
    with pytest.raises(InputError, match="no layers in common"):
        AblationConfig(grid="mixers", minutes=1.0, keep_layers=True)


def test_text_goes_on_alone_in_every_compression():
    begun = start()
    alone = {"layer": begun.model.config.llm.num_layers - 1, "keep": 0.0, "transfer": False}
    llm = begun.model.config.llm_config
    begun.model.config.llm_config = {**llm, "transv": [*llm["transv"], alone]}
    for variant in grid_variants("compression", LLM):
        model, _ = build_variant(begun, variant)
        *compressions, last = model.config.llm.transv
        assert last == TransV(**alone)
        assert len(compressions) == len(variant.transv)


def test_average_pooling_is_the_mean_of_cells():
    begun = start()
    model, _ = build_variant(begun, Variant(name="average", pooling="average"))
    assert isinstance(model, AveragePooledModel)
    patches = torch.randn(3, 4, 32)
    features, companion = model.merge_patches(patches, patches[..., :5], torch.zeros(3, 4, 3))
    # Four patches in a 2x2 grid down to two tokens: the columns' means.
    expected = torch.stack([patches[:, [0, 2]].mean(1), patches[:, [1, 3]].mean(1)], dim=1)
    torch.testing.assert_close(companion, expected[..., :5])
    assert features.shape == (3, 2, 32)


def test_gates_are_shut_one_by_one_and_the_start_stays_open(tmp_path):
    begun = tiny_vlm()
    with torch.no_grad():
        begun.model.llm.backbone.alpha.fill_(0.5)
    config = AblationConfig(grid="gates", minutes=1.0, num_videos=1, cost_frames=16)
    names = [v.name for v in grid_variants("gates", begun.model.config.llm)]
    layers = [compression.layer for compression in begun.model.config.llm.transv]
    assert names == ["as trained", *(f"shut at layer {n}" for n in layers), "all shut"]
    report = run_grid(begun, config, tmp_path)
    assert list(report["variants"]) == names
    assert all(row["steps"] == 0 for row in report["variants"].values())
    assert begun.model.llm.backbone.alpha.tolist() == [0.5] * len(layers)
    one = with_shut_gates(begun, (1,))
    assert one.model.llm.backbone.alpha.tolist() == [0.5, 0.0]
    assert one.fingerprint != begun.fingerprint
    assert [v.name for v in grid_variants("gates", LLM)][:1] == ["as trained"]


@pytest.mark.slow
def test_a_grid_is_trained_measured_and_gone_on_with(tmp_path):
    begun = start()
    config = AblationConfig(
        grid="compression",
        minutes=1e-4,
        num_videos=1,
        cost_frames=16,
        videos_per_step=1,
        turns_per_video=6,
    )
    chosen = [
        v
        for v in grid_variants("compression", LLM)
        if v.transv == () or "keep 0.2, layer 6" in v.name
    ]
    assert len(chosen) == 5
    first = run_grid(begun, config, tmp_path, variants=chosen[:2])
    trained: list[str] = []
    whole = run_grid(begun, config, tmp_path, variants=chosen, progress=trained.append)
    assert trained == [v.name for v in chosen[2:]]
    for name, row in whole["variants"].items():
        assert row["steps"] >= 1, name
        assert row["cost"]["memory_bytes"] > 0
        assert 0 <= row["tables"]["questions"]["all"]["model"]["mean"] <= 1
        assert first["variants"].get(name, row) == row
    with pytest.raises(InputError, match="another minutes"):
        run_grid(begun, AblationConfig(grid="compression", minutes=1.0), tmp_path)
