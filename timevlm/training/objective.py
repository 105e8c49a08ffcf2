"""Losses: next-token prediction of answers, and dense labels of patches for the vision tower."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.state import HybridState
from timevlm.model import IGNORE_INDEX, TimeVLMForConditionalGeneration
from timevlm.synth.motion import Poses, object_poses, object_table
from timevlm.synth.palette import COLOURS, MAX_OBJECTS, SHAPES
from timevlm.synth.shapes import SIGNED_DISTANCE
from timevlm.training.batches import Batch, VideoSample

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

    def watch(self, batch: Batch) -> HybridState:
        """Read all videos at once: a state with a row a video."""
        model = self.model
        features = model.encode_frames(batch.pixels)
        x = model.llm.embed(batch.video_ids)
        is_frame = batch.video_ids == model.config.frame_token_id
        x = x.masked_scatter(is_frame[..., None], features.flatten(0, 1).to(x.dtype))
        prefix = torch.tensor([self.prefix_ids], device=x.device).expand(len(x), -1)
        state = model.llm.init_state(batch.video_lengths)
        state = model.llm.read_prefix(model.llm.embed(prefix), state)
        return model.llm.read_video(x, state, batch.video_lengths)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(weighted loss, predicted next tokens (R, Lt), which of them count (R, Lt))."""
        state = self.watch(batch).consolidated()
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
        return total / weight.sum(), predicted, counted


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
        shapes, colours, offsets, masks = labels
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
        shapes, colours, offsets, _ = labels
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

    shapes and colours (N, T), the last class is background; offsets (N, T, 3): object centre
    relative to the patch centre, and radius; masks (N, T, MASK_SIDE^2) bool: where objects are.
    """

    shapes: Tensor
    colours: Tensor
    offsets: Tensor
    masks: Tensor


def patch_labels(samples: list[VideoSample], grid: int) -> PatchLabels:
    """Labels of `PatchObjective` for all frames of the samples, for grid x grid patches.

    A patch belongs to the last painted object whose radius reaches its centre.
    """
    tables, colours, times = [], [], []
    for sample in samples:
        for t in sample.seconds.tolist():
            scene = next(s for s in reversed(sample.spec.scenes) if t >= s.start_seconds)
            tables.append(object_table(scene.objects, MAX_OBJECTS))
            named = [_COLOUR_INDEX[item.colour_at(t)] for item in scene.objects]
            colours.append(named + [len(COLOURS)] * (MAX_OBJECTS - len(named)))
            times.append(t)
    poses = object_poses(torch.stack(tables), torch.tensor(times, dtype=torch.float64)[:, None])
    colour = torch.tensor(colours)  # (N, slots)
    centre = (torch.arange(grid) + 0.5) / grid
    patch_y, patch_x = torch.meshgrid(centre, centre, indexing="ij")
    patch_x, patch_y = patch_x.flatten(), patch_y.flatten()
    num_frames, num_patches = len(times), grid * grid
    shapes = torch.full((num_frames, num_patches), len(SHAPES))
    colour_labels = torch.full((num_frames, num_patches), len(COLOURS))
    offsets = torch.zeros(num_frames, num_patches, 3)
    half_patch = 0.5 / grid
    for slot in range(MAX_OBJECTS):
        dx = poses.x[:, slot, None].float() - patch_x
        dy = poses.y[:, slot, None].float() - patch_y
        radius = poses.radius[:, slot, None].float()
        # A small object may lie between patch centres: it owns the patches it is centred in.
        reach = radius.clamp(min=half_patch * 1.2)
        inside = poses.visible[:, slot, None] & (dx.square() + dy.square() < reach.square())
        shapes = torch.where(inside, poses.shape_index[:, slot, None], shapes)
        colour_labels = torch.where(inside, colour[:, slot, None], colour_labels)
        place = torch.stack([dx, dy, radius.expand_as(dx)], dim=-1)
        offsets = torch.where(inside[..., None], place, offsets)
    return PatchLabels(shapes, colour_labels, offsets, _patch_masks(poses, grid))


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
