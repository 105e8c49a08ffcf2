"""Published language-model configurations and state dicts -> ours."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from timevlm.convert.__main__ import main
from timevlm.convert.checkpoint import Checkpoint, in_memory, open_checkpoint
from timevlm.convert.hybrid import convert_hybrid, hybrid_config, load_hybrid, parse_pdrop
from timevlm.errors import ModelError
from timevlm.llm import HybridConfig, HybridLM, TransV

PUBLISHED = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 5,
    "hybrid_override_pattern": "M-*M*",
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "ssm_state_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 4,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
}


def published_model(pdrop: str, **changes) -> HybridLM:
    model = HybridLM(hybrid_config({**PUBLISHED, **changes}, pdrop))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def test_pdrop_strings():
    assert parse_pdrop("") == ()
    assert parse_pdrop("uni_2_0.5-attn_6_0.2") == (
        TransV(layer=2, keep=0.5),
        TransV(layer=6, keep=0.2, rule="attention"),
    )
    assert parse_pdrop("unidrop_2_0.5-attndrop_6_0.2") == (
        TransV(layer=2, keep=0.5, transfer=False),
        TransV(layer=6, keep=0.2, rule="attention", transfer=False),
    )
    assert parse_pdrop("uni_7_0.5", transfer=False) == (TransV(layer=7, keep=0.5, transfer=False),)


@pytest.mark.parametrize(
    "text", ["uni", "uni_2", "top_2_0.5", "uni_x_0.5", "uni_2_half", "uni_2_0.5-", "-"]
)
def test_pdrop_nonsense(text):
    with pytest.raises(ModelError, match="rule_layer_keep"):
        parse_pdrop(text)


def test_names_of_both_generations_of_configs():
    old = hybrid_config({**PUBLISHED, "mamba_d_conv": 3, "mamba_dt_limit": [0.1, 2.0]})
    new = dict(PUBLISHED, conv_kernel=3, time_step_limit=[0.1, 2.0], n_groups=2, chunk_size=16)
    for name in ("mamba_n_groups", "mamba_chunk_size", "hybrid_override_pattern"):
        del new[name]
    kinds = ["mamba", "mlp", "attention", "linear_attention", "full_attention"]
    new["layers_block_type"] = kinds
    assert hybrid_config(new) == old
    assert (old.pattern, old.n_groups, old.conv_kernel, old.chunk_size) == ("M-*M*", 2, 3, 16)
    assert old.time_step_limit == (0.1, 2.0)


def test_defaults_are_nemotrons():
    config = hybrid_config({"hybrid_override_pattern": "M"})
    assert (config.vocab_size, config.hidden_size, config.n_groups) == (131072, 4096, 8)
    assert (config.chunk_size, config.conv_kernel, config.use_conv_bias) == (256, 4, True)


def test_the_configs_own_compressions():
    own = {**PUBLISHED, "use_pdrop": True, "pdrop_type": "uni_1_0.5", "merge_module": "x"}
    assert hybrid_config(own).transv == (TransV(layer=1, keep=0.5),)
    assert hybrid_config({**own, "use_pdrop": False}).transv == ()
    assert hybrid_config(own, "attn_4_0.1").transv[0].layer == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp_hidden_act": "silu"}, "mlp_hidden_act='silu'"),
        ({"sliding_window": 128}, "sliding_window"),
        ({"num_hidden_layers": 4}, "4 layers"),
        ({"hybrid_override_pattern": "ME*M*"}, "'E'"),
        ({"hybrid_override_pattern": None}, "hybrid_override_pattern"),
        ({"hybrid_override_pattern": None, "layer_types": ["moe"]}, "type moe"),
    ],
)
def test_what_cannot_be_represented_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        hybrid_config({**PUBLISHED, **change})


@pytest.mark.parametrize(
    "setting",
    [
        {"rope_theta": 10000.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        {"partial_rotary_factor": 0.5},
    ],
)
def test_rotary_positions_are_refused_where_the_models_code_would_use_them(setting):
    (name,) = setting
    for model_type in ({}, {"model_type": "bamba"}):
        with pytest.raises(ModelError, match=f"{name}=.* rotary positions.* remove {name}"):
            hybrid_config({**PUBLISHED, **model_type, **setting})
    absent = dict.fromkeys(setting)
    ignored = {**PUBLISHED, "model_type": "nemotron_h", **setting}
    assert hybrid_config({**PUBLISHED, **absent}) == hybrid_config(ignored)


@pytest.mark.parametrize(
    "pdrop", ["", "uni_1_0.5-attn_2_0.25", "uni_1_0.5-attndrop_4_0.25", "unidrop_1_0.5-attn_4_0.2"]
)
@pytest.mark.parametrize("prefix", ["backbone.", "model."])
def test_round_trip(pdrop, prefix):
    given = published_model(pdrop)
    state = {n.replace("backbone.", prefix): t for n, t in given.state_dict().items()}
    config, readers = convert_hybrid(Checkpoint(in_memory(state), PUBLISHED), pdrop)
    assert config == given.config
    model = load_hybrid(config, readers)
    assert model.state_dict().keys() == given.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, given.state_dict()[name]), name


def test_without_merge_modules_rules_only_drop():
    given = published_model("unidrop_1_0.5-attndrop_4_0.2")
    config, _ = convert_hybrid(
        Checkpoint(in_memory(given.state_dict()), PUBLISHED), "uni_1_0.5-attn_4_0.2"
    )
    assert [c.transfer for c in config.transv] == [False, False]


def test_empty_alpha_old_embedding_name_and_tied_head():
    state = dict(published_model("").state_dict())
    state["backbone.alpha"] = torch.zeros(0)
    state["backbone.embedding.weight"] = state.pop("backbone.embeddings.weight")
    del state["lm_head.weight"]
    published = {**PUBLISHED, "tie_word_embeddings": True}
    model = load_hybrid(*convert_hybrid(Checkpoint(in_memory(state), published)))
    assert torch.equal(model.lm_head.weight, model.backbone.embeddings.weight)


def test_wrong_names_are_listed():
    state = dict(published_model("").state_dict())
    state["backbone.rotary.inv_freq"] = state.pop("backbone.norm_f.weight")
    with pytest.raises(
        ModelError, match=r"lacks backbone\.norm_f\.weight; it has unknown backbone\.ro"
    ):
        convert_hybrid(Checkpoint(in_memory(state), PUBLISHED))
    transfers = Checkpoint(in_memory(published_model("uni_1_0.5").state_dict()), PUBLISHED)
    with pytest.raises(ModelError, match=r"unknown backbone\.alpha, backbone\.merge_modules\.0"):
        convert_hybrid(transfers, "unidrop_1_0.5")


def test_command_line(tmp_path):
    given = published_model("uni_1_0.5")
    source = tmp_path / "published"
    source.mkdir()
    save_file(given.state_dict(), source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(PUBLISHED))
    arguments = [str(source), str(tmp_path / "ours"), "--pdrop", "uni_1_0.5"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    written = open_checkpoint(tmp_path / "ours")
    values = dict(written.config)
    assert values.pop("model_type") == "timevlm_llm"
    model = load_hybrid(HybridConfig(**values), written.readers)
    assert torch.equal(model.lm_head.weight, given.lm_head.weight)
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert again.output.startswith("error: ")
    assert again.output.count("\n") == 1


def test_a_failed_conversion_leaves_nothing_and_can_be_repeated(tmp_path):
    given = published_model("").state_dict()
    source, target = tmp_path / "published", tmp_path / "new" / "ours"
    source.mkdir()
    save_file({**given, "lm_head.weight": torch.zeros(3, 3)}, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(PUBLISHED))
    result = CliRunner().invoke(main, [str(source), str(target)])
    assert (result.exit_code, list(target.iterdir())) == (2, [])
    assert "lm_head.weight has shape (3, 3)" in result.output
    save_file(given, source / "model.safetensors")
    assert CliRunner().invoke(main, [str(source), str(target)]).exit_code == 0
    names = sorted(path.name for path in target.iterdir())
    assert names == ["config.json", "model.safetensors"]


def test_command_line_refuses_other_models(tmp_path):
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    result = CliRunner().invoke(main, [str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "conv1.weight belong to no known model" in result.output
    assert not (tmp_path / "out").exists()
