"""Objectives of the vision tower and the projector: dense labels of patches."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.training.kinds import BASIC, Kinds
from timevlm.training.labels import MASK_SIDE, PatchLabels
from timevlm.vision.places import patch_centres

NUM_DIGITS = 10


class PatchObjective(nn.Module):
    """Teaches the vision tower what each patch shows: shape, colour, where its object is, texts.

    The world knows every object's place, so each patch has a label; that is far denser than an
    answer a frame. The outline inside the patch is asked for too: a tower that can draw it has
    told figure from ground, which is what naming the shape waits for. The head is thrown away.

    With `keep` above 0, features hold to what they were at first where nothing is written: an LLM
    that was trained with them goes on understanding them while the tower learns to read.
    """

    def __init__(
        self, model: TimeVLMForConditionalGeneration, kinds: Kinds = BASIC, keep: float = 0.0
    ) -> None:
        super().__init__()
        self.vision = model.vision
        self.keep = keep
        # A tuple keeps what is only looked at out of this module's parameters.
        self._before = (copy.deepcopy(model.vision).requires_grad_(False),) if keep else ()
        self.sizes = [len(kinds.shapes) + 1, len(kinds.colours) + 1, 3, MASK_SIDE**2]
        self.sizes += [len(kinds.patterns) + 1] if kinds.has_patterns else []
        self.num_objects = len(self.sizes)
        self.sizes += [len(names) + 1 for names in kinds.texts]
        centres = patch_centres(*model.config.patch_grid) + 0.5
        self.register_buffer("centres", F.pad(centres, (0, 1)), persistent=False)
        self.head = nn.Linear(model.config.vision.hidden_size, sum(self.sizes))

    def forward(self, pixels: Tensor, labels: PatchLabels) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the shares of patches with the right shape, colour and text, if shown.

        pixels (N, 3, H, W), with the labels of their patches.
        """
        shapes, colours, masks = labels.shapes, labels.colours, labels.masks
        features = self.vision(pixels)
        parts = self.head(features).split(self.sizes, -1)
        shape_logits, colour_logits, places, outline, *pattern_logits = parts[: self.num_objects]
        on_object = shapes < self.sizes[0] - 1
        weight = _half_to(on_object)
        wanted = (labels.places - self.centres)[on_object]
        loss = 20 * F.mse_loss(places[on_object], wanted)
        touched = masks.any(dim=-1)
        loss = loss + F.binary_cross_entropy_with_logits(outline[touched], masks[touched].float())
        named = [(shape_logits, shapes), (colour_logits, colours)]
        named += [(logits, labels.patterns) for logits in pattern_logits]
        for logits, classes in named:
            loss = loss + _weighted(logits, classes, weight)
        text_logits = parts[self.num_objects :]
        for logits, classes in zip(text_logits, labels.texts.unbind(-1), strict=False):
            loss = loss + _weighted(logits, classes, _half_to(classes < logits.shape[-1] - 1))
        written = self._written(labels.texts)
        if self.keep:
            loss = loss + self.keep * self._moved(features, pixels, ~written)
        right = {
            "shape_accuracy": _mean_of(shape_logits.argmax(-1) == shapes, on_object),
            "colour_accuracy": _mean_of(colour_logits.argmax(-1) == colours, on_object),
        }
        if text_logits:
            read = torch.stack([logits.argmax(-1) for logits in text_logits], dim=-1)
            right["text_accuracy"] = _mean_of((read == labels.texts).all(dim=-1), written)
        return loss, right

    def _written(self, texts: Tensor) -> Tensor:
        """Which patches (N, T) anything is written on; at a level without texts none."""
        nothing = texts.new_tensor([size - 1 for size in self.sizes[self.num_objects :]])
        return (texts[..., : len(nothing)] != nothing).any(dim=-1)

    def _moved(self, features: Tensor, pixels: Tensor, chosen: Tensor) -> Tensor:
        """How far chosen features (N, T, C) are from those before, in shares of their variance."""
        with torch.no_grad():
            before = self._before[0](pixels)
            variance = before.var(dim=(0, 1)).mean()
        return _mean_of((features - before).square().mean(dim=-1), chosen) / variance


