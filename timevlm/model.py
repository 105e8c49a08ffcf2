"""The video-language model: vision tower, token merging, projector and hybrid LLM.

`TimeVLMForConditionalGeneration` is a transformers model: `from_pretrained`, `save_pretrained`,
`generate`. Its cache is not transformers' `Cache` but a `HybridState`, a value that can be forked;
it is passed and returned as `state`. Importing this module registers the Auto classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from timevlm.clauses import ClausePointer
from timevlm.comparing import ComparePointer, Comparison, LengthPointer
from timevlm.configuration import TimeVLMConfig
from timevlm.errors import InputError
from timevlm.llm.attention import Looks
from timevlm.llm.hybrid import HybridLM, TextOutput
from timevlm.llm.ssd import choose_backend
from timevlm.llm.state import HybridState, compact_rows, valid_mask
from timevlm.pointer import (
    OrderPointer,
    TimePointer,
    asked_words,
    asking_tokens,
    more_than_others,
    when_seen,
)
from timevlm.processing import TimeVLMProcessor
from timevlm.scenes import ScenePointer, Scenes
from timevlm.vision.changes import ChangeEmbedding, ShiftEmbedding, patch_changes, patch_shifts
from timevlm.vision.encoder import VisionEncoder
from timevlm.vision.flows import patch_flows
from timevlm.vision.order import interlaced_order, reorder
from timevlm.vision.picture import PictureEmbedding, picture_values
from timevlm.vision.places import PlaceEmbedding, patch_centres
from timevlm.vision.projector import MLPProjector
from timevlm.vision.times import WORDS_PER_TIME, TimeEmbedding, timestamp_words
from timevlm.vision.tome import merge_with_companion

IGNORE_INDEX = -100  # label of tokens that the loss skips


@dataclass
class TimeVLMOutput(ModelOutput):
    """`logits (B, T, V)` of the text after the video, `loss` if labels were given, new `state`.

    Rows of text are right-padded, or left-padded when the input was, so that `logits[:, -1]` is
    what `generate` expects.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: HybridState | None = None


class TimeVLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Answers text about a video that stands before it (TimeViper, section 3)."""

    config_class = TimeVLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _is_stateful = True  # a recurrent state cannot be rewound

    def __init__(self, config: TimeVLMConfig) -> None:
        super().__init__(config)
        llm = config.llm
        self.vision = VisionEncoder(
            config.vision, image_mean=config.image_mean, image_std=config.image_std
        )
        self.projector = MLPProjector(config.vision.hidden_size, llm.hidden_size)
        self.places = PlaceEmbedding(llm.hidden_size) if config.place_embedding else None
        self.changes = ChangeEmbedding(llm.hidden_size) if config.change_embedding else None
        self.picture = PictureEmbedding(llm.hidden_size) if config.picture_embedding else None
        self.shifts = ShiftEmbedding(llm.hidden_size) if config.picture_embedding else None
        self.times = TimeEmbedding(llm.hidden_size) if config.time_embedding else None
        first_ids = config.timestamp_token_ids
        self.pointer = None if first_ids is None else TimePointer(tuple(first_ids))
        named_ids = config.named_token_ids
        self.order = None if named_ids is None else OrderPointer(named_ids, llm.hidden_size)
        self.comparing, value_size = None, llm.num_key_value_heads * llm.head_dim
        if config.side_token_ids is not None:
            self.comparing = ComparePointer(
                named_ids, config.side_token_ids, value_size, llm.hidden_size
            )
        number_ids = config.number_token_ids
        self.lengths = None if number_ids is None else LengthPointer(number_ids, llm.hidden_size)
        self.clauses = None
        if config.separator_token_ids is not None:
            self.clauses = ClausePointer(
                config.separator_token_ids, llm.vocab_size, llm.hidden_size
            )
        self.scenes = None
        if config.ordinal_token_ids is not None:
            self.scenes = ScenePointer(
                config.ordinal_token_ids, number_ids, value_size, llm.hidden_size
            )
        self.llm = HybridLM(llm, choose_backend("auto", "cpu"))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # Every part draws its own weights when it is built, and loading is strict.
        return

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_input_embeddings(self) -> nn.Module:
        """Embedding table of the LLM."""
        return self.llm.backbone.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding table."""
        self.llm.backbone.embeddings = value

    # ---- vision ---------------------------------------------------------------------------

    def encode_frames(
        self,
        pixels: Tensor,
        seconds: Tensor | None = None,
        frame_counts: Sequence[int] | Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Frames uint8 (N, 3, H, W), any size -> LLM inputs (N, tokens_per_frame, D).

        seconds (N,): the frames' times; only a model with `time_embedding` needs them.
        frame_counts, previous: which frames are of one video, and the frame before the first of
        them, as `patch_shifts` takes them; only a model with `change_embedding` or
        `picture_embedding` looks at them. Raises `InputError` when times are missing.
        """
        changes = self.frame_changes(pixels, frame_counts, previous)
        features, _ = self.merge_patches(self.vision(pixels), None, changes)
        features = self.tell_picture(features, pixels, frame_counts, previous)
        return self.tell_times(features, seconds)

    def frame_changes(
        self,
        pixels: Tensor,
        frame_counts: Sequence[int] | Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor | None:
        """What patches of the frames are told of the frame before, if any: (N, T, 3 or 5).

        `patch_shifts`, of which a model without `picture_embedding` is told only the size; one with
        it is told of `patch_flows` as well.
        """
        if self.changes is None and self.shifts is None:
            return None
        of_frames = pixels, self.config.patch_grid, frame_counts, previous
        shifts = patch_shifts(*of_frames)
        if self.shifts is None:
            return shifts
        return torch.cat([shifts, patch_flows(*of_frames)], dim=-1)

    def tell_picture(
        self,
        features: Tensor,
        pixels: Tensor,
        frame_counts: Sequence[int] | Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Features (N, K, D) that know what the picture does, if the model wants that."""
        if self.picture is None:
            return features
        values = picture_values(pixels, frame_counts, previous)
        return features + self.picture(values.to(features.dtype))[:, None]

    def tell_times(self, features: Tensor, seconds: Tensor | None) -> Tensor:
        """Features (N, K, D) that know their frames' times (N,), if the model wants that.

        Raises `InputError` when such a model gets no times.
        """
        if self.times is None:
            return features
        seconds = _checked_seconds(seconds, len(features))
        return features + self.times(seconds.to(features.device)).to(features.dtype)[:, None]

    def time_marks(self, ids: Tensor, seconds: Tensor | None) -> Tensor | None:
        """The words of the timestamps of video ids (B, T): uint8 (B, T, 4); None without pointer.

        seconds (N,) are the times of all rows' frames. Text before a frame has the frame's time.
        Raises `InputError` when a model that points at times gets none.
        """
        if self.pointer is None:
            return None
        is_frame = ids == self.config.frame_token_id
        per_frame = self.config.tokens_per_frame
        seconds = _checked_seconds(seconds, int(is_frame.sum()) // per_frame)
        if not len(seconds):
            return torch.zeros(*ids.shape, WORDS_PER_TIME, dtype=torch.uint8, device=ids.device)
        before = (is_frame.flatten().cumsum(dim=0) - is_frame.flatten().long()).view_as(ids)
        frame = (before // per_frame).clamp(max=len(seconds) - 1)
        return timestamp_words(seconds.to(ids.device)).to(torch.uint8)[frame]

    def recall_order(
        self, out: TextOutput, ids: Tensor, looks: Looks | None, num_asked: Tensor | None = None
    ) -> TextOutput:
        """What reading a prompt gave, with what is to be said of the things it names in its state.

        The first num_asked (B,) of the ids (B, L) are the prompt; None: all are. What asks is its
        last turn. Without a pointer to orders, or without vision tokens to look at, `out` as it is.
        """
        if self.order is None or looks is None:
            return out
        state = out.state
        if num_asked is None:
            num_asked = torch.full_like(state.num_marks, ids.shape[1])
        asks = asking_tokens(ids, num_asked, self.config.user_token_id)
        marks = state.marks, state.num_marks
        stands = asked_words(ids, self.order.named_ids, asks)
        when = when_seen(looks.shares, *marks)
        state = replace(state, lateness=more_than_others(when[..., None], stands).squeeze(-1))
        if self.comparing is not None:
            found = self.comparing.compare(stands, looks, marks)
            state = replace(state, more=found.more, apart=found.apart)
        if self.clauses is not None:
            state = replace(state, clause_lateness=self.clauses.lateness(ids, asks, when))
        if self.scenes is not None:
            seen = self.scenes.watch(stands, looks, marks)
            state = replace(state, longer=seen.longer, between=seen.between)
        return replace(out, state=state)

    def text_logits(self, out: TextOutput, ids: Tensor, looks: Looks | None) -> Tensor:
        """Next-token logits (B, L, V) after text ids (B, L) that gave `out` and these looks."""
        logits = self.llm.logits(out.hidden)
        if out.state.lateness is not None:
            logits = self.order(logits, out.hidden, out.state.lateness)
        if out.state.more is not None:
            compared = Comparison(out.state.more, out.state.apart)
            logits = self.comparing(logits, out.hidden, compared)
        if out.state.clause_lateness is not None:
            logits = self.clauses(logits, out.hidden, out.state.clause_lateness)
        if out.state.longer is not None:
            scenes = Scenes(out.state.longer, out.state.between)
            logits = self.scenes(logits, out.hidden, scenes)
        if self.pointer is None or looks is None:
            return logits
        if self.lengths is not None:
            marks = out.state.marks, out.state.num_marks
            logits = self.lengths(logits, out.hidden, looks.shares, marks)
        return self.pointer(logits, ids, looks.shares, out.state.marks)

    def merge_patches(
        self, patches: Tensor, companion: Tensor | None = None, changes: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Patches (N, T, C) -> LLM inputs (N, K, D), and the companion (N, T, L) averaged along.

        changes, from `frame_changes`, are told by a model that has `change_embedding` or
        `picture_embedding`.
        """
        # What is told beside the features is averaged over a token's patches, as they are.
        carried = []
        if self.places is not None:
            centres = patch_centres(*self.config.patch_grid, device=patches.device)
            carried.append(centres.expand(len(patches), -1, -1))
        if self.changes is not None:
            size = patch_changes(changes)
            carried.append(size[..., None])
        if self.shifts is not None:
            carried.append(changes)
        if companion is not None:
            carried.append(companion)
        widths = [part.shape[-1] for part in carried]
        merged, sizes, averaged = self._merge(
            patches, torch.cat(carried, dim=-1) if carried else None
        )
        if self.config.interlaced_order:
            order = interlaced_order(merged, sizes)
            merged, sizes = reorder(merged, order), reorder(sizes, order)
            averaged = reorder(averaged, order) if carried else None
        parts = list(averaged.split(widths, dim=-1)) if carried else []
        features = self.projector(merged)
        if self.places is not None:
            share = sizes[..., None] / patches.shape[1]
            place = torch.cat([parts.pop(0), share], dim=-1)
            features = features + self.places(place.to(merged.dtype))
        if self.changes is not None:
            changed = parts.pop(0)
            whole = size.median(dim=1).values[:, None, None].expand_as(changed)
            told = torch.cat([changed, whole], dim=-1)
            features = features + self.changes(told.to(merged.dtype))
        if self.shifts is not None:
            features = features + self.shifts(parts.pop(0).to(merged.dtype))
        return features, parts.pop() if parts else None

    def _merge(
        self, patches: Tensor, carried: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens (N, K, C), how many patches each stands for (N, K), and `carried` averaged."""
        config = self.config
        return merge_with_companion(patches, carried, config.tokens_per_frame, config.tome_heads)

    def embed_with_frames(self, ids: Tensor, frames: Tensor) -> Tensor:
        """Embed ids (T,), putting `frames (N, K, D)` in order where ids are frame tokens.

        Raises `InputError` when the ids hold another number of frame tokens than N * K.
        """
        x = self.llm.embed(ids)
        is_frame = ids == self.config.frame_token_id
        wanted, given = int(is_frame.sum()), frames.shape[0] * frames.shape[1]
        if wanted != given:
            raise InputError(
                f"the text has places for {wanted} vision tokens, but the frames give {given}; "
                "build both with the same processor"
            )
        return x.masked_scatter(is_frame[:, None], frames.flatten(0, 1).to(x.dtype))

    # ---- the transformers interface -------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        frame_counts: Sequence[int] | Tensor | None = None,
        frame_seconds: Tensor | None = None,
        labels: Tensor | None = None,
        state: HybridState | None = None,
        prompt_output: TimeVLMOutput | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
    ) -> TimeVLMOutput:
        """Read ids (B, L) in one call: prefix, video and text, or only text after a `state`.

        pixel_values_videos: uint8 (sum of frame_counts, 3, H, W), frames of all rows in order.
        frame_counts (B,), needed for several videos by a model with `change_embedding` or
        `picture_embedding`;
        frame_seconds (sum of frame_counts,): their times, for a model with `time_embedding`.
        labels (B, L): next-token targets over the text, IGNORE_INDEX elsewhere; the last token
        before a row's first label ranks the vision tokens.
        state: with a state that has read a video, ids are the prompt; later, the next tokens.
        prompt_output: the output of an earlier call on these very ids, handed back as it is, so
        that a caller can look at it before `generate` goes on from it.
        """
        del use_cache, return_dict  # part of the interface
        if prompt_output is not None:
            return prompt_output
        left_padded = attention_mask is not None and not bool(attention_mask[:, 0].all())
        if state is not None and state.prompted:
            return self._output(input_ids, None, state, None, left_padded)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        ids, lengths = compact_rows(input_ids, attention_mask.bool())
        if lengths is None:
            lengths = ids.new_full((ids.shape[0],), ids.shape[1])
        if labels is not None:
            labels, _ = compact_rows(labels, attention_mask.bool())
        if state is not None:
            return self._output(ids, lengths, state, labels, left_padded)
        frames = self.llm.lm_head.weight.new_zeros(0, 1, self.config.llm.hidden_size)
        if pixel_values_videos is not None:
            frames = self.encode_frames(pixel_values_videos, frame_seconds, frame_counts)
        return self._read_rows(ids, lengths, frames, frame_seconds, labels, left_padded)

    def _read_rows(
        self,
        ids: Tensor,
        lengths: Tensor,
        frames: Tensor,
        seconds: Tensor | None,
        labels: Tensor | None,
        left_padded: bool,
    ) -> TimeVLMOutput:
        """Right-padded whole rows: read prefix, video and text one after the other."""
        valid = valid_mask(lengths, ids.shape[1])
        position = torch.arange(ids.shape[1], device=ids.device)
        is_frame = (ids == self.config.frame_token_id) & valid
        last_frame = torch.where(is_frame, position, -1).amax(dim=1)
        start = self.config.prefix_length
        video_length = (last_frame + 1 - start).clamp(min=0)
        text_length = lengths - start - video_length
        if int(text_length.min()) < 1:
            raise InputError("a row has no text after its video; end each row with a prompt")
        x = self.embed_with_frames(ids[valid], frames)
        x = torch.zeros(*ids.shape, x.shape[-1], dtype=x.dtype, device=x.device).masked_scatter(
            valid[..., None], x
        )
        video_end = start + video_length
        in_video = (position >= start) & (position < video_end[:, None])
        in_text = (position >= video_end[:, None]) & valid
        state = self.llm.init_state(video_length)
        state = self.llm.read_prefix(x[:, :start], state)
        if int(video_length.max()):
            video, video_lengths = compact_rows(x, in_video)
            marks = self.time_marks(compact_rows(ids, in_video)[0], seconds)
            state = self.llm.read_video(video, state, video_lengths, marks)
        text_ids, _ = compact_rows(ids, in_text)
        if labels is not None:
            labels, _ = compact_rows(labels, in_text)
        return self._output(text_ids, text_length, state, labels, left_padded)

    def _output(
        self,
        ids: Tensor,
        lengths: Tensor | None,
        state: HybridState,
        labels: Tensor | None,
        left_padded: bool,
    ) -> TimeVLMOutput:
        x, rank_index = self.llm.embed(ids), None
        if lengths is not None and int(lengths.min()) == ids.shape[1]:
            lengths = None
        if state.prompted:
            out = self.llm.read_text(x, state, lengths)
        else:
            if labels is not None:
                labelled = (labels != IGNORE_INDEX).to(torch.uint8)
                rank_index = (labelled.argmax(dim=1) - 1).clamp(min=0)
            out = self.llm.read_prompt(x, state, lengths, rank_index)
        looks = self.llm.video_looks(out)
        if not state.prompted:
            num_asked = lengths if rank_index is None else rank_index + 1
            out = self.recall_order(out, ids, looks, num_asked)
        logits = self.text_logits(out, ids, looks)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1),
                labels[:, 1 : logits.shape[1]].flatten(),
                ignore_index=IGNORE_INDEX,
            )
        if left_padded and lengths is not None:
            shift = logits.shape[1] - lengths
            index = torch.arange(logits.shape[1], device=logits.device) - shift[:, None]
            index = index.clamp(min=0)[..., None].expand_as(logits)
            logits = logits.gather(1, index)
        return TimeVLMOutput(loss=loss, logits=logits, state=out.state)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Arguments of `forward`: everything at first, then the newest token and the state."""
        if not is_first_iteration:
            return {"input_ids": input_ids[:, -1:], "state": kwargs["state"]}
        names = (
            "attention_mask",
            "pixel_values_videos",
            "frame_counts",
            "frame_seconds",
            "state",
            "prompt_output",
        )
        return {"input_ids": input_ids, **{name: kwargs.get(name) for name in names}}

    def _update_model_kwargs_for_generation(
        self,
        outputs: TimeVLMOutput,
        model_kwargs: dict[str, Any],
        is_encoder_decoder: bool = False,
        num_new_tokens: int = 1,
    ) -> dict[str, Any]:
        return {**model_kwargs, "state": outputs.state}


def _checked_seconds(seconds: Tensor | None, num_frames: int) -> Tensor:
    if seconds is None or len(seconds) != num_frames:
        given = "none" if seconds is None else str(len(seconds))
        raise InputError(
            f"the model needs the times of its {num_frames} frames, got {given}; pass "
            "frame_seconds, as the processor gives them"
        )
    return seconds


AutoConfig.register("timevlm", TimeVLMConfig)
AutoModelForImageTextToText.register(TimeVLMConfig, TimeVLMForConditionalGeneration)
AutoProcessor.register(TimeVLMConfig, TimeVLMProcessor)
