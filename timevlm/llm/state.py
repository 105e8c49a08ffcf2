"""What the hybrid LLM carries from one call to the next. Every state is a value.

A step takes a state and returns a new one; nothing is changed in place, so that one state can be
forked by simply using it twice. Ragged batches are right-padded: `lengths (B,)` says how many
tokens of each row count, None that all do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from timevlm.llm.config import ATTENTION, MAMBA, HybridConfig


def valid_mask(lengths: Tensor, num_tokens: int) -> Tensor:
    """Boolean (B, num_tokens): True where a right-padded row holds a token."""
    return torch.arange(num_tokens, device=lengths.device) < lengths[:, None]


def compact_rows(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Move the tokens chosen by `mask (B, T)` to the front of each row, in order.

    Returns `(B, K, ...)` with K the largest number chosen, and the counts `(B,)`, or None when
    every row has K.
    """
    counts = mask.sum(dim=1)
    longest, shortest = int(counts.max()), int(counts.min())
    if longest == shortest == mask.shape[1]:
        return x, None
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)[:, :longest]
    index = order.reshape(order.shape + (1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index), None if longest == shortest else counts


@dataclass(frozen=True)
class MambaState:
    """Recurrent state of a Mamba-2 layer."""

    conv: Tensor  # (B, kernel - 1, channels): the last inputs of the short convolution
    ssm: Tensor  # (B, heads, head_dim, state), float32

    def map(self, fn: Callable[[Tensor], Tensor]) -> "MambaState":
        """The same state with `fn` applied to every tensor."""
        return MambaState(fn(self.conv), fn(self.ssm))


@dataclass(frozen=True)
class TokenStore:
    """Tokens that pile up along dimension 1, in parts, so that adding some copies nothing.

    `parts[i]` is (B, T_i, ...); `valid[i]` is a boolean (B, T_i), or None where all count. A part
    of one row in a store of several is shared by all of them.
    """

    parts: tuple[Tensor, ...] = ()
    valid: tuple[Tensor | None, ...] = ()

    def append(self, x: Tensor, lengths: Tensor | None) -> "TokenStore":
        """A store that also holds `x (B, T, ...)`."""
        if x.shape[1] == 0:
            return self
        mask = None if lengths is None else valid_mask(lengths, x.shape[1])
        return TokenStore((*self.parts, x), (*self.valid, mask))

    @property
    def num_tokens(self) -> int:
        """Padded number of tokens a row."""
        return sum(part.shape[1] for part in self.parts)

    def slice(self, start: int, stop: int) -> Tensor:
        """Tokens `start` to `stop` of every row, padding included; other parts are not touched."""
        found, place = [], 0
        for part in self.parts:
            first, last = max(start - place, 0), min(stop - place, part.shape[1])
            if first < last:
                found.append(part[:, first:last])
            place += part.shape[1]
        if not found:
            return self.parts[0][:, :0]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    @property
    def is_masked(self) -> bool:
        """Whether there may be tokens that do not count."""
        return any(valid is not None for valid in self.valid)

    def consolidated(self) -> "TokenStore":
        """The same tokens as a single part."""
        if len(self.parts) <= 1:
            return self
        mask = None
        if self.is_masked:
            mask = _joined(
                [
                    p.new_ones(p.shape[:2], dtype=torch.bool) if v is None else v
                    for p, v in zip(self.parts, self.valid, strict=True)
                ]
            )
        return TokenStore((_joined(self.parts),), (mask,))

    def tail_consolidated(self) -> "TokenStore":
        """The same tokens as at most two parts, of which the first is as it was."""
        if len(self.parts) <= 2:
            return self
        tail = TokenStore(self.parts[1:], self.valid[1:]).consolidated()
        return TokenStore((self.parts[0], *tail.parts), (self.valid[0], *tail.valid))

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """All tokens (B, T, ...) and their validity (B, T) or None. The store must not be empty."""
        whole = self.consolidated()
        return whole.parts[0], whole.valid[0]

    def map(self, fn: Callable[[Tensor], Tensor]) -> "TokenStore":
        """The same store with `fn` applied to every tensor, masks included."""
        return TokenStore(
            tuple(fn(p) for p in self.parts),
            tuple(None if v is None else fn(v) for v in self.valid),
        )


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts (B or 1, T_i, ...) one after the other: (B, T, ...)."""
    num_rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(num_rows, *part.shape[1:]) for part in parts], dim=1)


@dataclass(frozen=True)
class AttentionState:
    """Keys and values of an attention layer, side by side: (B, T, 2, kv_heads, head_dim)."""

    store: TokenStore = TokenStore()

    def map(self, fn: Callable[[Tensor], Tensor]) -> "AttentionState":
        """The same state with `fn` applied to every tensor."""
        return AttentionState(self.store.map(fn))


LayerState = MambaState | AttentionState | None


@dataclass(frozen=True)
class HybridState:
    """Everything that the hybrid LLM remembers of what it has read.

    Until the prompt has been read, the layers from the first question-dependent compression on
    have no state yet; their input waits in `held_prefix` and `held_video`. What vision tokens are
    marked with, which the layers do not see, is in `held_marks`, and after the prompt in `marks`:
    of those that come to the pointing layer.
    """

    layers: tuple[LayerState, ...]  # None for MLP layers and for layers not reached yet
    transferred: tuple[TokenStore, ...]  # per compression: keys and values of dropped tokens
    num_video_seen: tuple[Tensor, ...]  # per compression: (B,) vision tokens that arrived there
    num_video_total: Tensor  # (B,) vision tokens that the whole video will have
    num_prefix: Tensor  # (B,) text tokens that stand before the video
    held_prefix: TokenStore = TokenStore()  # residual stream at the split layer, (B, T, D)
    held_video: TokenStore = TokenStore()
    held_marks: TokenStore = TokenStore()  # (B, T, M), if there are any
    prompted: bool = False  # True once a prompt has been read
    ranking: Tensor | None = None  # (B, T) attention of the last prompt token to held_video
    kept: Tensor | None = None  # (B, T) which of them went on to the deep layers
    marks: Tensor | None = None  # (B, K, M), right-padded
    num_marks: Tensor | None = None  # (B,)
    lateness: Tensor | None = None  # (B, N) of the things that the prompt names, see `pointer.py`
    more: Tensor | None = None  # (B, N, Q) of the same and apart (B, 2), see `comparing.py`
    apart: Tensor | None = None
    clause_lateness: Tensor | None = None  # (B, V) of words of the prompt, see `clauses.py`
    longer: Tensor | None = None  # (B, S) of the scenes and between (B,), see `scenes.py`
    between: Tensor | None = None

    def map(self, fn: Callable[[Tensor], Tensor]) -> "HybridState":
        """The same state with `fn` applied to every tensor (move, cast, pick rows)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: fn(v) for name, v in values.items() if isinstance(v, Tensor)}
        stores = {name: v.map(fn) for name, v in values.items() if isinstance(v, TokenStore)}
        return replace(
            self,
            layers=tuple(None if s is None else s.map(fn) for s in self.layers),
            transferred=tuple(s.map(fn) for s in self.transferred),
            num_video_seen=tuple(fn(n) for n in self.num_video_seen),
            **stores,
            **tensors,
        )

    def to(self, device: torch.device | str) -> "HybridState":
        """The same state on another device."""
        return self.map(lambda t: t.to(device))

    def select_rows(self, rows: Tensor) -> "HybridState":
        """State whose row i is row `rows[i]` of this one: fork a video for several questions.

        What the rows share they go on to share.
        """
        num_rows = self.batch_size
        return self.map(lambda t: t if t.shape[0] < num_rows else t.index_select(0, rows))

    def shared_by(self, num_rows: int) -> "HybridState":
        """A state of one row as `num_rows` rows; tokens that piled up are shared, not copied."""
        rows = self.map(lambda t: t.expand(num_rows, *t.shape[1:]))
        layers = tuple(
            mine if isinstance(mine, AttentionState) else own
            for mine, own in zip(self.layers, rows.layers, strict=True)
        )
        return replace(rows, layers=layers, transferred=self.transferred)

    def consolidated(self) -> "HybridState":
        """The same state with every store in one piece, as it is saved and forked."""
        layers = tuple(
            AttentionState(s.store.consolidated()) if isinstance(s, AttentionState) else s
            for s in self.layers
        )
        return replace(
            self,
            layers=layers,
            transferred=tuple(s.consolidated() for s in self.transferred),
            held_prefix=self.held_prefix.consolidated(),
            held_video=self.held_video.consolidated(),
            held_marks=self.held_marks.consolidated(),
        )

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.num_video_total.shape[0]