def _half_to(shown: Tensor) -> Tensor:
    """Weights (N, T): nine in ten patches are background, so the few `shown` get half."""
    share = shown.float().mean().clamp(min=1e-3)
    return 0.5 + 0.5 * shown.float() / share


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _weighted(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    each = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")
    return (each * weight.flatten()).mean()


class AlignObjective(nn.Module):
    """Teaches the projector to say what a patch shows in the LLM's own words.

    A patch of a red ring becomes the sum of the embeddings of " red" and " ring" and of a direction
    for its size, a striped one's also that of " striped", and a patch on which a word is written
    that of the word, one with a number the sum of directions for its tens and its ones; background
    becomes zero. A question's
    words then meet vision tokens that look like them, which spares the LLM most of the search for
    what to attend to. The vision tower and the embeddings stay as they are.

    `word_ids` are those of the shapes, the colours, and the patterns but the first, plain one;
    `text_ids` those of the words that may be written. With `keep` above 0 only texts are taught:
    what is said of other patches stays as it is, which counts that much.
    """

    def __init__(
        self,
        model: TimeVLMForConditionalGeneration,
        word_ids: tuple[list[int], list[int], list[int]],
        text_ids: Sequence[int] = (),
        keep: float = 0.0,
    ) -> None:
        super().__init__()
        self.projector = model.projector
        self.keep = keep
        # Tuples keep what is only looked at out of this module's parameters.
        self._vision = (model.vision,)
        self._embeddings = (model.llm.backbone.embeddings,)
        self._before = (copy.deepcopy(model.projector).requires_grad_(False),) if keep else ()
        self.word_ids = word_ids
        self.text_ids = list(text_ids)
        generator = torch.Generator().manual_seed(0)
        hidden = model.config.llm.hidden_size
        direction = F.normalize(torch.randn(hidden, generator=generator), dim=-1)
        self.register_buffer("size_direction", direction)
        digits = torch.randn(2, NUM_DIGITS + 1, hidden, generator=generator)
        digits[:, NUM_DIGITS] = 0.0  # no number
        self.register_buffer("digit_directions", F.normalize(digits, dim=-1) / 2**0.5)

    def forward(self, pixels: Tensor, labels: PatchLabels) -> Tensor:
        """Mean squared error of the projected patches, in squares of a word's length."""
        shapes, colours = labels.shapes, labels.colours
        with torch.no_grad():
            patches = self._vision[0](pixels)
            words = self._embeddings[0].weight
            nothing = words.new_zeros(1, words.shape[1])
            shape_words, colour_words, pattern_words = (
                torch.cat([words[ids], nothing]) for ids in self.word_ids
            )
            pattern_words = torch.cat([nothing, pattern_words])
            length = words[self.word_ids[0]].norm(dim=-1).mean()
        on_object = (shapes < len(self.word_ids[0]))[..., None]
        # Radii lie around 0.15: this makes them about -1 to 1.
        size = 10.0 * (labels.places[..., 2:] - 0.15) * on_object
        target = shape_words[shapes] + colour_words[colours] + pattern_words[labels.patterns]
        target = target + 2 * length * size * self.size_direction.to(target)
        written, is_written = self._texts(labels.texts, words, length)
        said = self.projector(patches)
        error = (said - target - written).square().mean(dim=-1)
        if self.keep:
            with torch.no_grad():
                before = self._before[0](patches)
            moved = (said - before).square().mean(dim=-1)
            loss = _mean_of(error, is_written) + self.keep * _mean_of(moved, ~is_written)
        else:
            weight = torch.where(on_object[..., 0] | is_written, 1.0, 0.2)
            loss = (error * weight).sum() / weight.sum()
        return loss * words.shape[1] / length.square()

    def _texts(self, texts: Tensor, words: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """What `PatchLabels.texts` (N, T, 3) become (N, T, D), zero for none, and where any is."""
        if not self.text_ids:
            return words.new_zeros(()), torch.zeros_like(texts[..., 0], dtype=torch.bool)
        word, tens, ones = texts.unbind(-1)
        text_words = torch.cat([words[self.text_ids], words.new_zeros(1, words.shape[1])])
        # Tens count from 1: nine of them, then none.
        tens = torch.where(tens < NUM_DIGITS - 1, tens + 1, NUM_DIGITS)
        digits = self.digit_directions[0, tens] + self.digit_directions[1, ones]
        written = text_words[word] + length * digits.to(words)
        return written, (word < len(self.text_ids)) | (tens < NUM_DIGITS)
