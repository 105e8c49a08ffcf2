"""Losses: next-token prediction of answers, and dense labels of patches for the vision tower."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.config import TransV
from timevlm.llm.state import HybridState, compact_rows
from timevlm.llm.transv import kept_counts, uniform_mask
from timevlm.model import IGNORE_INDEX, TimeVLMForConditionalGeneration
from timevlm.synth.motion import Poses, object_poses, object_table
from timevlm.synth.palette import COLOURS, MAX_OBJECTS, MOTIONS, SHAPES, SIZES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.synth.spec import ObjectSpec, SceneSpec, VideoSpec
from timevlm.training.batches import Batch, VideoSample
from timevlm.vision.tome import merge_with_companion

MAX_SCENES = 6
MASK_SIDE = 8  # points of a patch, each way, at which its outline is asked for
_COLOUR_INDEX = {name: i for i, name in enumerate(COLOURS)}


class AnswerObjective(nn.Module):
    """Mean cross-entropy of the answers' tokens; the module that gradients flow through.

    `prefix_ids` stand before every video.
    """

    def __init__(self, model: TimeVLMForConditionalGeneration, prefix_ids: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.prefix_ids = list(prefix_ids)
        self.tracks = TrackHead(model.config.llm.hidden_size)

    def watch(self, batch: Batch, features: Tensor | None = None) -> HybridState:
        """Read all videos at once: a state with a row a video."""
        model = self.model
        if features is None:
            features = model.encode_frames(batch.pixels)
        x = model.llm.embed(batch.video_ids)
        is_frame = batch.video_ids == model.config.frame_token_id
        x = x.masked_scatter(is_frame[..., None], features.flatten(0, 1).to(x.dtype))
        prefix = torch.tensor([self.prefix_ids], device=x.device).expand(len(x), -1)
        state = model.llm.init_state(batch.video_lengths)
        state = model.llm.read_prefix(model.llm.embed(prefix), state)
        return model.llm.read_video(x, state, batch.video_lengths)

    def watch_tracking(self, batch: Batch, labels: "PatchLabels") -> tuple[HybridState, Tensor]:
        """As `watch`, and the loss of saying what each kept vision token's object is and does."""
        model = self.model
        with torch.no_grad():
            patches = model.vision(batch.pixels)
            merged, _, soft = merge_with_companion(
                patches,
                track_targets(labels),
                model.config.tokens_per_frame,
                model.config.tome_heads,
            )
        state = self.watch(batch, model.projector(merged)).consolidated()
        is_frame = batch.video_ids == model.config.frame_token_id
        targets = soft.new_zeros(*batch.video_ids.shape, soft.shape[-1])
        targets = targets.masked_scatter(is_frame[..., None], soft.flatten(0, 1))
        targets = drop_as_read(targets, batch.video_lengths, model.config.llm.transv)
        tokens, _ = state.held_video.merged()
        return state, self.tracks(tokens, targets)

    def forward(
        self, batch: Batch, labels: "PatchLabels | None" = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of answers and tracks, predicted next tokens (R, Lt), which of them count (R, Lt).

        Without `labels` of the frames' patches the loss of the tracks is zero.
        """
        tracking = batch.pixels.new_zeros((), dtype=torch.float32)
        if labels is None:
            state = self.watch(batch).consolidated()
        else:
            state, tracking = self.watch_tracking(batch, labels)
        counted = F.pad(batch.labels[:, 1:] != IGNORE_INDEX, (0, 1))
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE_INDEX)
        predicted = torch.full_like(batch.labels, IGNORE_INDEX)
        # A caption has fifty times the tokens of a colour: square roots keep both heard.
        num_counted = counted.sum(dim=1, keepdim=True)
        weight = counted / num_counted.float().sqrt()
        total = batch.pixels.new_zeros((), dtype=torch.float32)
        for rows in length_buckets(batch.text_lengths):
            width = int(batch.text_lengths[rows].max())
            x = self.model.llm.embed(batch.text_ids[rows, :width])
            forked = state.select_rows(batch.row_video[rows])
            out = self.model.llm.read_prompt(
                x, forked, batch.text_lengths[rows], batch.rank_index[rows]
            )
            here = counted[rows, :width]
            logits = self.model.llm.logits(out.hidden[here])
            each = F.cross_entropy(logits, targets[rows, :width][here], reduction="none")
            total = total + (each * weight[rows, :width][here]).sum()
            best = torch.full_like(here, IGNORE_INDEX, dtype=torch.long)
            best[here] = logits.detach().argmax(dim=-1)
            predicted[rows, :width] = best
        return total / weight.sum(), tracking, predicted, counted


class TrackHead(nn.Module):
    """What a vision token's object is and does, read from the token deep in the LLM.

    A motion shows only across frames, so this asks the layers to follow an object through the
    video and to keep what they found at its tokens, where a question can pick it up. That is one
    lesson a token instead of one a question.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(hidden_size)
        self.head = nn.Linear(hidden_size, sum(TRACK_SIZES))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy: tokens (V, L, D), targets (V, L, sum of classes), zero where none."""
        loss = tokens.new_zeros((), dtype=torch.float32)
        logits = self.head(self.norm(tokens)).float().split(TRACK_SIZES, dim=-1)
        kinds = zip(TRACK_WEIGHTS, logits, targets.split(TRACK_SIZES, dim=-1), strict=True)
        for kind_weight, scores, wanted in kinds:
            each = -(wanted * F.log_softmax(scores, dim=-1)).sum(dim=-1)
            # The last class is background, of which there is ten times more than of objects.
            weight = wanted.sum(dim=-1) - 0.9 * wanted[..., -1]
            mean = (each * weight).sum() / weight.sum().clamp(min=1e-6)
            loss = loss + kind_weight * mean
        return loss / sum(TRACK_WEIGHTS)


# Shape, colour, size and motion of a patch's object or background; the scene's number.
TRACK_SIZES = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1, len(MOTIONS) + 1, MAX_SCENES + 1)
TRACK_WEIGHTS = (1.0, 1.0, 1.0, 4.0, 1.0)  # a motion is harder to see than a picture


def track_targets(labels: "PatchLabels") -> Tensor:
    """Labels of patches as probabilities (N, T, sum of classes)."""
    scenes = labels.scenes[:, None].expand_as(labels.shapes)
    kinds = (labels.shapes, labels.colours, labels.sizes, labels.motions, scenes)
    parts = [F.one_hot(k, n) for k, n in zip(kinds, TRACK_SIZES, strict=True)]
    return torch.cat(parts, dim=-1).float()


def drop_as_read(x: Tensor, lengths: Tensor, transv: Sequence[TransV]) -> Tensor:
    """What is left of `x (V, L, K)` beside the video's tokens after uniform dropping."""
    original = lengths
    for compression in transv:
        if compression.rule != "uniform":
            break
        kept = kept_counts(compression, original, lengths)
        mask = uniform_mask(lengths, kept, torch.zeros_like(kept), x.shape[1], lengths)
        x, _ = compact_rows(x, mask)
        lengths = kept
    return x


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


class PatchObjective(nn.Module):
    """Teaches the vision tower what each patch shows: shape, colour, and where its object is.

    The world knows every object's place, so each patch has a label; that is far denser than an
    answer a frame. The outline inside the patch is asked for too: a tower that can draw it has
    told figure from ground, which is what naming the shape waits for. The head is thrown away.
    """

    def __init__(self, model: TimeVLMForConditionalGeneration) -> None:
        super().__init__()
        self.vision = model.vision
        self.sizes = [len(SHAPES) + 1, len(COLOURS) + 1, 3, MASK_SIDE**2]
        self.head = nn.Linear(model.config.vision.hidden_size, sum(self.sizes))

    def forward(self, pixels: Tensor, labels: "PatchLabels") -> tuple[Tensor, Tensor, Tensor]:
        """(loss, share of object patches with the right shape, with the right colour).

        pixels (N, 3, H, W), with the labels of their patches.
        """
        shapes, colours, offsets, masks = (
            labels.shapes,
            labels.colours,
            labels.offsets,
            labels.masks,
        )
        out = self.head(self.vision(pixels))
        shape_logits, colour_logits, places, outline = out.split(self.sizes, -1)
        on_object = shapes < len(SHAPES)
        # Nine in ten patches are background: half of the weight goes to those on an object.
        share = on_object.float().mean().clamp(min=1e-3)
        weight = 0.5 + 0.5 * on_object.float() / share
        loss = 20 * F.mse_loss(places[on_object], offsets[on_object])
        touched = masks.any(dim=-1)
        loss = loss + F.binary_cross_entropy_with_logits(outline[touched], masks[touched].float())
        for logits, labels in ((shape_logits, shapes), (colour_logits, colours)):
            each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            loss = loss + (each * weight.flatten()).mean()
        right_shape = (shape_logits.argmax(-1) == shapes)[on_object].float().mean()
        right_colour = (colour_logits.argmax(-1) == colours)[on_object].float().mean()
        return loss, right_shape, right_colour


class AlignObjective(nn.Module):
    """Teaches the projector to say what a patch shows in the LLM's own words.

    A patch of a red ring becomes the sum of the embeddings of " red" and " ring" and of directions
    for its object's place and size; background becomes zero. A question's words then meet vision
    tokens that look like them, which spares the LLM most of the search for what to attend to. The
    vision tower and the embeddings stay as they are.
    """

    def __init__(
        self, model: TimeVLMForConditionalGeneration, word_ids: tuple[list[int], list[int]]
    ) -> None:
        super().__init__()
        self.projector = model.projector
        # Tuples keep what is only looked at out of this module's parameters.
        self._vision = (model.vision,)
        self._embeddings = (model.llm.backbone.embeddings,)
        self.word_ids = word_ids
        generator = torch.Generator().manual_seed(0)
        hidden = model.config.llm.hidden_size
        directions = F.normalize(torch.randn(3, hidden, generator=generator), dim=-1)
        self.register_buffer("directions", directions)

    def forward(self, pixels: Tensor, labels: "PatchLabels") -> Tensor:
        """Mean squared error of the projected patches, in squares of a word's length."""
        shapes, colours, offsets = labels.shapes, labels.colours, labels.offsets
        with torch.no_grad():
            patches = self._vision[0](pixels)
            words = self._embeddings[0].weight
            nothing = words.new_zeros(1, words.shape[1])
            shape_words, colour_words = (torch.cat([words[ids], nothing]) for ids in self.word_ids)
            length = words[self.word_ids[0]].norm(dim=-1).mean()
        grid = int(shapes.shape[1] ** 0.5)
        centre = (torch.arange(grid, device=pixels.device) + 0.5) / grid
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        patch = torch.stack([x.flatten(), y.flatten(), torch.zeros_like(x).flatten()], dim=-1)
        on_object = (shapes < len(SHAPES))[..., None]
        # Centred and widened to about [-1, 1]: places in [0, 1], radii around 0.15.
        place = offsets + patch - offsets.new_tensor([0.5, 0.5, 0.15])
        place = place * offsets.new_tensor([2.0, 2.0, 10.0])
        target = shape_words[shapes] + colour_words[colours]
        target = target + (place * on_object) @ (2 * length * self.directions)
        error = (self.projector(patches) - target).square().mean(dim=-1)
        weight = torch.where(on_object[..., 0], 1.0, 0.2)
        return (error * weight).sum() / weight.sum() * words.shape[1] / length.square()


class PatchLabels(NamedTuple):
    """Labels of N frames of T patches.

    shapes, colours, sizes and motions (N, T), the last class is background; offsets (N, T, 3):
    object centre relative to the patch centre, and radius; scenes (N,): the frame's scene,
    counted from 0; masks (N, T, MASK_SIDE^2) bool: where objects are (no points unless asked for).
    """

    shapes: Tensor
    colours: Tensor
    sizes: Tensor
    motions: Tensor
    scenes: Tensor
    offsets: Tensor
    masks: Tensor

    def to(self, device: torch.device | str) -> "PatchLabels":
        """The same labels on a device."""
        return PatchLabels(*(t.to(device) for t in self))


def patch_labels(samples: list[VideoSample], grid: int, *, outline: bool = True) -> PatchLabels:
    """Labels of all frames of the samples, for grid x grid patches.

    A patch belongs to the last painted object whose radius reaches its centre.
    """
    tables, named, times, scenes = [], [], [], []
    for sample in samples:
        for t in sample.seconds.tolist():
            number, scene = _scene_at(sample.spec, t)
            tables.append(object_table(scene.objects, MAX_OBJECTS))
            named.append([_classes(item, t) for item in scene.objects])
            named[-1] += [_BACKGROUND] * (MAX_OBJECTS + 1 - len(scene.objects))
            times.append(t)
            scenes.append(number)
    poses = object_poses(torch.stack(tables), torch.tensor(times, dtype=torch.float64)[:, None])
    owner, offsets = _patch_owners(poses, grid)
    classes = torch.tensor(named)  # (N, slots + 1, kinds of class)
    of_patch = classes.gather(1, owner[..., None].expand(-1, -1, classes.shape[2]))
    masks = _patch_masks(poses, grid) if outline else torch.empty(*owner.shape, 0)
    return PatchLabels(*of_patch.unbind(-1), torch.tensor(scenes), offsets, masks)


_BACKGROUND = [len(SHAPES), len(COLOURS), len(SIZES), len(MOTIONS)]
_SIZE_INDEX = {name: i for i, name in enumerate(SIZES)}
_MOTION_INDEX = {name: i for i, name in enumerate(MOTIONS)}


def _scene_at(spec: VideoSpec, seconds: float) -> tuple[int, SceneSpec]:
    numbered = list(enumerate(spec.scenes))
    return next((i, s) for i, s in reversed(numbered) if seconds >= s.start_seconds or i == 0)


def _classes(item: ObjectSpec, seconds: float) -> list[int]:
    colour = _COLOUR_INDEX[item.colour_at(seconds)]
    return [SHAPES.index(item.shape), colour, _SIZE_INDEX[item.size], _MOTION_INDEX[item.motion]]


def _patch_owners(poses: Poses, grid: int) -> tuple[Tensor, Tensor]:
    """Slot of the object that each patch shows (N, T), MAX_OBJECTS for none, and its offsets."""
    centre = (torch.arange(grid) + 0.5) / grid
    patch_y, patch_x = torch.meshgrid(centre, centre, indexing="ij")
    patch_x, patch_y = patch_x.flatten(), patch_y.flatten()
    num_frames, num_patches = poses.x.shape[0], grid * grid
    owner = torch.full((num_frames, num_patches), MAX_OBJECTS)
    offsets = torch.zeros(num_frames, num_patches, 3)
    half_patch = 0.5 / grid
    for slot in range(MAX_OBJECTS):
        dx = poses.x[:, slot, None].float() - patch_x
        dy = poses.y[:, slot, None].float() - patch_y
        radius = poses.radius[:, slot, None].float()
        # A small object may lie between patch centres: it owns the patches it is centred in.
        reach = radius.clamp(min=half_patch * 1.2)
        inside = poses.visible[:, slot, None] & (dx.square() + dy.square() < reach.square())
        owner = owner.masked_fill(inside, slot)
        place = torch.stack([dx, dy, radius.expand_as(dx)], dim=-1)
        offsets = torch.where(inside[..., None], place, offsets)
    return owner, offsets


def _patch_masks(poses: Poses, grid: int) -> Tensor:
    """Where objects cover each patch, on MASK_SIDE x MASK_SIDE points: (N, grid^2, points)."""
    side = grid * MASK_SIDE
    place = (torch.arange(side) + 0.5) / side
    y, x = place[:, None], place[None, :]
    covered = torch.zeros(poses.visible.shape[0], side, side, dtype=torch.bool)
    for slot in range(MAX_OBJECTS):
        for index, name in enumerate(SHAPES):
            drawn = poses.visible[:, slot] & (poses.shape_index[:, slot] == index)
            rows = drawn.nonzero().squeeze(1)
            if len(rows):
                cx, cy, radius = (
                    t[rows, slot].float()[:, None, None] for t in (poses.x, poses.y, poses.radius)
                )
                inside = SIGNED_DISTANCE[name]((x - cx) / radius, (y - cy) / radius) < 0
                covered[rows] |= inside
    blocks = covered.view(-1, grid, MASK_SIDE, grid, MASK_SIDE).transpose(2, 3)
    return blocks.reshape(-1, grid * grid, MASK_SIDE**2)