def fits_config(state: HybridState, config: HybridConfig) -> bool:
    """Whether a state in which a video was read has the layers and compressions of `config`."""
    if not len(state.transferred) == len(state.num_video_seen) == len(config.transv):
        return False
    kinds = {MAMBA: MambaState, ATTENTION: AttentionState}
    expected = [kinds.get(letter, type(None)) for letter in config.pattern]
    if not state.prompted:  # from here on the question is waited for
        expected[config.split_layer :] = [type(None)] * (config.num_layers - config.split_layer)
    return [type(layer) for layer in state.layers] == expected


def state_tensors(state: HybridState) -> dict[str, Tensor]:
    """Flat name -> tensor table of a consolidated state, for saving. Masks end in `.valid`."""
    tensors = {"num_video_total": state.num_video_total, "num_prefix": state.num_prefix}
    for i, seen in enumerate(state.num_video_seen):
        tensors[f"num_video_seen.{i}"] = seen

    def add_store(name: str, store: TokenStore) -> None:
        if store.parts:
            x, valid = store.merged()
            tensors[name] = x
            if valid is not None:
                tensors[f"{name}.valid"] = valid

    for i, layer in enumerate(state.layers):
        if isinstance(layer, MambaState):
            for f in fields(layer):
                tensors[f"layers.{i}.{f.name}"] = getattr(layer, f.name)
        elif isinstance(layer, AttentionState):
            add_store(f"layers.{i}.kv", layer.store)
    for i, store in enumerate(state.transferred):
        add_store(f"transferred.{i}", store)
    add_store("held_prefix", state.held_prefix)
    add_store("held_video", state.held_video)
    add_store("held_marks", state.held_marks)
    return tensors


