"""The residual blocks of the hybrid LLM and their stack, under the published names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.attention import AttentionMixer, TransferAttention, VideoWindow
from timevlm.llm.config import ATTENTION, MAMBA, HybridConfig
from timevlm.llm.mamba2 import Mamba2Mixer
from timevlm.llm.state import LayerState


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32."""

    def __init__(self, num_channels: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.epsilon).to(
            x.dtype
        )


class MLPMixer(nn.Module):
    """Two linear maps around a squared ReLU; it keeps no state."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor, state: None, lengths: Tensor | None) -> tuple[Tensor, None]:
        """(B, L, D) -> the same shape; the state is passed through for a common call."""
        return self.down_proj(F.relu(self.up_proj(x)).square()), None


class Block(nn.Module):
    """Pre-norm residual block around one mixer."""

    def __init__(self, config: HybridConfig, kind: str, backend: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        if kind == MAMBA:
            self.mixer: nn.Module = Mamba2Mixer(config, backend)
        elif kind == ATTENTION:
            self.mixer = AttentionMixer(config)
        else:
            self.mixer = MLPMixer(config)

    def forward(
        self,
        x: Tensor,
        state: LayerState,
        lengths: Tensor | None,
        window: VideoWindow | None = None,
    ) -> tuple[Tensor, LayerState]:
        """One block over `x (B, L, D)`; a window is attention's alone."""
        if isinstance(self.mixer, AttentionMixer):
            y, state = self.mixer(self.norm(x), state, lengths, window)
        else:
            y, state = self.mixer(self.norm(x), state, lengths)
        return x + y, state


class Backbone(nn.Module):
    """Parameters of the LLM below its head, under the published names."""

    def __init__(self, config: HybridConfig, backend: str) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, kind, backend) for kind in config.pattern)
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        if any(c.transfer for c in config.transv):
            self.merge_modules = nn.ModuleList(
                TransferAttention(config) if c.transfer else nn.Identity() for c in config.transv
            )
            self.alpha = nn.Parameter(torch.zeros(sum(c.transfer for c in config.transv)))
