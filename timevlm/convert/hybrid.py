"""NemotronH and TimeViper language models -> `HybridLM`.

Our parameters bear the published names (`backbone.layers.N.mixer.in_proj.weight`, ...), so the
tables below are about configurations and a few prefixes. Read from NVIDIA's NemotronH, as
TimeViper extends it (arXiv 2511.16595), and from transformers' own NemotronH.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from timevlm.convert.checkpoint import Checkpoint, Readers, matched, read_all, shapes_of
from timevlm.errors import ModelError
from timevlm.llm.config import HybridConfig, TransV
from timevlm.llm.hybrid import HybridLM

# Our field -> (names it has in published configurations, NemotronH's default).
CONFIG_NAMES: dict[str, tuple[tuple[str, ...], Any]] = {
    "vocab_size": (("vocab_size",), 131072),
    "hidden_size": (("hidden_size",), 4096),
    "intermediate_size": (("intermediate_size",), 21504),
    "num_attention_heads": (("num_attention_heads",), 32),
    "num_key_value_heads": (("num_key_value_heads",), 8),
    "head_dim": (("head_dim", "attention_head_dim"), 128),
    "mamba_num_heads": (("mamba_num_heads",), 128),
    "mamba_head_dim": (("mamba_head_dim",), 64),
    "ssm_state_size": (("ssm_state_size",), 128),
    "n_groups": (("n_groups", "mamba_n_groups"), 8),
    "conv_kernel": (("conv_kernel", "mamba_d_conv"), 4),
    "chunk_size": (("chunk_size", "mamba_chunk_size"), 256),
    "time_step_limit": (("time_step_limit", "mamba_dt_limit"), (0.0, float("inf"))),
    "layer_norm_epsilon": (("layer_norm_epsilon",), 1e-5),
    "use_conv_bias": (("use_conv_bias", "mamba_conv_bias"), True),
    "use_bias": (("use_bias",), False),
    "attention_bias": (("attention_bias",), False),
    "mlp_bias": (("mlp_bias",), False),
    "initializer_range": (("initializer_range",), 0.02),
}

# Published settings that our blocks have built in: any other value cannot be represented.
FIXED_SETTINGS: dict[str, Any] = {
    "mlp_hidden_act": "relu2",
    "mamba_hidden_act": "silu",
    "sliding_window": None,
    "num_nextn_predict_layers": 0,
}

# Our attention has no positions. NemotronH's code reads none of these either, so that its own
# configurations may carry them; in any other one they mean rotary positions (docs/decisions.md).
ROTARY_SETTINGS = ("rope_theta", "rope_parameters", "rope_scaling", "partial_rotary_factor")
WITHOUT_POSITIONS = "nemotron_h"

# transformers lists layer types instead of NVIDIA's pattern letters.
LAYER_LETTERS = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
}

# Rules of TimeViper's pdrop string -> (our rule, whether dropped tokens can be transferred).
PDROP_RULES = {
    "uni": ("uniform", True),
    "attn": ("attention", True),
    "unidrop": ("uniform", False),
    "attndrop": ("attention", False),
}

# Published parameter name (regular expression) -> ours, the first match counts.
PARAMETER_NAMES = (
    (r"model\.embedding\.", "backbone.embeddings."),
    (r"backbone\.embedding\.", "backbone.embeddings."),
    (r"model\.", "backbone."),
)


def parse_pdrop(text: str, *, transfer: bool = True) -> tuple[TransV, ...]:
    """TimeViper's `rule_layer_keep` entries joined by `-`, such as `uni_7_0.5-attn_39_0.1`.

    With `transfer=False` the model has no merge modules, so every rule only drops.
    Raises `ModelError` for anything else.
    """
    entries = []
    for part in text.split("-") if text else ():
        fields = part.split("_")
        try:
            rule, can_transfer = PDROP_RULES[fields[0]]
            layer, keep = (int(fields[1]), float(fields[2])) if len(fields) == 3 else ("", "")
            entries.append(
                TransV(layer=layer, keep=keep, rule=rule, transfer=transfer and can_transfer)
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ModelError(
                f"pdrop entry {part!r} of {text!r} is not rule_layer_keep; "
                f"rules are {', '.join(PDROP_RULES)}, as in uni_7_0.5-attn_39_0.1"
            ) from error
    return tuple(entries)


def _pattern(published: Mapping[str, Any]) -> str:
    types = published.get("layers_block_type") or published.get("layer_types")
    pattern = published.get("hybrid_override_pattern")
    if pattern is None and types is None:
        raise ModelError("the config has no hybrid_override_pattern; is it a NemotronH config?")
    if pattern is None:
        unknown = sorted(set(types) - LAYER_LETTERS.keys())
        if unknown:
            raise ModelError(
                f"the config has layers of type {', '.join(unknown)}; "
                f"only {', '.join(LAYER_LETTERS)} can be converted"
            )
        pattern = "".join(LAYER_LETTERS[kind] for kind in types)
    count = published.get("num_hidden_layers")
    if count is not None and count != len(pattern):
        raise ModelError(f"the config has {count} layers, but its pattern {pattern!r} differs")
    return pattern


def _refuse_rotary(published: Mapping[str, Any]) -> None:
    if published.get("model_type") == WITHOUT_POSITIONS:
        return
    for name in ROTARY_SETTINGS:
        if published.get(name) is not None:
            raise ModelError(
                f"config {name}={published[name]!r} asks for rotary positions, which the attention "
                f"layers here do not have: convert a model without them, or remove {name} if the "
                "model's code does not read it"
            )


def hybrid_config(
    published: Mapping[str, Any], pdrop: str | None = None, *, transfer: bool = True
) -> HybridConfig:
    """Our configuration of a published NemotronH or TimeViper one.

    `pdrop` overrides the configuration's own `pdrop_type`; `transfer` says whether the model has
    merge modules. Raises `ModelError` for settings that our blocks do not have.
    """
    for name, value in FIXED_SETTINGS.items():
        if published.get(name, value) != value:
            raise ModelError(
                f"config {name}={published[name]!r} cannot be converted, only {value!r}"
            )
    _refuse_rotary(published)
    values = {}
    for ours, (names, default) in CONFIG_NAMES.items():
        values[ours] = next((published[n] for n in names if n in published), default)
    if pdrop is None:
        pdrop = (published.get("pdrop_type") or "") if published.get("use_pdrop") else ""
    return HybridConfig(
        **values, pattern=_pattern(published), transv=parse_pdrop(pdrop, transfer=transfer)
    )


def hybrid_readers(readers: Readers, config: HybridConfig, *, tied: bool = False) -> Readers:
    """Readers under our names, complete and in order.

    `tied`: the output layer is the embedding table and may be absent. Raises `ModelError` that
    lists missing and unknown names.
    """
    renamed = {_our_name(name): read for name, read in readers.items()}
    if tied and "lm_head.weight" not in renamed and "backbone.embeddings.weight" in renamed:
        renamed["lm_head.weight"] = renamed["backbone.embeddings.weight"]
    alpha = renamed.get("backbone.alpha")
    if alpha is not None and alpha().numel() == 0:  # published where nothing is transferred
        del renamed["backbone.alpha"]
    with torch.device("meta"):
        expected = shapes_of(HybridLM(config))
    return matched(renamed, expected, "language model")


def _our_name(name: str) -> str:
    for pattern, replacement in PARAMETER_NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def convert_hybrid(
    checkpoint: Checkpoint, pdrop: str | None = None
) -> tuple[HybridConfig, Readers]:
    """A published language model -> our configuration and readers under our names.

    Whether TransV transfers is read off the weights: without merge modules it only drops.
    """
    transfer = any(".merge_modules." in name for name in checkpoint.readers)
    config = hybrid_config(checkpoint.config, pdrop, transfer=transfer)
    tied = bool(checkpoint.config.get("tie_word_embeddings", False))
    return config, hybrid_readers(checkpoint.readers, config, tied=tied)


def load_hybrid(config: HybridConfig, readers: Readers, backend: str = "torch") -> HybridLM:
    """Build the model that the readers hold, in evaluation mode."""
    model = HybridLM(config, backend)
    model.load_state_dict(read_all(readers), strict=True)
    return model.eval()
