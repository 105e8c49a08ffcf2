"""The loss of the whole model: next-token prediction of answers, and tracks of objects."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.attention import Looks
from timevlm.llm.config import MLP, HybridConfig
from timevlm.llm.state import HybridState, compact_rows
from timevlm.model import IGNORE_INDEX, TimeVLMForConditionalGeneration
from timevlm.training.batches import Batch
from timevlm.training.kinds import BASIC, Kinds
from timevlm.training.labels import PatchLabels
from timevlm.training.phrases import PhraseTokens
from timevlm.training.tracks import (
    NUM_MEASURE_TARGETS,
    TrackHead,
    drop_as_read,
    lookup_loss,
    measure_loss,
    measure_targets,
    phrase_loss,
    scene_loss,
    track_targets,
)


class Losses(NamedTuple):
    """Losses of a batch, and how well greedy decoding under teacher forcing would do.

    answers, tracks, measures, lookups, phrases and asked are scalars; predicted (R, Lt) next
    tokens, counted (R, Lt) which of them are asked for.
    """

    answers: Tensor
    tracks: Tensor
    measures: Tensor
    lookups: Tensor
    phrases: Tensor
    asked: Tensor
    predicted: Tensor
    counted: Tensor


class Tracked(NamedTuple):
    """What videos leave behind, and the tokens that are asked for their tracks.

    state: with a row a video; tokens (V, L, D) as they come to `track_layer`; targets (V, L, K),
    measures (V, L, NUM_MEASURE_TARGETS) and seconds (V, L) of the same tokens, as `track_targets`
    and `measure_targets` give them, after merging and dropping.
    """

    state: HybridState
    tokens: Tensor
    targets: Tensor
    measures: Tensor
    seconds: Tensor


class AnswerObjective(nn.Module):
    """Mean cross-entropy of the answers' tokens; the module that gradients flow through.

    `prefix_ids` stand before every video; `kinds` are those of the level that labels count in, and
    `tracks`, drawn anew if None, asks for them. An answer of n tokens weighs n ** `length_power`: a
    caption has fifty times the tokens of a colour, and square roots keep both heard.
    """

    def __init__(
        self,
        model: TimeVLMForConditionalGeneration,
        prefix_ids: Sequence[int],
        kinds: Kinds = BASIC,
        tracks: TrackHead | None = None,
        length_power: float = 0.5,
    ) -> None:
        super().__init__()
        self.model = model
        self.prefix_ids = list(prefix_ids)
        self.kinds = kinds
        self.tracks = tracks or TrackHead(model.config.llm.hidden_size, kinds)
        self.length_power = length_power

    def watch(self, batch: Batch, features: Tensor | None = None) -> HybridState:
        """Read all videos at once: a state with a row a video."""
        model = self.model
        if features is None:
            features = model.encode_frames(batch.pixels, batch.frame_seconds, batch.frame_counts)
        x = model.llm.embed(batch.video_ids)
        is_frame = batch.video_ids == model.config.frame_token_id
        x = x.masked_scatter(is_frame[..., None], features.flatten(0, 1).to(x.dtype))
        prefix = torch.tensor([self.prefix_ids], device=x.device).expand(len(x), -1)
        state = model.llm.init_state(batch.video_lengths)
        state = model.llm.read_prefix(model.llm.embed(prefix), state)
        marks = model.time_marks(batch.video_ids, batch.frame_seconds)
        return model.llm.read_video(x, state, batch.video_lengths, marks)

    def watch_tracking(self, batch: Batch, labels: PatchLabels) -> Tracked:
        """As `watch`, with the tokens that are asked for their tracks and what they are asked for.

        These are the tokens that wait for the question or, in a model that does not rank, those
        that come to its last layer that mixes tokens.
        """
        model, config = self.model, self.model.config.llm
        layer = track_layer(config)
        with torch.no_grad():
            patches = model.vision(batch.pixels)
            changes = model.frame_changes(batch.pixels, batch.frame_counts)
        companion = torch.cat([track_targets(labels, self.kinds), measure_targets(labels)], dim=-1)
        features, soft = model.merge_patches(patches, companion, changes)
        features = model.tell_picture(features, batch.pixels, batch.frame_counts)
        features = model.tell_times(features, batch.frame_seconds)
        with outputs_of(model.llm.backbone.layers[layer - 1]) as outputs:
            state = self.watch(batch, features).consolidated()
        is_frame = batch.video_ids == model.config.frame_token_id
        when = batch.frame_seconds.to(soft)[:, None, None].expand(-1, soft.shape[1], -1)
        soft = torch.cat([soft, when], dim=-1)
        targets = soft.new_zeros(*batch.video_ids.shape, soft.shape[-1])
        targets = targets.masked_scatter(is_frame[..., None], soft.flatten(0, 1))
        dropped = [c for c in config.transv if c.layer < layer]
        targets = drop_as_read(targets, batch.video_lengths, dropped)
        widths = [targets.shape[-1] - NUM_MEASURE_TARGETS - 1, NUM_MEASURE_TARGETS, 1]
        targets, measures, seconds = targets.split(widths, dim=-1)
        # The prefix is read first, the videos in one piece after it.
        return Tracked(state, outputs[-1][0], targets, measures, seconds.squeeze(-1))

    def forward(self, batch: Batch, labels: PatchLabels | None = None) -> Losses:
        """The losses of a batch; without `labels` of its frames' patches only that of answers."""
        tracking = measured = lookup = told = asked = torch.zeros((), device=batch.pixels.device)
        seen = None
        if labels is None:
            state = self.watch(batch).consolidated()
        else:
            tracked = self.watch_tracking(batch, labels)
            state, seen = tracked.state, (tracked.targets, tracked.seconds)
            tracking = self.tracks(tracked.tokens, tracked.targets)
            measured = measured + self._measured(tracked)
        counted = F.pad(batch.labels[:, 1:] != IGNORE_INDEX, (0, 1))
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE_INDEX)
        predicted = torch.full_like(batch.labels, IGNORE_INDEX)
        num_counted = counted.sum(dim=1, keepdim=True)
        weight = counted * num_counted.float() ** (self.length_power - 1)
        total = batch.pixels.new_zeros((), dtype=torch.float32)
        for rows in length_buckets(batch.text_lengths):
            width = int(batch.text_lengths[rows].max())
            x = self.model.llm.embed(batch.text_ids[rows, :width])
            forked = state.select_rows(batch.row_video[rows])
            out = self.model.llm.read_prompt(
                x, forked, batch.text_lengths[rows], batch.rank_index[rows]
            )
            ids, looks = batch.text_ids[rows, :width], self.model.llm.video_looks(out)
            out = self.model.recall_order(out, ids, looks, batch.rank_index[rows] + 1)
            here = counted[rows, :width]
            logits = self.model.text_logits(out, ids, looks)[here]
            each = F.cross_entropy(logits, targets[rows, :width][here], reduction="none")
            total = total + (each * weight[rows, :width][here]).sum()
            best = torch.full_like(here, IGNORE_INDEX, dtype=torch.long)
            best[here] = logits.detach().argmax(dim=-1)
            predicted[rows, :width] = best
            if seen is not None and out.state.ranking is not None:
                tokens, seconds = (each[batch.row_video[rows]] for each in seen)
                wanted = batch.lookups.of_rows(rows)
                looked = lookup_loss(out.state.ranking, tokens, seconds, wanted, self.kinds)
                lookup = lookup + looked
                shown = (looks, out.state.kept, (tokens, seconds))
                told = told + self._told(*shown, batch.phrases.of_rows(rows))
                asked = asked + self._told(*shown, batch.asked.of_rows(rows))
        lookup = lookup / len(batch.row_video)
        told = told / max(1, len(batch.phrases.rows))
        asked = asked / max(1, len(batch.asked.rows))
        answers = total / weight.sum()
        return Losses(answers, tracking, measured, lookup, told, asked, predicted, counted)

    def _measured(self, tracked: Tracked) -> Tensor | float:
        """The loss of what is read from what attention hands on of the tracked tokens, if any."""
        loss = 0.0
        if self.model.comparing is None and self.model.scenes is None:
            return loss  # a model without attention hands on nothing
        values = self.model.llm.values_of(tracked.tokens)
        if self.model.comparing is not None:
            loss = measure_loss(self.model.comparing.read(values).float(), tracked.measures)
        if self.model.scenes is not None:
            read = self.model.scenes.read(values).float()
            loss = loss + scene_loss(read, tracked.targets, self.kinds)
        return loss

    def _told(
        self,
        looks: Looks | None,
        kept: Tensor,
        seen: tuple[Tensor, Tensor],
        phrases: PhraseTokens,
    ) -> Tensor | float:
        """The loss of phrases in rows whose text looks so at K kept vision tokens.

        kept (R, T) of the vision tokens whose targets (R, >= T, K) and seconds are in `seen`.
        """
        if looks is None or not len(phrases.rows):
            return 0.0
        targets, seconds = (
            compact_rows(each[:, : kept.shape[1]], kept)[0][phrases.rows] for each in seen
        )
        attention = looks.shares[phrases.rows, phrases.places]
        return phrase_loss(attention, targets, seconds, phrases, self.kinds)


def track_layer(config: HybridConfig) -> int:
    """The layer, not the first, to which vision tokens come as their tracks are asked for.

    That is where they wait for the question; without such a place, the last that mixes tokens.
    """
    if config.split_layer < config.num_layers:
        return max(1, config.split_layer)
    return max(1, *(i for i, kind in enumerate(config.pattern) if kind != MLP))


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """A list that what the module gives is added to, call by call, inside the context."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def length_buckets(lengths: Tensor, ratio: float = 2.0) -> list[Tensor]:
    """Row indices in groups whose longest is at most `ratio` times the shortest.

    Captions are ten times longer than answers; padded to one width, most of a batch would be
    padding.
    """
    order = torch.argsort(lengths)
    buckets, start = [], 0
    sorted_lengths = lengths[order].tolist()
    for i, length in enumerate(sorted_lengths):
        if length > ratio * sorted_lengths[start]:
            buckets.append(order[start:i])
            start = i
    return [*buckets, order[start:]]
