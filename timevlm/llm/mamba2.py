"""The Mamba-2 mixer with explicit state (Dao and Gu 2024; NemotronH's parameter names)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.config import HybridConfig
from timevlm.llm.ssd import BACKENDS
from timevlm.llm.state import MambaState, valid_mask


class GatedGroupRMSNorm(nn.Module):
    """RMS norm of `x * silu(gate)` over groups of channels (Mamba-2, section 7.1).

    Each of the `n_groups` groups has its own mean square, so that groups can live on different
    devices; with one group it is the plain gated RMS norm.
    """

    def __init__(self, num_channels: int, n_groups: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.n_groups = n_groups
        self.epsilon = epsilon

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Normalise `x (..., C)`, gated by `gate (..., C)`, in float32."""
        gated = x.float() * F.silu(gate.float())
        grouped = gated.view(*gated.shape[:-1], self.n_groups, -1)
        grouped = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + self.epsilon)
        return (self.weight * grouped.view_as(gated)).to(x.dtype)


class ShortConv(nn.Conv1d):
    """Causal depthwise convolution over tokens, with its last inputs as an explicit state."""

    def __init__(self, num_channels: int, kernel: int, bias: bool) -> None:
        super().__init__(num_channels, num_channels, kernel, groups=num_channels, bias=bias)

    def forward(self, x: Tensor, carried: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolve `x (B, L, C)` after `carried (B, K - 1, C)`; return SiLU of it, and new state.

        The sum over K shifted copies needs no transposition and no padding copy; K is 4.
        """
        num_tokens, kernel = x.shape[1], self.kernel_size[0]
        extended = torch.cat([carried.to(x.dtype), x], dim=1)
        taps = self.weight[:, 0].to(x.dtype)  # (C, K)
        y = extended[:, :num_tokens] * taps[:, 0]
        for k in range(1, kernel):
            y = torch.addcmul(y, extended[:, k : k + num_tokens], taps[:, k])
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        if lengths is None:
            # A copy: a view would keep the whole chunk alive inside the state.
            new_carried = extended[:, num_tokens:].clone()
        else:  # the last K - 1 inputs that count, row by row
            index = lengths[:, None] + torch.arange(kernel - 1, device=x.device)
            new_carried = extended.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
        return F.silu(y), new_carried


class Mamba2Mixer(nn.Module):
    """Mamba-2 block body: in_proj -> short convolution -> SSD scan -> gated norm -> out_proj."""

    def __init__(self, config: HybridConfig, backend: str) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        inner, heads = config.mamba_inner_size, config.mamba_num_heads
        projected = inner + config.conv_channels + heads
        self.in_proj = nn.Linear(config.hidden_size, projected, bias=config.use_bias)
        self.conv1d = ShortConv(config.conv_channels, config.conv_kernel, config.use_conv_bias)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedGroupRMSNorm(inner, config.n_groups, config.layer_norm_epsilon)
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=config.use_bias)
        self.reset_scan_parameters()

    @torch.no_grad()
    def reset_scan_parameters(self) -> None:
        """Draw A in [1, 16] and step sizes log-uniform in [1e-3, 0.1], as Mamba-2 does."""
        self.A_log.copy_(torch.empty_like(self.A_log).uniform_(1, 16).log_())
        low, high = math.log(1e-3), math.log(0.1)
        dt = torch.empty_like(self.dt_bias).uniform_(low, high).exp_().clamp_(min=1e-4)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.D.fill_(1.0)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> MambaState:
        """The state before anything was read: zeros."""
        c = self.config
        return MambaState(
            torch.zeros(batch, c.conv_kernel - 1, c.conv_channels, device=device, dtype=dtype),
            torch.zeros(
                batch, c.mamba_num_heads, c.mamba_head_dim, c.ssm_state_size, device=device
            ),
        )

    def forward(
        self, x: Tensor, state: MambaState | None, lengths: Tensor | None
    ) -> tuple[Tensor, MambaState]:
        """Mix `x (B, L, D)` after `state`; return the same shape and the new state."""
        c = self.config
        batch, num_tokens, _ = x.shape
        if state is None:
            state = self.init_state(batch, x.device, x.dtype)
        gate, xbc, dt = self.in_proj(x).split(
            [c.mamba_inner_size, c.conv_channels, c.mamba_num_heads], dim=-1
        )
        xbc, conv_state = self.conv1d(xbc, state.conv, lengths)
        group_channels = c.n_groups * c.ssm_state_size
        values, b_in, c_out = xbc.split([c.mamba_inner_size, group_channels, group_channels], -1)
        dt = F.softplus(dt.float() + self.dt_bias.float()).clamp(*c.time_step_limit)
        if lengths is not None:  # a step of size zero neither decays nor adds
            dt = dt.masked_fill(~valid_mask(lengths, num_tokens)[..., None], 0.0)
        y, ssm_state = BACKENDS[self.backend](
            values.reshape(batch, num_tokens, c.mamba_num_heads, c.mamba_head_dim),
            dt,
            -torch.exp(self.A_log.float()),
            b_in.reshape(batch, num_tokens, c.n_groups, c.ssm_state_size),
            c_out.reshape(batch, num_tokens, c.n_groups, c.ssm_state_size),
            self.D.float(),
            state.ssm,
            c.chunk_size,
        )
        y = self.norm(y.reshape(batch, num_tokens, c.mamba_inner_size), gate)
        return self.out_proj(y), MambaState(conv_state, ssm_state)
