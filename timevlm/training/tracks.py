"""A lesson for every vision token: what its object is and does, and in which scene.

An answer teaches a few words a question. The world knows more: every token that the deep layers
keep can be asked about the object it stands for, which teaches following an object over time.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timevlm.comparing import MEASURES, SLOWEST
from timevlm.errors import InputError
from timevlm.llm.config import TransV
from timevlm.llm.state import compact_rows
from timevlm.llm.transv import kept_counts, uniform_mask
from timevlm.training.kinds import BASIC, MAX_SCENES, MOVE_SIZE, Kinds
from timevlm.training.labels import PatchLabels
from timevlm.training.lookups import Lookups
from timevlm.training.phrases import NO_COLUMN, PhraseTokens, inside_spans

# A move is linear in the own place and the mean of earlier ones, which one attention head gives: it
# teaches that head to find the object again long before the name of a motion could.
MOVE_SCALE, MOVE_WEIGHT = 8.0, 4.0
_MEASURE_SCALES = (10.0, 10.0, 4.0, 2.0)  # of `MEASURES`: 1 is a clear difference
NUM_MEASURE_TARGETS = 2 + len(MEASURES)
FULLY_SHOWN = 0.5  # share of a token's patches that makes it a token of an object
MIN_SHOWN = 0.3  # how far a token has to show an object to be one to look at


class TrackHead(nn.Module):
    """What a vision token's object is and does, read from the token deep in the LLM.

    A motion shows only across frames, so this asks the layers to follow an object through the
    video and to keep what they found at its tokens, where a question can pick it up. That is one
    lesson a token instead of one a question.
    """

    def __init__(self, hidden_size: int, kinds: Kinds = BASIC) -> None:
        super().__init__()
        self.kinds = kinds
        self.norm = nn.RMSNorm(hidden_size)
        self.head = nn.Linear(hidden_size, sum(kinds.track_sizes) + MOVE_SIZE)

    def take_over(self, saved: dict[str, Tensor]) -> None:
        """Go on with the tensors of an earlier head; the last lessons may be new to it.

        Raises InputError where they are of other sizes.
        """
        drawn, grown = self.state_dict(), dict(saved)
        for name in ("head.weight", "head.bias"):
            new = len(drawn[name]) - len(saved[name]) if name in saved else 0
            if new in accumulate(reversed(self.kinds.track_sizes)):
                lesson = drawn[name][-new - MOVE_SIZE : -MOVE_SIZE]
                grown[name] = torch.cat(
                    [saved[name][:-MOVE_SIZE], lesson, saved[name][-MOVE_SIZE:]]
                )
        try:
            self.load_state_dict(grown)
        except RuntimeError as error:
            raise InputError(
                "the earlier run's head of tracks is of another size; give a run of the same level"
            ) from error

    def answers(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Of tokens (V, L, D) the logits (V, L, classes) of every lesson, then their moves."""
        return target_parts(self.head(self.norm(tokens)).float(), self.kinds)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss: tokens (V, L, D), `track_targets` after merging (V, L, K), zero where none."""
        *logits, moves = self.answers(tokens)
        *wanted_classes, wanted_moves = target_parts(targets, self.kinds)
        # Merged tokens carry the mean over their patches, objects or not: `share` undoes that.
        share = wanted_classes[0][..., :-1].sum(dim=-1)
        error = (moves * share[..., None] - wanted_moves).square().sum(dim=-1)
        loss = MOVE_WEIGHT * error.sum() / share.sum().clamp(min=1e-6)
        weights = self.kinds.track_weights
        for kind_weight, scores, wanted in zip(weights, logits, wanted_classes, strict=True):
            each = -(wanted * F.log_softmax(scores, dim=-1)).sum(dim=-1)
            # The last class is background, or nothing happening: ten times more than the others.
            weight = wanted.sum(dim=-1) - 0.9 * wanted[..., -1]
            mean = (each * weight).sum() / weight.sum().clamp(min=1e-6)
            loss = loss + kind_weight * mean
        return loss / sum(weights)


def track_targets(labels: PatchLabels, kinds: Kinds = BASIC) -> Tensor:
    """Labels of patches as probabilities, and moves: (N, T, sum(track_sizes) + MOVE_SIZE)."""
    camera, light, transition, cut = labels.happenings.unbind(-1)
    word, tens, ones = labels.texts.unbind(-1)
    of_frame = {
        "scene": labels.scenes.clamp(max=MAX_SCENES),
        "camera": camera,
        "light": light,
        "transition": transition,
        "cut": cut,
        "still": labels.stills,
    }
    of_patch = {
        "shape": labels.shapes,
        "colour": labels.colours,
        "size": labels.sizes,
        "motion": labels.motions,
        "earlier colour": labels.earlier_colours,
        "pattern": labels.patterns,
        "word": word,
        "tens": tens,
        "ones": ones,
        "acts": labels.acts,
    }
    of_patch |= {name: each[:, None].expand_as(labels.shapes) for name, each in of_frame.items()}
    parts = [_as_targets(of_patch[name], size) for name, size in kinds.lessons.items()]
    return torch.cat([*parts, MOVE_SCALE * labels.moves], dim=-1)


def target_parts(targets: Tensor, kinds: Kinds) -> tuple[Tensor, ...]:
    """`track_targets` (..., K), or answers to them, by lesson, and the moves last."""
    return targets.split([*kinds.track_sizes, MOVE_SIZE], dim=-1)


def _as_targets(classes: Tensor, num_classes: int) -> Tensor:
    """Classes (N, T) as probabilities (N, T, num_classes), all 0 where they are not known."""
    return F.one_hot(classes.clamp(min=0), num_classes).float() * (classes >= 0)[..., None]


def measure_targets(labels: PatchLabels) -> Tensor:
    """`MEASURES` of the objects of patches, and which count: (N, T, NUM_MEASURE_TARGETS).

    The first number is 1 on an object, the second on one that is under way, which alone has a
    speed; measures are 0 elsewhere, so that means over patches can be divided by these shares.
    """
    under_way = labels.speeds > 0
    log_speed = torch.where(under_way, (labels.speeds + SLOWEST).log(), 0.0)
    x, y, radius = labels.places.unbind(-1)
    on_object = radius > 0
    log_radius = torch.where(on_object, radius.clamp(min=1e-3).log(), 0.0)
    return torch.stack([on_object.float(), under_way.float(), x, y, log_radius, log_speed], dim=-1)


def measure_loss(read: Tensor, targets: Tensor) -> Tensor:
    """Mean error of `MEASURES` read from vision tokens (V, L, 4), in what counts as a difference.

    targets (V, L, NUM_MEASURE_TARGETS): `measure_targets` after merging. Tokens of which less than
    half shows an object are not asked.
    """
    shares = targets[..., [0, 0, 0, 1]]
    wanted = targets[..., 2:] / shares.clamp(min=1e-6)
    asked = (shares >= FULLY_SHOWN).float()
    scale = read.new_tensor(_MEASURE_SCALES)
    error = F.smooth_l1_loss(read * scale, wanted * scale, reduction="none")
    means = (error * asked).sum(dim=(0, 1)) / asked.sum(dim=(0, 1)).clamp(min=1.0)
    return means.mean()


def scene_loss(read: Tensor, targets: Tensor, kinds: Kinds) -> Tensor:
    """Mean cross-entropy of the scenes read from vision tokens (V, L, scenes and none).

    targets (V, L, K): `track_targets` after merging. What is made of no patches is not asked.
    """
    wanted = target_parts(targets, kinds)[list(kinds.lessons).index("scene")]
    each = -(wanted * F.log_softmax(read, dim=-1)).sum(dim=-1)
    return each.sum() / wanted.sum().clamp(min=1e-6)


def lookup_loss(
    ranking: Tensor, targets: Tensor, seconds: Tensor, asked: Lookups, kinds: Kinds = BASIC
) -> Tensor:
    """Sum over rows of -log of the attention on what the answer is to be seen in.

    ranking (R, T): what the last prompt token attends to; targets (R, >= T, K) as `track_targets`
    gives them, after merging and dropping, and seconds (R, >= T) of the same tokens. Every span
    wants attention of its own, on the objects whose looks the turn names or, if it names none, on
    the text that it tells or what does the motion that it tells or, if it tells neither, on any
    token; a span in which none of these is shown, as of what vanishes in it, wants it on any of its
    tokens. Rows that need every object want their attention even over those: they count how far it
    is from that (Kullback-Leibler).
    Spans without a token count nothing.
    """
    targets, seconds = targets[:, : ranking.shape[1]], seconds[:, : ranking.shape[1]]
    unnamed = ~asked.looks.any(dim=1) & ~asked.every
    told = torch.minimum(of_frames(targets, kinds), _telling(targets, asked.columns))
    fits = torch.where(unnamed[:, None], told, wanted_tokens(targets, asked.looks, kinds))
    num_spans = asked.spans.shape[1]
    inside = inside_spans(
        seconds.repeat_interleave(num_spans, dim=0), asked.spans.flatten(0, 1)
    ).unflatten(0, (-1, num_spans))
    wanted = fits[:, None] * inside
    # Of what has just vanished no token is left: there its absence is to be seen.
    gone = (wanted.amax(dim=2) <= MIN_SHOWN) & ~asked.every[:, None]
    wanted = torch.where(gone[..., None], of_frames(targets, kinds)[:, None] * inside, wanted)
    shown = wanted.amax(dim=2) > MIN_SHOWN
    found = -((ranking[:, None] * wanted).sum(dim=2) + 1e-4).log()
    one = (found * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
    missed = _unevenness(ranking, wanted.amax(dim=1))
    return torch.where(asked.every, missed * shown.any(dim=1), one).sum()


def _unevenness(attention: Tensor, wanted: Tensor) -> Tensor:
    """How far attention (R, T) is from even over what is wanted (R, T): Kullback-Leibler, (R,)."""
    even = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return (even * ((even + 1e-4).log() - (attention + 1e-4).log())).sum(dim=1)


def wanted_tokens(targets: Tensor, asked: Tensor, kinds: Kinds = BASIC) -> Tensor:
    """How far each token shows the object asked for: targets (R, T, K), asked (R, looks) -> (R, T).

    That is 1 from half of the token's patches on. Where no shape (or no colour) is named, any will
    do, but no background.
    """
    num_shapes, num_colours = len(kinds.shapes), len(kinds.colours)
    shapes = targets[..., :num_shapes]
    colours = targets[..., num_shapes + 1 : num_shapes + 1 + num_colours]
    wanted = targets.new_ones(targets.shape[:2])
    for looks, named in zip(
        (shapes, colours), asked.split((num_shapes, num_colours), 1), strict=True
    ):
        fits = (looks * named[:, None]).sum(dim=-1)
        wanted = wanted * torch.where(named.any(dim=1, keepdim=True), fits, looks.sum(dim=-1))
    # Both factors hold the share of the object's patches: their root is that share.
    return (wanted.sqrt() / FULLY_SHOWN).clamp(max=1.0)


def _telling(targets: Tensor, columns: Tensor) -> Tensor:
    """How far each token shows the least of what is told: (R, T, K), (R, columns) -> (R, T)."""
    index = columns.clamp(min=0)[:, None].expand(-1, targets.shape[1], -1)
    told = (targets.gather(2, index) / FULLY_SHOWN).clamp(max=1.0)
    return told.masked_fill((columns == NO_COLUMN)[:, None], 1.0).amin(dim=2)


def of_frames(targets: Tensor, kinds: Kinds = BASIC) -> Tensor:
    """Which tokens are made of patches, not timestamps or padding: (R, T, K) -> (R, T) bool."""
    return targets[..., : len(kinds.shapes) + 1].sum(dim=-1) > 0.5


def phrase_loss(
    attention: Tensor, targets: Tensor, seconds: Tensor, asked: PhraseTokens, kinds: Kinds = BASIC
) -> Tensor:
    """Sum over tokens of captions of -log of the attention on the object that they tell of.

    attention (P, T) from each of the P tokens of `asked` to kept vision tokens; targets (P, T, K)
    and seconds (P, T) of those. The object has to look as told, to have begun what it is told to do
    and to be in the scene told of; cameras, lights and texts have to be those told; a
    token that tells a time wants any token of that frame; one that is to look evenly counts how far
    it is from that, as in `lookup_loss`. What no vision token shows counts nothing.
    """
    named = asked.looks.any(dim=1, keepdim=True)
    looks = wanted_tokens(targets, asked.looks, kinds)
    wanted = torch.where(named, looks, of_frames(targets, kinds))
    wanted = torch.minimum(wanted, _telling(targets, asked.columns))
    wanted = wanted * inside_spans(seconds, asked.spans)
    shown = wanted.amax(dim=1) > MIN_SHOWN
    found = -((attention * wanted).sum(dim=1) + 1e-4).log()
    return (torch.where(asked.evenly, _unevenness(attention, wanted), found) * shown).sum()


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
