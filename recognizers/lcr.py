"""LCR, LSTM CrossRWKV: a recurrent video recognizer that edges prompt (arXiv 2411.05636).

A frame becomes patches and its Canny edges become a second set of patches; a class token leads
each; rotary positions are turned into both. A stack of recurrent layers (`lcr_cell`) reads the
frames one after the other; the class is read from the class token of the last layer's output and
cell: W LN(concat(O_cls, C_cls)). A frame's cost and the state's size do not grow with the video.

Where this leaves the paper or fills a gap in it: docs/recognizers/lcr.md.

Legend: B = streams, T = frames, P = patches of a frame, L = tokens (P kept ones and the class
token), D = channels, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from recognizers.base import State, StreamingRecognizer, register
from recognizers.edges import edge_maps
from recognizers.errors import ConfigError, FrameError, StateError
from recognizers.lcr_cell import CELLS, KEYS, LCRLayer, initial_class_prompt

# Numbers in one chunk's tokens: the step cuts longer inputs, so that memory stays flat and what
# the loop over frames reads is still in the processor's cache.
CHUNK_NUMBERS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LCRConfig:
    """Sizes of an LCR. Raises ConfigError where they contradict each other."""

    num_classes: int
    dim: int  # channels of a token
    depth: int  # recurrent layers
    num_heads: int  # groups of channels that are normalised together after Bi-WKV
    patch_size: int = 16  # pixels; pictures are whole patches high and wide
    hidden_ratio: int = 4  # channels inside channel mixing, times dim
    # How the cell is updated, and what keys and values are made of: see `lcr_cell`.
    cell: Literal["published", "bounded"] = "bounded"
    keys: Literal["edges", "both"] = "both"
    # Share of the patches that training hides, the same ones in all frames of a clip.
    mask_ratio: float = 0.0
    # Slowest rotation of the positions, in patches: pictures are some tens of patches wide.
    rotary_base: float = 100.0

    def __post_init__(self) -> None:
        for name in ("num_classes", "dim", "depth", "num_heads", "patch_size", "hidden_ratio"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give 1 or more")
        if self.dim % 4 or self.dim % self.num_heads:
            raise ConfigError(
                f"dim={self.dim} with num_heads={self.num_heads}: give a multiple of 4 (rows and "
                "columns rotate pairs of channels) and of num_heads"
            )
        if self.cell not in CELLS:
            raise ConfigError(f"cell={self.cell!r}: choose one of {', '.join(CELLS)}")
        if self.keys not in KEYS:
            raise ConfigError(f"keys={self.keys!r}: choose one of {', '.join(KEYS)}")
        if not 0.0 <= self.mask_ratio < 1.0:
            raise ConfigError(f"mask_ratio={self.mask_ratio}: give a share in [0, 1)")
        if self.rotary_base <= 0.0:
            raise ConfigError(f"rotary_base={self.rotary_base}: give a number above 0")


class LCR(StreamingRecognizer):
    """Frames (B, T, 3, H, W) to logits (B, T, K); see the base class for the interface.

    The state holds `hidden` (B, depth, L, D) and `cell` (the same, always float32); while training
    with `mask_ratio` also `kept` (B, P'), the patches that the clip's frames are read at.
    """

    family = "lcr"
    config_class = LCRConfig
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self, config: LCRConfig, labels: Sequence[str] | None = None) -> None:
        super().__init__(config, labels)
        dim, patch = config.dim, config.patch_size
        self.patches = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.edge_patches = nn.Conv2d(1, dim, kernel_size=patch, stride=patch)
        # Training starts with edges that say nothing and lets them in as far as they help.
        nn.init.zeros_(self.edge_patches.weight)
        nn.init.zeros_(self.edge_patches.bias)
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.edge_class_token = nn.Parameter(initial_class_prompt(dim, config.cell))
        self.layers = nn.ModuleList(
            LCRLayer(
                dim,
                config.num_heads,
                config.hidden_ratio,
                cell=config.cell,
                keys=config.keys,
                depth_share=index / max(config.depth - 1, 1),
            )
            for index in range(config.depth)
        )
        self.head_norm = nn.LayerNorm(2 * dim)
        self.head = nn.Linear(2 * dim, config.num_classes)

    def init_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Zeros; in training mode with `mask_ratio` also a fresh tube mask for every stream.

        Raises FrameError if the picture is not whole patches.
        """
        device = self.device if device is None else device
        rows, columns = self._grid(height, width)
        num_tokens, masked = rows * columns, {}
        if self.training and self.config.mask_ratio > 0.0:
            kept = tube_mask(batch_size, num_tokens, self.config.mask_ratio, device=device)
            masked, num_tokens = {"kept": kept}, kept.shape[1]
        shape = (batch_size, self.config.depth, 1 + num_tokens, self.config.dim)
        hidden = torch.zeros(shape, device=device, dtype=dtype or self.dtype)
        return {"hidden": hidden, "cell": torch.zeros(shape, device=device), **masked}

    def step(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, T, K) after each frame, and the next state; see the base class.

        Raises FrameError or StateError where shapes do not fit.
        """
        self.check_frames(frames)
        batch_size, _, _, height, width = frames.shape
        rows, columns = self._grid(height, width)
        if missing := [name for name in ("hidden", "cell") if name not in state]:
            raise StateError(
                f"the state lacks {' and '.join(missing)}: make it with this model's init_state"
            )
        num_tokens = state["hidden"].shape[2]
        expected = 1 + (state["kept"].shape[1] if "kept" in state else rows * columns)
        if num_tokens != expected or state["hidden"].shape[0] != batch_size:
            raise StateError(
                f"a state of {state['hidden'].shape[0]} streams of {num_tokens - 1} patches, frames"
                f" of {batch_size} of {expected - 1}: make it with init_state({batch_size}, "
                f"{height}, {width})"
            )
        chunk = max(1, CHUNK_NUMBERS // (batch_size * num_tokens * self.config.dim))
        logits = []
        for part in frames.split(chunk, dim=1):
            part_logits, state = self._chunk(part, state)
            logits.append(part_logits)
        return torch.cat(logits, dim=1), state

    def _chunk(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        tokens, edges = self._tokens(frames, state.get("kept"))
        hiddens, cells = [], []
        for index, layer in enumerate(self.layers):
            hidden, cell = state["hidden"][:, index], state["cell"][:, index]
            tokens, class_cell, cell = layer(tokens, edges, hidden.to(tokens.dtype), cell)
            hiddens.append(tokens[:, -1])
            cells.append(cell)
        both = torch.cat([tokens[:, :, 0], class_cell.to(tokens.dtype)], dim=-1)
        new = {
            **state,
            "hidden": torch.stack(hiddens, dim=1).to(state["hidden"].dtype),
            "cell": torch.stack(cells, dim=1),
        }
        return self.head(self.head_norm(both)), new

    def _tokens(self, frames: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens of frames and of their edges, (B, T, L, D) each."""
        batch_size, num_frames = frames.shape[:2]
        flat = frames.flatten(0, 1)
        edges = edge_maps(flat).to(self.dtype)[:, None]
        grid = self._grid(*flat.shape[-2:])
        tables = rotary_tables(grid, self.config.dim, self.config.rotary_base, self.class_token)
        both = []
        for pixels, embedding, class_token in (
            (self.normalize(flat), self.patches, self.class_token),
            (edges, self.edge_patches, self.edge_class_token),
        ):
            tokens = rotate(embed_patches(pixels, embedding), *tables)
            tokens = tokens.unflatten(0, (batch_size, num_frames))
            if kept is not None:
                index = kept[:, None, :, None].expand(-1, num_frames, -1, self.config.dim)
                tokens = tokens.gather(2, index)
            leading = class_token.expand(batch_size, num_frames, 1, -1)
            both.append(torch.cat([leading, tokens], dim=2))
        return both[0], both[1]

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches down and across."""
        patch = self.config.patch_size
        if height % patch or width % patch or not height or not width:
            raise FrameError(
                f"a picture of {height}x{width} is not whole patches of {patch}: resize it to "
                f"multiples of {patch}"
            )
        return height // patch, width // patch


def embed_patches(pictures: Tensor, embedding: nn.Conv2d) -> Tensor:
    """Tokens (N, P, D) of pictures (N, C, H, W): the convolution, whose windows do not overlap.

    One matrix product on the pixels of each patch, which is faster than such a convolution is.
    """
    size = embedding.kernel_size[0]
    patches = pictures.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (N, C, h, p, w, p)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return nn.functional.linear(patches, embedding.weight.flatten(1), embedding.bias)


def rotary_tables(
    grid: Sequence[int], dim: int, base: float, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (P, D / 2) of the patches' angles, in the dtype and device of `like`.

    Rotary positions (RoFormer, arXiv 2104.09864) in two dimensions: the first half of the pairs of
    channels turns with the patch's row, the second with its column, from one radian a patch down to
    1 / base.
    """
    rows, columns = grid
    num_rates = dim // 4
    rates = base ** (-torch.arange(num_rates, device=like.device) / num_rates)
    down = torch.arange(rows, device=like.device)[:, None] * rates
    right = torch.arange(columns, device=like.device)[:, None] * rates
    angles = torch.cat(
        [
            down[:, None].expand(rows, columns, num_rates),
            right[None].expand(rows, columns, num_rates),
        ],
        dim=-1,
    ).flatten(0, 1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Tokens (..., P, D) with channel i and i + D / 2 turned as a pair by the patch's angle i."""
    first, second = tokens.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def tube_mask(
    batch_size: int,
    num_patches: int,
    ratio: float,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """int64 (B, P'): patches that stay, ascending, drawn for every stream; at least one stays.

    The same patches in all frames (a tube through time), so that a model cannot look a hidden patch
    up in the frame before (VideoMAE, arXiv 2203.12602).
    """
    num_kept = max(1, round(num_patches * (1.0 - ratio)))
    noise = torch.rand(batch_size, num_patches, device=device, generator=generator)
    return noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values


def multiply_adds(config: LCRConfig, height: int, width: int, mask_ratio: float = 0.0) -> int:
    """Multiply-adds of one frame: convolutions and matrix products, as FLOP counters count them.

    Twice as many floating-point operations. Edges, Bi-WKV, norms and gates are left out; they are
    a few dozen operations a token and channel.
    """
    num_patches = (height // config.patch_size) * (width // config.patch_size)
    num_kept = max(1, round(num_patches * (1.0 - mask_ratio)))
    square = config.dim**2
    # R and G of frame and past 4, K and V 2, W_a 1; receptance 1, key and value.
    per_token = square * (8 + 2 * config.hidden_ratio)
    embedding = num_patches * config.dim * 4 * config.patch_size**2
    head = 2 * config.dim * config.num_classes
    return config.depth * per_token * (1 + num_kept) + embedding + head


# The published Jester model, its sizes found from its parameter count (docs/recognizers/lcr.md).
_JESTER = {"num_classes": 27, "dim": 384, "depth": 2, "num_heads": 6}
register("lcr-jester", "lcr", LCRConfig(**_JESTER, cell="published", keys="edges"))
register("lcr-jester-bounded", "lcr", LCRConfig(**_JESTER))
# For the pre-filter: 96x96 pictures, under 1 MB in half precision.
register("lcr-tiny", "lcr", LCRConfig(num_classes=2, dim=96, depth=2, num_heads=3))
