"""Configuration of the hybrid LLM: the block pattern, the sizes, and where vision tokens leave.

The sizes bear NemotronH's meanings, so that a published configuration maps one to one
(`timevlm.convert.hybrid`).
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

from timevlm.errors import ModelError

MAMBA, ATTENTION, MLP = "M", "*", "-"
# Fields of `HybridConfig` that count something there must be at least one of.
_COUNTS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "mamba_num_heads", "mamba_head_dim"),
    *("ssm_state_size", "n_groups", "conv_kernel", "chunk_size"),
)


@dataclass(frozen=True, kw_only=True)
class TransV:
    """One compression of the vision tokens, at the input of one layer (TimeViper, section 3.3).

    Raises `ModelError` when a value is out of range.
    """

    layer: int  # index of the layer whose input is compressed
    keep: float  # share of the ORIGINAL vision tokens that go on, in [0, 1]; 0: text goes on alone
    rule: Literal["uniform", "attention"] = "uniform"
    transfer: bool = True  # carry the dropped tokens into the text by gated cross-attention
    max_keep: int | None = None  # an upper bound on the tokens that go on: bounds a question's cost
    # Rank and transfer from the normalised residual stream, as the layer itself reads it. The
    # published model reads it raw; where the stream is long, softmax then sees a single token.
    normalize: bool = False

    def __post_init__(self) -> None:
        if self.layer < 0:
            raise ModelError(f"TransV layer {self.layer} is negative; give a layer index from 0")
        if not 0.0 <= self.keep <= 1.0:
            raise ModelError(f"TransV keep {self.keep} is outside [0, 1]; give a share such as 0.5")
        if self.rule not in ("uniform", "attention"):
            raise ModelError(f"TransV rule {self.rule!r} is unknown; use 'uniform' or 'attention'")
        if self.max_keep is not None and self.max_keep < 1:
            raise ModelError(f"TransV max_keep {self.max_keep} is below 1; give None or a count")

    def num_kept(self, original: int, current: int) -> int:
        """How many of `current` vision tokens go on, when the video had `original` of them."""
        kept = min(int(original * self.keep), current)
        return kept if self.max_keep is None else min(kept, self.max_keep)


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Sizes of the hybrid Mamba-2/Transformer LLM. Raises `ModelError` on a contradiction."""

    vocab_size: int
    hidden_size: int
    pattern: str  # one letter a layer: M Mamba-2, * attention, - MLP
    intermediate_size: int  # width of the MLP
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    mamba_num_heads: int
    mamba_head_dim: int
    ssm_state_size: int
    n_groups: int = 1  # groups that share B and C, and the gated norm's statistics
    conv_kernel: int = 4
    chunk_size: int = 128  # tokens a chunk of the SSD scan
    time_step_limit: tuple[float, float] = (0.0, math.inf)  # clamp of the softplus-ed step size
    layer_norm_epsilon: float = 1e-5
    use_conv_bias: bool = True
    use_bias: bool = False  # of Mamba's in_proj and out_proj
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    transv: tuple[TransV, ...] = field(default_factory=tuple)
    # Vision tokens that a vision token sees before it, at least; None: all. It makes the time of
    # reading a video linear in its length; text sees everything.
    video_window: int | None = None

    def __post_init__(self) -> None:
        low, high = self.time_step_limit  # None, infinity in JSON: no upper bound
        object.__setattr__(self, "time_step_limit", (low, math.inf if high is None else high))
        object.__setattr__(
            self,
            "transv",
            tuple(c if isinstance(c, TransV) else TransV(**c) for c in self.transv),
        )
        self._check_pattern()
        self._check_sizes()
        self._check_transv()

    def _check_pattern(self) -> None:
        unknown = sorted(set(self.pattern) - {MAMBA, ATTENTION, MLP})
        if not self.pattern or unknown:
            raise ModelError(
                f"layer pattern {self.pattern!r} has {unknown or 'no letters'}; "
                f"use {MAMBA} (Mamba-2), {ATTENTION} (attention) and {MLP} (MLP)"
            )

    def _check_sizes(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ModelError(f"{name} {getattr(self, name)} is below 1; give a size from 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.video_window is not None and self.video_window < 1:
            raise ModelError(
                f"video_window {self.video_window} is below 1; give None or a number of tokens"
            )
        if self.mamba_num_heads % self.n_groups:
            raise ModelError(
                f"mamba_num_heads {self.mamba_num_heads} is no multiple of n_groups {self.n_groups}"
            )

    def _check_transv(self) -> None:
        layers = [c.layer for c in self.transv]
        if layers != sorted(set(layers)):
            raise ModelError(f"TransV layers {layers} must rise strictly")
        for compression in self.transv:
            if compression.layer >= self.num_layers:
                raise ModelError(
                    f"TransV layer {compression.layer} is beyond the last layer "
                    f"{self.num_layers - 1}"
                )
            is_attention = self.pattern[compression.layer] == ATTENTION
            if compression.rule == "attention" and not is_attention:
                raise ModelError(
                    f"TransV rule 'attention' at layer {compression.layer} needs an attention "
                    f"layer ('*') there; the pattern has {self.pattern[compression.layer]!r}"
                )

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.pattern)

    @property
    def mamba_inner_size(self) -> int:
        """Channels of the Mamba-2 mixer."""
        return self.mamba_num_heads * self.mamba_head_dim

    @property
    def conv_channels(self) -> int:
        """Channels that pass the short convolution: x, B and C."""
        return self.mamba_inner_size + 2 * self.n_groups * self.ssm_state_size

    @property
    def split_layer(self) -> int:
        """First layer whose vision tokens depend on the question; the layer count if none does."""
        ranked = [c.layer for c in self.transv if c.rule == "attention"]
        return ranked[0] if ranked else self.num_layers

    @property
    def pointing_layer(self) -> int | None:
        """The attention layer whose looks at vision tokens can be asked for (`video_looks`).

        The split layer or, in a model without one, the last attention layer; None if that is none.
        """
        if self.split_layer < self.num_layers:
            return self.split_layer
        last = self.pattern.rfind(ATTENTION)
        return None if last < 0 else last

    def to_dict(self) -> dict:
        """JSON-safe form; `HybridConfig(**config.to_dict())` gives the same configuration."""
        values = asdict(self)
        values["transv"] = [asdict(c) for c in self.transv]
        low, high = self.time_step_limit
        values["time_step_limit"] = [low, high if math.isfinite(high) else None]
        return values
