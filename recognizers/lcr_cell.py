"""One LCR layer: Cross RWKV gate, channel mixing and the LSTM-like cell (arXiv 2411.05636).

For frame t with tokens x_t, edge prompt e_t and the layer's own last output h_{t-1}:

    R, G = W_rg [LN(x_t); h_{t-1}]        K, V = W_kv p_t                        spatial mixing
    a_t = x_t + (SiLU(G) * LN(R * BiWKV(K, V))) W_a
    A_t = a_t + sigmoid(R') * (relu(K')^2 W_v),  [R'; K'] = W_rk LN(a_t)          channel mixing
    C_t = cell(C_{t-1}, A_t, e_t),  O_t = H_t = tanh(C_t) * sigmoid(A_t)          cell

The prompt p_t is e_t as printed ("edges"), or LN(x_t) + e_t ("both"). Tokens meet only in Bi-WKV,
so with "edges" no token, the class token above all, ever learns what another token's picture
shows: the class is told from the outlines alone. With "both" the pictures are read too.

K and V hang on the frame alone, so a chunk's Bi-WKV is computed for all its frames at once; only
what reads h_{t-1} runs frame by frame. The residuals are ours: the equations as printed have none,
and without them a zero edge prompt (the start of training) gives A = 0 and no gradient at all.

Two cell updates. `published_update` is the paper's, C + e (tanh(A) + C): it multiplies the cell by
1 + e every frame and so grows without bound where e stays above 0 (or below -2). `bounded_update`
writes what the paper's writes for small prompts, e tanh(A), but pays for it with as much of the old
cell: C + g tanh(A) - |g| C with g = tanh(e). No edges, nothing written and nothing forgotten, as in
the paper; and the cell never leaves [-1, 1].

At 37 tokens a frame the loop's operations are so short that calling them is half of their cost:
sums are left to the products before them (addmm, addcmul), and what hangs on the frame alone, the
cell's shares of old and new too, is computed for all frames at once.

Legend: B = streams, T = frames of a chunk, L = tokens of a frame, D = channels.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recognizers.wkv import MAX_DECAY, MIN_BONUS, bi_wkv

CELLS = ("published", "bounded")
KEYS = ("edges", "both")


def published_update(cell: Tensor, gate: Tensor, edge: Tensor) -> Tensor:
    """C_t = e_t (tanh(A_t) + C_{t-1}) + C_{t-1}, as printed. All (..., L, D)."""
    return torch.addcmul(cell, edge, torch.tanh(gate) + cell)


def bounded_update(cell: Tensor, gate: Tensor, edge: Tensor) -> Tensor:
    """C_t = (1 - |g|) C_{t-1} + g tanh(A_t) with g = tanh(e_t). All (..., L, D).

    The shares of old and new add up to 1, so |C_{t-1}| <= 1 implies |C_t| <= 1.
    """
    return blend(cell, gate, *shares(edge))


def shares(edge: Tensor) -> tuple[Tensor, Tensor]:
    """Of the bounded cell, 1 - |g| and g."""
    written = torch.tanh(edge)
    return 1 - written.abs(), written


def blend(cell: Tensor, gate: Tensor, kept: Tensor, written: Tensor) -> Tensor:
    """C_t = kept C_{t-1} + written tanh(A_t)."""
    return torch.addcmul(cell * kept, written, torch.tanh(gate))


class ChannelMixing(nn.Module):
    """A token's channels mix: squared ReLU, gated by a receptance (Vision-RWKV, section 3.2)."""

    def __init__(self, dim: int, hidden_ratio: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(dim)
        # One product for both: receptance first, then keys.
        self.receptance_key = nn.Linear(dim, dim + hidden_ratio * dim, bias=False)
        self.value = nn.Linear(hidden_ratio * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x with what its channels say to each other; any leading dimensions, (..., D)."""
        mixed = self.receptance_key(self.norm(x))
        receptance, key = mixed[..., : self.dim], mixed[..., self.dim :]
        return torch.addcmul(x, torch.sigmoid(receptance), self.value(F.relu(key).square()))


class CrossGate(nn.Module):
    """The Cross RWKV gate: frame and past ask (R, G), the prompt answers (K, V)."""

    def __init__(
        self, dim: int, num_heads: int, hidden_ratio: int, *, keys: str, depth_share: float
    ) -> None:
        """`depth_share` is the layer's place in the stack, 0 (first) to 1 (last)."""
        super().__init__()
        self.num_heads = num_heads
        self.keys = keys
        self.norm = nn.LayerNorm(dim)
        # W_rg of the concatenation, as the sum of its two halves: the frame's half needs no loop.
        self.frame_receptance_gate = nn.Linear(dim, 2 * dim, bias=False)
        self.hidden_receptance_gate = nn.Linear(dim, 2 * dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.decay = nn.Parameter(initial_decay(dim, depth_share))
        self.bonus = nn.Parameter(initial_bonus(dim))
        self.head_scale = nn.Parameter(torch.ones(dim))
        self.head_shift = nn.Parameter(torch.zeros(dim))
        self.output = nn.Linear(dim, dim, bias=False)
        self.channel_mixing = ChannelMixing(dim, hidden_ratio)

    def over_frames(self, frames: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """What needs no past, for all frames at once.

        Args:
            frames, edges: tokens (B, T, L, D).

        Returns:
            The frames' part of R and G (B, T, L, 2 D), and Bi-WKV of the prompt (B, T, L, D).
        """
        normed = self.norm(frames)
        prompt = edges if self.keys == "edges" else normed + edges
        key, value = self.key_value(prompt).flatten(0, 1).chunk(2, dim=-1)
        decay = self.decay.clamp(-MAX_DECAY, MAX_DECAY)
        bonus = self.bonus.clamp(min=MIN_BONUS)
        mixed = bi_wkv(decay, bonus, key, value).view(edges.shape)
        return self.frame_receptance_gate(normed), mixed

    def forward(self, frame: Tensor, asked: Tensor, mixed: Tensor, hidden: Tensor) -> Tensor:
        """A_t from x_t, one frame of what `over_frames` returns, and h_{t-1}.

        Tokens of all streams are rows: (B L, D), `asked` (B L, 2 D).
        """
        both = torch.addmm(asked, hidden, self.hidden_receptance_gate.weight.t())
        receptance, gate = both.chunk(2, dim=-1)
        heads = (receptance * mixed).unflatten(-1, (self.num_heads, -1))
        heads = F.layer_norm(heads, heads.shape[-1:]).flatten(-2)
        heads = torch.addcmul(self.head_shift, heads, self.head_scale)
        return self.channel_mixing(torch.addmm(frame, F.silu(gate) * heads, self.output.weight.t()))


class LCRLayer(nn.Module):
    """The recurrent unit: a gate that reads the frame, and a cell that remembers."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_ratio: int,
        *,
        cell: str,
        keys: str,
        depth_share: float,
    ) -> None:
        """`cell` is one of CELLS, `keys` one of KEYS, `depth_share` as in CrossGate."""
        super().__init__()
        self.gate = CrossGate(dim, num_heads, hidden_ratio, keys=keys, depth_share=depth_share)
        self.is_bounded = cell == "bounded"
        self.update: Callable[..., Tensor] = blend if self.is_bounded else published_update

    def forward(
        self, frames: Tensor, edges: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The layer over a chunk.

        Args:
            frames, edges: tokens (B, T, L, D).
            hidden: h before the chunk (B, L, D).
            cell: C before the chunk (B, L, D), float32: sums over thousands of frames stay in it.

        Returns:
            O_t = H_t of every frame (B, T, L, D), C_t of every frame's first token (B, T, D), and
            C after the chunk (B, L, D).
        """
        batch, num_frames, num_tokens, dim = frames.shape
        prompt = edges.float()
        said = shares(prompt) if self.is_bounded else (prompt,)
        parts = (frames, *self.gate.over_frames(frames, edges), *said)
        hidden, cell = hidden.flatten(0, 1), cell.flatten(0, 1)
        outputs, class_cells = [], []
        for t in range(num_frames):
            frame, asked, mixed, *said = (part[:, t].flatten(0, 1) for part in parts)
            gate = self.gate(frame, asked, mixed, hidden).float()
            cell = self.update(cell, gate, *said)
            hidden = (torch.tanh(cell) * torch.sigmoid(gate)).to(frames.dtype)
            outputs.append(hidden)
            class_cells.append(cell[::num_tokens])
        outputs = torch.stack(outputs).view(num_frames, batch, num_tokens, dim).transpose(0, 1)
        return outputs, torch.stack(class_cells, dim=1), cell.view(batch, num_tokens, dim)


def initial_decay(dim: int, depth_share: float) -> Tensor:
    """(D,): from -5 (far tokens count more) to 3 (near ones do), as Vision-RWKV starts."""
    channel = torch.linspace(0.0, 1.0, dim)
    return -5.0 + 8.0 * channel ** (0.7 + 1.3 * depth_share)


def initial_bonus(dim: int) -> Tensor:
    """(D,): a token counts for itself a third of what a neighbour does, give or take per channel.

    The zigzag keeps neighbouring channels from starting alike (RWKV, arXiv 2305.13048).
    """
    zigzag = (torch.arange(dim) + 1) % 3 - 1
    return math.log(0.3) + 0.5 * zigzag


def initial_class_prompt(dim: int, cell: str) -> Tensor:
    """(D,): the class token's own edge prompt, of random sign.

    Not zero, for a cell without a prompt stays at 0. The bounded cell's channels start with
    memories of 2 to 64 frames; the published cell would explode, so it starts near 0.
    """
    sign = torch.where(torch.rand(dim) < 0.5, -1.0, 1.0)
    if cell == "published":
        return 0.02 * sign
    return sign * torch.atanh(torch.logspace(-1.0, -6.0, dim, base=2.0))