def state_from_tensors(
    tensors: dict[str, Tensor], pattern: str, num_compressions: int
) -> HybridState:
    """Rebuild what `state_tensors` flattened. Raises KeyError when a tensor is missing."""

    def store(name: str) -> TokenStore:
        if name not in tensors:
            return TokenStore()
        return TokenStore((tensors[name],), (tensors.get(f"{name}.valid"),))

    layers: list[LayerState] = []
    for i, kind in enumerate(pattern):
        if kind == "M" and f"layers.{i}.ssm" in tensors:
            layers.append(MambaState(tensors[f"layers.{i}.conv"], tensors[f"layers.{i}.ssm"]))
        elif kind == "*" and f"layers.{i}.kv" in tensors:
            layers.append(AttentionState(store(f"layers.{i}.kv")))
        else:
            layers.append(None)
    return HybridState(
        layers=tuple(layers),
        transferred=tuple(store(f"transferred.{i}") for i in range(num_compressions)),
        num_video_seen=tuple(tensors[f"num_video_seen.{i}"] for i in range(num_compressions)),
        num_video_total=tensors["num_video_total"],
        num_prefix=tensors["num_prefix"],
        held_prefix=store("held_prefix"),
        held_video=store("held_video"),
        held_marks=store("held_marks"),
    )
