"""A lesson for every vision token: what its object is and does, and in which scene.

An answer teaches a few words a question. The world knows more: every token that the deep layers
keep can be asked about the object it stands for, which teaches following an object over time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.llm.config import TransV
from timevlm.llm.state import compact_rows
from timevlm.llm.transv import kept_counts, uniform_mask
from timevlm.synth.palette import COLOURS, MOTIONS, SHAPES, SIZES
from timevlm.training.labels import PatchLabels

MAX_SCENES = 6
# Shape, colour, size and motion of a patch's object or background; the scene's number.
TRACK_SIZES = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1, len(MOTIONS) + 1, MAX_SCENES + 1)
TRACK_WEIGHTS = (1.0, 1.0, 1.0, 4.0, 1.0)  # a motion is harder to see than a picture


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


def track_targets(labels: PatchLabels) -> Tensor:
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
