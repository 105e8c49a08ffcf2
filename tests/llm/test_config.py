"""What the hybrid LLM's configuration accepts, refuses and derives."""

import json

import pytest

from tests.helpers import small_config
from timevlm.errors import ModelError
from timevlm.llm import HybridConfig, HybridLM, TransV


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": -1}, "layer -1 is negative"),
        ({"keep": -0.5}, "keep -0.5 is outside"),
        ({"keep": 1.5}, "keep 1.5 is outside"),
        ({"keep": float("nan")}, "keep nan is outside"),
        ({"rule": "random"}, "'random' is unknown; use 'uniform' or 'attention'"),
        ({"max_keep": 0}, "max_keep 0 is below 1"),
    ],
)
def test_transv_refuses(changes, message):
    with pytest.raises(ModelError, match=message):
        TransV(**{"layer": 1, "keep": 0.5, **changes})


@pytest.mark.parametrize(
    ("keep", "max_keep", "original", "current", "kept"),
    [
        (1.0, None, 10, 10, 10),
        (0.5, None, 11, 11, 5),  # rounds down
        (0.5, None, 10, 3, 3),  # never more than arrive
        (0.5, 4, 100, 50, 4),
        (0.01, None, 10, 10, 0),
        (1.0, 3, 2, 2, 2),
    ],
)
def test_num_kept_is_a_share_of_the_original_tokens(keep, max_keep, original, current, kept):
    assert TransV(layer=0, keep=keep, max_keep=max_keep).num_kept(original, current) == kept


@pytest.mark.parametrize(
    ("pattern", "changes", "message"),
    [
        ("", {}, "has no letters"),
        ("MxM", {}, r"has \['x'\]"),
        ("M*", {"num_key_value_heads": 3}, "num_attention_heads 4 is no multiple"),
        ("M*", {"n_groups": 3}, "mamba_num_heads 4 is no multiple of n_groups 3"),
        ("M*", {"transv": [TransV(layer=2, keep=0.5)]}, "layer 2 is beyond the last layer 1"),
        (
            "M*",
            {"transv": [TransV(layer=0, keep=0.5, rule="attention")]},
            r"needs an attention layer .* the pattern has 'M'",
        ),
        (
            "MM*",
            {"transv": [TransV(layer=1, keep=0.5), TransV(layer=1, keep=0.4)]},
            r"layers \[1, 1\] must rise strictly",
        ),
        (
            "MM*",
            {"transv": [TransV(layer=2, keep=0.5), TransV(layer=1, keep=0.4)]},
            r"layers \[2, 1\] must rise strictly",
        ),
    ],
)
def test_config_refuses(pattern, changes, message):
    with pytest.raises(ModelError, match=message):
        small_config(pattern, **changes)


@pytest.mark.parametrize("name", ["num_key_value_heads", "n_groups", "chunk_size", "hidden_size"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ModelError, match=f"{name} 0 is below 1; give a size from 1"):
        small_config(**{name: 0})


def test_config_survives_json():
    transv = [{"layer": 1, "keep": 0.5}, {"layer": 4, "keep": 0.2, "rule": "attention"}]
    config = small_config("M*-M*-", transv=transv, time_step_limit=(0.01, 3.0))
    again = HybridConfig(**json.loads(json.dumps(config.to_dict(), allow_nan=False)))
    assert again == config
    assert again.transv[1] == TransV(layer=4, keep=0.2, rule="attention")


def test_split_layer_is_the_first_that_needs_the_question():
    uniform = {"layer": 0, "keep": 0.5}
    ranked = [{"layer": n, "keep": 0.2, "rule": "attention"} for n in (2, 4)]
    assert small_config("M-*M*").split_layer == 5
    assert small_config("M-*M*", transv=[uniform]).split_layer == 5
    assert small_config("M-*M*", transv=[uniform, *ranked]).split_layer == 2


def test_unknown_backends_are_refused():
    with pytest.raises(ModelError, match="'magic' is unknown"):
        HybridLM(small_config(), backend="magic")


def test_gates_exist_only_for_transfers():
    transv = [{"layer": 1, "keep": 0.5, "transfer": False}, {"layer": 3, "keep": 0.5}]
    lm = HybridLM(small_config(transv=transv))
    assert lm.backbone.alpha.shape == (1,)
    assert not list(lm.backbone.merge_modules[0].parameters())
    dropping = HybridLM(small_config(transv=transv[:1]))
    assert not hasattr(dropping.backbone, "alpha")
