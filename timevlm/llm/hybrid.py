"""The hybrid Mamba-2/Transformer LLM with TransV: read a video once, ask it many times.

A sequence is prefix text, vision tokens, then text (question and answer). Three calls:

    state = lm.init_state(batch, num_video_tokens)
    state = lm.read_prefix(x, state); state = lm.read_video(x, state) ...   any chunks
    out = lm.read_prompt(x, state)            chooses vision tokens where a rule needs the question
    out = lm.read_text(x, out.state) ...      answer tokens, any chunks

Layers below `config.split_layer` are streamed: what a video leaves in them does not depend on the
question. From the split layer on, the prompt picks the vision tokens that go on, and the few that
are left run through the deep layers together with the prompt. `forward` is the slow twin: the
whole sequence through one layer after the other, as the paper describes it. Both give the same
logits.

Letters: B rows, L tokens of a call, D hidden size. Ragged rows are right-padded, see `state.py`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from timevlm.errors import ModelError
from timevlm.llm.attention import (
    Looks,
    VideoWindow,
    attention_looks,
    rank_keys,
)
from timevlm.llm.blocks import Backbone
from timevlm.llm.config import HybridConfig
from timevlm.llm.mamba2 import Mamba2Mixer
from timevlm.llm.ssd import BACKENDS
from timevlm.llm.state import (
    HybridState,
    LayerState,
    TokenStore,
    compact_rows,
    valid_mask,
)
from timevlm.llm.transv import arriving_counts, kept_counts, top_mask, uniform_mask


@dataclass(frozen=True)
class Spans:
    """How the tokens of each row divide: prefix text, vision tokens, text; each (B,)."""

    prefix: Tensor
    video: Tensor
    text: Tensor

    @property
    def total(self) -> Tensor:
        """(B,) tokens of each row."""
        return self.prefix + self.video + self.text


@dataclass(frozen=True)
class TextOutput:
    """What reading text gives: `hidden (B, L, D)` after the final norm, and the new state.

    `deep (B, L, D)` came to the pointing layer; None in a model without one.
    """

    hidden: Tensor
    state: HybridState
    deep: Tensor | None = None


@dataclass(frozen=True)
class _Joint:
    """Result of running whole rows through some layers."""

    x: Tensor
    spans: Spans
    layers: list[LayerState]
    transferred: list[TokenStore]
    inputs: list[Tensor]  # input of each layer, after any compression there
    ranking: Tensor | None
    kept: Tensor | None


class HybridLM(nn.Module):
    """Hybrid Mamba-2/Transformer LLM with TransV (TimeViper; NemotronH blocks)."""

    def __init__(self, config: HybridConfig, backend: str = "torch") -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise ModelError(f"SSD backend {backend!r} is unknown; use {', '.join(BACKENDS)}")
        self.config = config
        self.backbone = Backbone(config, backend)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights; projections back into the residual stream scaled by 1/sqrt(layers)."""
        std = self.config.initializer_range
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(std=std)
                if name.endswith(("out_proj", "o_proj", "down_proj")):
                    module.weight.div_(self.config.num_layers**0.5)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
            elif isinstance(module, Mamba2Mixer):
                module.reset_scan_parameters()

    def set_backend(self, backend: str) -> None:
        """Use another SSD backend from now on (see `ssd.choose_backend`)."""
        for block in self.backbone.layers:
            if isinstance(block.mixer, Mamba2Mixer):
                block.mixer.backend = backend

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) -> (B, L, D)."""
        return self.backbone.embeddings(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Normed hidden states (..., D) -> vocabulary logits (..., V), float32."""
        return self.lm_head(hidden).float()

    # ---- streaming ------------------------------------------------------------------------

    def init_state(self, num_video_tokens: Tensor) -> HybridState:
        """The state before anything is read, for rows that will have (B,) vision tokens each."""
        compressions = len(self.config.transv)
        return HybridState(
            layers=(None,) * self.config.num_layers,
            transferred=(TokenStore(),) * compressions,
            num_video_seen=tuple(torch.zeros_like(num_video_tokens) for _ in range(compressions)),
            num_video_total=num_video_tokens,
            num_prefix=torch.zeros_like(num_video_tokens),
        )

    def read_prefix(
        self, x: Tensor, state: HybridState, lengths: Tensor | None = None
    ) -> HybridState:
        """Read text `x (B, L, D)` that stands before the video."""
        split = self.config.split_layer
        layers = list(state.layers)
        for i in range(split):
            x, layers[i] = self.backbone.layers[i](x, layers[i], lengths)
        here = x.shape[1] if lengths is None else lengths
        state = replace(state, layers=tuple(layers), num_prefix=state.num_prefix + here)
        if split < self.config.num_layers:
            state = replace(state, held_prefix=state.held_prefix.append(x, lengths))
        return state

    def read_video(
        self,
        x: Tensor,
        state: HybridState,
        lengths: Tensor | None = None,
        marks: Tensor | None = None,
    ) -> HybridState:
        """Read the next vision tokens `x (B, L, D)`; what is dropped leaves keys and values.

        `marks (B, L, M)` stay with the tokens that come to the pointing layer, see `video_looks`.
        """
        split = self.config.split_layer
        layers = list(state.layers)
        transferred, seen = list(state.transferred), list(state.num_video_seen)
        arriving = arriving_counts(self.config.transv, state.num_video_total)
        window = self._window(state.num_prefix)
        for i in range(split):
            c = self._compression_at(i)
            if c is not None:
                mask, transferred[c], seen[c] = self._drop_uniformly(
                    c, x, lengths, (arriving[c], seen[c], state.num_video_total), transferred[c]
                )
                marks = None if marks is None else compact_rows(marks, mask)[0]
                x, lengths = compact_rows(x, mask)
            if i == self.config.pointing_layer:
                state = self._hold_marks(state, marks, lengths)
            if x.shape[1]:
                x, layers[i] = self.backbone.layers[i](x, layers[i], lengths, window)
        state = replace(
            state,
            layers=tuple(layers),
            transferred=tuple(transferred),
            num_video_seen=tuple(seen),
        )
        if split < self.config.num_layers:
            state = replace(state, held_video=state.held_video.append(x, lengths))
            state = self._hold_marks(state, marks, lengths)
        return state

    def _hold_marks(
        self, state: HybridState, marks: Tensor | None, lengths: Tensor | None
    ) -> HybridState:
        if marks is None:
            return state
        return replace(state, held_marks=state.held_marks.append(marks, lengths))

    def read_prompt(
        self,
        x: Tensor,
        state: HybridState,
        lengths: Tensor | None = None,
        rank_index: Tensor | None = None,
    ) -> TextOutput:
        """Read the text `x (B, L, D)` after the video; it must hold the whole question.

        `rank_index (B,)` is the place in `x` of the last prompt token, whose attention ranks the
        vision tokens; by default the last token of each row. Tokens after it (an answer to be
        scored) do not change the ranking.
        """
        split = self.config.split_layer
        if state.prompted:
            raise ModelError("this state has read its prompt; fork the state from before it")
        if split == self.config.num_layers:
            return self._read_all_layers(x, _with_marks(state, None), lengths)
        x, layers, _ = self._text_layers(x, state, lengths, range(split))
        num_text = x.new_full((x.shape[0],), x.shape[1], dtype=torch.long)
        text = num_text if lengths is None else lengths
        joint = self._join_and_run(
            x, lengths, state, text - 1 if rank_index is None else rank_index
        )
        layers[split:] = joint.layers[split:]
        start = joint.spans.prefix + joint.spans.video
        hidden = _part(self.backbone.norm_f(joint.x), start, int(text.max()))
        # At the split layer, there may be more vision tokens than further on.
        first = state.num_prefix + joint.kept.sum(dim=1)
        deep = _part(joint.inputs[0], first, int(text.max()))
        transferred = list(state.transferred)
        for c, compression in enumerate(self.config.transv):
            if compression.layer >= split:
                transferred[c] = joint.transferred[c]
        state = replace(
            state,
            layers=tuple(layers),
            transferred=tuple(transferred),
            held_prefix=TokenStore(),
            held_video=TokenStore(),
            ranking=joint.ranking,
            kept=joint.kept,
        )
        return TextOutput(hidden, _with_marks(state, joint.kept), deep)

    def read_text(self, x: Tensor, state: HybridState, lengths: Tensor | None = None) -> TextOutput:
        """Read text `x (B, L, D)` after the prompt: answer tokens, one or many at a time."""
        if not state.prompted:
            raise ModelError("read_text needs a state that has read its prompt; use read_prompt")
        return self._read_all_layers(x, state, lengths)

    def _read_all_layers(self, x: Tensor, state: HybridState, lengths: Tensor | None) -> TextOutput:
        x, layers, deep = self._text_layers(x, state, lengths, range(self.config.num_layers))
        return TextOutput(self.backbone.norm_f(x), replace(state, layers=tuple(layers)), deep)

    def _text_layers(
        self, x: Tensor, state: HybridState, lengths: Tensor | None, span: range
    ) -> tuple[Tensor, list[LayerState], Tensor | None]:
        layers, deep = list(state.layers), None
        for i in span:
            c = self._compression_at(i)
            if c is not None:
                x = x + self._transfer(c, x, state.transferred[c])
            if i == self.config.pointing_layer:
                deep = x
            x, layers[i] = self.backbone.layers[i](x, layers[i], lengths)
        return x, layers, deep

    def video_looks(self, out: TextOutput) -> Looks | None:
        """What text looks at in the pointing layer, vision tokens in the order of `state.marks`.

        None where none is marked. `out` is from `read_prompt` or `read_text`.
        """
        state = out.state
        if state.marks is None or not state.marks.shape[1]:
            return None  # such as in a model that has no attention to look with
        block = self.backbone.layers[self.config.pointing_layer]
        keys_values, valid = state.layers[self.config.pointing_layer].store.merged()
        if valid is not None:
            keys_values, _ = compact_rows(keys_values, valid)
        keys_values = _part(keys_values, state.num_prefix, state.marks.shape[1])
        is_there = valid_mask(state.num_marks, keys_values.shape[1])
        return attention_looks(block.mixer, block.norm(out.deep), keys_values, is_there)

    def values_of(self, x: Tensor) -> Tensor:
        """`Looks.values` of any tokens (B, L, D) that come to the pointing layer: (B, L, V)."""
        block = self.backbone.layers[self.config.pointing_layer]
        return block.mixer.v_proj(block.norm(x))

    def _drop_uniformly(
        self,
        c: int,
        x: Tensor,
        lengths: Tensor | None,
        counts: tuple[Tensor, Tensor, Tensor],
        store: TokenStore,
    ) -> tuple[Tensor, TokenStore, Tensor]:
        """Which tokens of a chunk (B, L) are kept, the store with the dropped ones, and `seen`."""
        compression = self.config.transv[c]
        arriving, seen, original = counts
        num_tokens = x.shape[1]
        kept = kept_counts(compression, original, arriving)
        mask = uniform_mask(arriving, kept, seen, num_tokens, lengths)
        here = torch.full_like(seen, num_tokens) if lengths is None else lengths
        if compression.transfer:
            dropped = ~mask if lengths is None else ~mask & valid_mask(lengths, num_tokens)
            lost, num_lost = compact_rows(x, dropped)
            if lost.shape[1]:
                store = store.append(self._keys_values(c, lost), num_lost)
        return mask, store, seen + here

    def _compression_at(self, layer: int) -> int | None:
        for c, compression in enumerate(self.config.transv):
            if compression.layer == layer:
                return c
        return None

    def _transfer(self, c: int, text: Tensor, store: TokenStore) -> Tensor | float:
        """tanh(alpha) x cross-attention of text to the tokens that compression `c` dropped."""
        if not self.config.transv[c].transfer or not store.parts:
            return 0.0
        gate = sum(t.transfer for t in self.config.transv[:c])
        moved = self.backbone.merge_modules[c](self._as_read(c, text), store)
        return torch.tanh(self.backbone.alpha[gate]).to(text.dtype) * moved

    def _keys_values(self, c: int, dropped: Tensor) -> Tensor:
        return self.backbone.merge_modules[c].keys_values(self._as_read(c, dropped))

    def _as_read(self, c: int, x: Tensor) -> Tensor:
        """The residual stream as compression `c` reads it: raw, or normalised for its layer."""
        compression = self.config.transv[c]
        return self.backbone.layers[compression.layer].norm(x) if compression.normalize else x

    def _window(self, num_prefix: Tensor, num_video: Tensor | None = None) -> VideoWindow | None:
        size = self.config.video_window
        return None if size is None else VideoWindow(size, num_prefix, num_video)

    # ---- whole rows -----------------------------------------------------------------------

    def _join_and_run(
        self, text: Tensor, lengths: Tensor | None, state: HybridState, rank_index: Tensor
    ) -> _Joint:
        """Put held prefix, held video and text into whole rows and run the deep layers."""
        parts, masks, counts = [], [], []
        text_store = TokenStore().append(text, lengths)
        for store in (state.held_prefix, state.held_video, text_store):
            if not store.parts:
                counts.append(torch.zeros_like(state.num_video_total))
                continue
            part, valid = store.merged()
            if valid is None:
                valid = part.new_ones(part.shape[:2], dtype=torch.bool)
            parts.append(part)
            masks.append(valid)
            counts.append(valid.sum(dim=1))
        x, _ = compact_rows(torch.cat(parts, dim=1), torch.cat(masks, dim=1))
        spans = Spans(*counts)
        return self._run_rows(x, spans, state.num_video_total, rank_index, self.config.split_layer)

    def _run_rows(
        self, x: Tensor, spans: Spans, original: Tensor, rank_index: Tensor, first_layer: int
    ) -> _Joint:
        """Whole rows through layers `first_layer` .. last, compressing on the way."""
        layers: list[LayerState] = [None] * self.config.num_layers
        transferred = [TokenStore() for _ in self.config.transv]
        inputs, ranking, kept = [], None, None
        for i in range(first_layer, self.config.num_layers):
            c = self._compression_at(i)
            if c is not None:
                before = spans
                x, spans, transferred[c], mask, scores = self._compress_rows(
                    c, x, spans, original, rank_index
                )
                if scores is not None and ranking is None:
                    ranking, kept = _video_part(scores, before), _video_part(mask, before)
            inputs.append(x)
            lengths = None if int(spans.total.min()) == x.shape[1] else spans.total
            window = self._window(spans.prefix, spans.video)
            x, layers[i] = self.backbone.layers[i](x, None, lengths, window)
        return _Joint(x, spans, layers, transferred, inputs, ranking, kept)

    def _compress_rows(
        self, c: int, x: Tensor, spans: Spans, original: Tensor, rank_index: Tensor
    ) -> tuple[Tensor, Spans, TokenStore, Tensor, Tensor | None]:
        """One compression over whole rows: (rows, spans, dropped store, kept mask, scores)."""
        compression = self.config.transv[c]
        num_tokens = x.shape[1]
        position = torch.arange(num_tokens, device=x.device)
        video_start = spans.prefix[:, None]
        text_start = video_start + spans.video[:, None]
        is_video = (position >= video_start) & (position < text_start)
        is_text = (position >= text_start) & (position < spans.total[:, None])
        kept = kept_counts(compression, original, spans.video)
        scores = None
        if compression.rule == "uniform":
            longest = int(spans.video.max())
            local = uniform_mask(spans.video, kept, torch.zeros_like(kept), longest, spans.video)
            goes_on = _place(local, spans.prefix, num_tokens)
        else:
            last = spans.prefix + spans.video + rank_index
            context = self._as_read(c, x)
            query = context.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
            visible = position <= last[:, None]
            mixer = self.backbone.layers[compression.layer].mixer
            scores = rank_keys(mixer, query, context, visible)
            goes_on = top_mask(scores, kept, is_video)
        store = TokenStore()
        dropped = is_video & ~goes_on
        if compression.transfer and bool(dropped.any()):
            lost, num_lost = compact_rows(x, dropped)
            store = store.append(self._keys_values(c, lost), num_lost)
            # Only text takes from the dropped tokens; a long video's own tokens as queries would
            # cost the square of its length.
            text, num_text = compact_rows(x, is_text)
            text = text + self._transfer(c, text, store)
            if num_text is not None:
                text = text[valid_mask(num_text, text.shape[1])]
            x = x.masked_scatter(is_text[..., None], text)
        valid = position < spans.total[:, None]
        x, _ = compact_rows(x, valid & ~dropped)
        return x, replace(spans, video=kept), store, goes_on, scores

    def forward(
        self,
        inputs_embeds: Tensor,
        spans: Spans,
        rank_index: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Whole right-padded rows (B, L, D) in one pass, the slow twin of the streaming calls.

        Returns the normed last hidden states `(B, L', D)`, and the input of every layer after any
        compression there, followed by those states. `rank_index` counts from the text's start.
        """
        index = spans.text - 1 if rank_index is None else rank_index
        joint = self._run_rows(inputs_embeds, spans, spans.video, index, 0)
        hidden = self.backbone.norm_f(joint.x)
        return hidden, [*joint.inputs, hidden]


def _part(rows: Tensor, start: Tensor, length: int) -> Tensor:
    """`length` places of each row (B, L, ...) from `start (B,)` on; past its end, its last one."""
    index = start[:, None] + torch.arange(length, device=rows.device)
    index = index.clamp(max=rows.shape[1] - 1).reshape(*index.shape, *[1] * (rows.dim() - 2))
    return rows.gather(1, index.expand(-1, -1, *rows.shape[2:]))


def _with_marks(state: HybridState, kept: Tensor | None) -> HybridState:
    """The state after a prompt that kept these (B, T) of the vision tokens, or None for all."""
    store = state.held_marks
    state = replace(state, prompted=True, held_marks=TokenStore())
    if not store.parts:
        return state
    marks, valid = store.merged()
    num_marks = marks.new_full((len(marks),), marks.shape[1], dtype=torch.long)
    if valid is not None:
        num_marks = valid.sum(dim=1)
        marks, _ = compact_rows(marks, valid)
    if kept is not None:
        num_marks = kept.sum(dim=1)
        marks, _ = compact_rows(marks, kept[:, : marks.shape[1]])
    return replace(state, marks=marks, num_marks=num_marks)


def _place(local: Tensor, start: Tensor, num_tokens: int) -> Tensor:
    """Shift row i of a mask (B, T) right by `start[i]` into a mask (B, num_tokens)."""
    placed = local.new_zeros(local.shape[0], num_tokens + local.shape[1])
    index = start[:, None] + torch.arange(local.shape[1], device=local.device)
    return placed.scatter_(1, index, local)[:, :num_tokens]


def _video_part(rows: Tensor, spans: Spans) -> Tensor:
    """The vision tokens' part of a (B, L) tensor, right-padded with zeros."""
    longest = int(spans.video.max())
    index = spans.prefix[:, None] + torch.arange(longest, device=rows.device)
    part = rows.gather(1, index.clamp(max=rows.shape[1] - 1))
    inside = torch.arange(longest, device=rows.device) < spans.video[:, None]
    return torch.where(inside, part, torch.zeros_like(part))
