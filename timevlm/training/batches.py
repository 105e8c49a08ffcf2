"""Batches of rendered videos, each with several turns that share it.

A video is read once and every turn about it is a row that forks the video's state, as `ask` does.
That costs less than packing the turns into one sequence (the video's tokens run once either way,
but rows stay short) and trains the very path that answers, including the ranking by each turn's
own prompt.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from timevlm.errors import InputError
from timevlm.model import IGNORE_INDEX
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.full.footage import sample_footage
from timevlm.synth.full.spec import FullVideo
from timevlm.synth.long import MIN_SECONDS, sample_long_video
from timevlm.synth.render import render_frames
from timevlm.synth.spec import VideoSpec, crop_scenes
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.fields import TensorFields
from timevlm.training.kinds import (
    Kinds,
    Level,
    kinds_of,
    named_token_ids,
    separator_token_ids,
)
from timevlm.training.lookups import Lookups, lookups_of
from timevlm.training.phrases import (
    Phrase,
    PhraseTokens,
    asked_phrases,
    caption_phrases,
    listed_phrases,
    phrase_tokens,
    time_phrases,
)
from timevlm.training.turns import Turn, make_turns

FRAME_RATES = (1.0, 1.0, 1.0, 2.0, 0.5)
SHORT_FRAMES = 64  # what a video of the world needs at one frame a second, or at half of that

# Their questions name things that each need a look of their own.
COMPARING_FAMILIES = frozenset({"order", "relation", "speed", "duration", "exist"})

# Clocks begin at 100 to 40,000 s, every order of magnitude as often: times of every length are
# told in short videos too, which give many more lessons a minute.
_LATE_CLOCK_POWERS = (2.0, 4.6)
_OTHER_SEEDS = 10**9  # far from those of any training


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How much goes into a batch and how videos are sampled.

    With `max_frames` above `SHORT_FRAMES` a share of the videos are long ones, with needles to
    find. Raises InputError on a contradiction.
    """

    level: Level = "basic"
    num_videos: int = 8
    turns_per_video: int = 12
    max_frames: int = SHORT_FRAMES
    long_share: float = 0.25  # videos with more than SHORT_FRAMES frames, where they are allowed
    frame_rates: tuple[float, ...] = FRAME_RATES  # drawn evenly
    odd_rate_share: float = 0.0  # videos at any rate, such as a budget of frames comes to
    late_clock_share: float = 0.3  # videos whose clock does not start at 0
    history_share: float = 0.15  # rows that stand after an earlier turn
    max_scenes: int | None = None  # cut videos down to a run of at most this many scenes
    single_scene_share: float = 0.0  # videos cut down to one: without a cut to ask for
    footage_share: float = 0.0  # of level "full": videos that look like film, without objects
    eventful_share: float = 0.0  # of its other videos: of three, the most eventful (`_num_events`)
    first_seed: int = 0  # of the videos: another one trains on videos that were not seen yet
    # How often kinds of questions are asked, 1 for those that are not here; None: all alike.
    kind_weights: Mapping[str, float] | None = None
    length_power: float = 0.5  # an answer of n tokens weighs n to this power

    def __post_init__(self) -> None:
        kinds_of(self.level)
        if self.num_videos < 1 or self.turns_per_video < 1 or self.max_frames < 1:
            raise InputError(
                f"{self.num_videos} videos of at most {self.max_frames} frames with "
                f"{self.turns_per_video} questions make no batch; give at least 1 of each"
            )
        shares = ("long_share", "single_scene_share", "odd_rate_share", "late_clock_share")
        for name in (*shares, "footage_share", "eventful_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} {getattr(self, name)} is no share; give 0 to 1")
        if not 0.0 <= self.length_power <= 1.0:
            raise InputError(
                f"length_power {self.length_power} must lie between 0, all answers alike, and 1, "
                "all tokens alike"
            )
        for kind, weight in (self.kind_weights or {}).items():
            if weight <= 0:
                raise InputError(f"weight {weight} of {kind} questions must be above 0")
        if (self.footage_share or self.eventful_share) and self.level != "full":
            raise InputError(
                f"footage and eventful videos are of level full, not {self.level}; set their "
                "shares to 0"
            )
        if not self.frame_rates or min(self.frame_rates) <= 0:
            raise InputError(f"frame rates {list(self.frame_rates)} must be one or more above 0")

    @property
    def kinds(self) -> Kinds:
        """What there is to tell apart in these videos."""
        return kinds_of(self.level)


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """A video and the times at which its frames are taken."""

    spec: VideoSpec
    seconds: Tensor  # (N,) float64, the world's times
    shift: float  # added to them gives presentation times

    @property
    def timestamps(self) -> list[float]:
        """Presentation times in seconds."""
        return (self.seconds + self.shift).tolist()


@dataclass(frozen=True, kw_only=True)
class Batch(TensorFields):
    """V videos with R rows of text; rows are right-padded.

    pixels uint8 (sum of frames, 3, H, W); video_ids (V, Lv), video_lengths (V,);
    row_video (R,) which video a row asks; text_ids and labels (R, Lt), text_lengths (R,);
    rank_index (R,) place of the last prompt token; lookups: where the R answers are to be seen;
    frame_seconds (sum of frames,): when each frame is shown; frame_counts (V,); phrases: the words
    of captions and times and what they tell of; asked: the words of questions that compare.
    """

    pixels: Tensor
    video_ids: Tensor
    video_lengths: Tensor
    row_video: Tensor
    text_ids: Tensor
    labels: Tensor
    text_lengths: Tensor
    rank_index: Tensor
    lookups: Lookups
    frame_seconds: Tensor
    frame_counts: Tensor
    phrases: PhraseTokens
    asked: PhraseTokens

    def with_frames(
        self,
        samples: Sequence[VideoSample],
        size: tuple[int, int],
        device: torch.device | str,
    ) -> "Batch":
        """The batch on a device, with the frames of its videos rendered there."""
        pixels = render_frames([(s.spec, s.seconds) for s in samples], size, device)
        return replace(self.to(device), pixels=pixels)


def sample_videos(
    config: BatchConfig, step: int, *, split: str = "train", first_seed: int = 0
) -> list[VideoSample]:
    """The videos of one step; the step alone decides them, so that training can resume."""
    samples = []
    for i in range(config.num_videos):
        seed = config.first_seed + first_seed + step * config.num_videos + i
        rng = random.Random(f"sampling:{split}:{seed}")
        spec, seconds = _sample_frames(config, rng, seed, split)
        power = rng.uniform(*_LATE_CLOCK_POWERS)
        shift = float(round(10.0**power)) if rng.random() < config.late_clock_share else 0.0
        samples.append(VideoSample(spec=spec, seconds=seconds, shift=shift))
    return samples


def _sample_frames(
    config: BatchConfig, rng: random.Random, seed: int, split: str
) -> tuple[VideoSpec, Tensor]:
    """A video and the times of its frames."""
    may_be_long = config.max_frames > SHORT_FRAMES and config.max_scenes is None
    if may_be_long and rng.random() < config.long_share:
        num_frames = rng.randint(SHORT_FRAMES, config.max_frames)
        rate = _odd_rate(config, rng) or 1.0
        num_seconds = max(MIN_SECONDS, round(num_frames / rate))
        spec = sample_long_video(seed, num_seconds, split=split, level=config.level)
        return spec, frame_seconds(spec, rate)[:num_frames]
    if config.footage_share and rng.random() < config.footage_share:
        spec = sample_footage(seed, split)
    else:
        spec = sample_video(seed, split=split, level=config.level)
        if config.eventful_share and rng.random() < config.eventful_share:
            others = (seed + i * _OTHER_SEEDS for i in (1, 2))
            drawn = [sample_video(other, split=split, level=config.level) for other in others]
            spec = max([spec, *drawn], key=_num_events)
    max_scenes = config.max_scenes
    if config.single_scene_share and rng.random() < config.single_scene_share:
        max_scenes = 1
    if max_scenes is not None and max_scenes < len(spec.scenes):
        count = rng.randint(1, max_scenes)
        first = rng.randrange(len(spec.scenes) - count + 1)
        spec = crop_scenes(spec, first, count)
    rate = _odd_rate(config, rng) or rng.choice(config.frame_rates)
    # Lower rates where there would be too many frames: a part of a video would not show what its
    # questions are about.
    for fps in (rate, min(1.0, rate), 0.5):
        seconds = frame_seconds(spec, fps)
        if len(seconds) <= config.max_frames:
            return spec, seconds
    return spec, frame_seconds(spec, config.max_frames / (spec.duration_seconds + 1.0))


def _num_events(spec: FullVideo) -> int:
    """How many objects turn another colour, pairs meet, and objects are a scene's third or more.

    Videos have least of that, and captions miss most of it.
    """
    return sum(
        sum(item.changes for item in scene.objects)
        + (scene.pair is not None)
        + max(0, len(scene.objects) - 2)
        for scene in spec.scenes
    )


def _odd_rate(config: BatchConfig, rng: random.Random) -> float | None:
    """For a share of the videos a rate between 0.4 and 2 frames a second."""
    if config.odd_rate_share and rng.random() < config.odd_rate_share:
        return 2.0 ** rng.uniform(math.log2(0.4), 1.0)
    return None


def make_batch(
    config: BatchConfig,
    processor: TimeVLMProcessor,
    samples: Sequence[VideoSample],
    *,
    size: tuple[int, int],
    seed: int,
    device: torch.device | str = "cpu",
) -> Batch:
    """Render the frames of all videos in one go and encode their turns."""
    batch = encode_turns(config, processor, samples, seed=seed)
    return batch.with_frames(samples, size, device)


def encode_turns(
    config: BatchConfig,
    processor: TimeVLMProcessor,
    samples: Sequence[VideoSample],
    *,
    seed: int,
) -> Batch:
    """The batch of these videos but for its frames: `pixels` are empty."""
    videos = [processor.video_ids(s.timestamps)[0] for s in samples]
    rng = random.Random(f"rows:{seed}:{samples[0].spec.seed}")
    rows: list[tuple[int, list[int], int]] = []
    asked: list[Turn] = []
    phrases, named = [], []
    named_ids = named_token_ids(processor, config.kinds)
    separator_ids = separator_token_ids(processor, config.kinds)
    for v, sample in enumerate(samples):
        turns = make_turns(
            sample.spec,
            sample.timestamps,
            sample.shift,
            seed,
            config.turns_per_video,
            config.kind_weights,
        )
        for turn in turns:
            history = []
            if rng.random() < config.history_share:
                earlier = rng.choice(turns[1:] or turns)
                history = [(earlier.prompt, earlier.answer)]
            rows.append((v, *_encode_row(processor, turn, history)))
            asked.append(turn)
            found = time_phrases(turn.answer, config.kinds, processor.num_answer_tokens)
            if turn.family == "caption":
                found += caption_phrases(turn.answer, config.kinds, processor.num_answer_tokens)
            phrases += [(len(rows) - 1, rows[-1][2], phrase) for phrase in found]
            if turn.family in COMPARING_FAMILIES and turn.spans:
                prompt = rows[-1][1][: rows[-1][2]]
                words = _question_phrases(turn, prompt, config.kinds, (named_ids, separator_ids))
                named += [(len(rows) - 1, 0, phrase) for phrase in words]
    text_ids, text_lengths = pad_rows([ids for _, ids, _ in rows], processor.pad_token_id)
    prompt_lengths = torch.tensor([length for _, _, length in rows])
    position = torch.arange(text_ids.shape[1])
    is_answer = (position >= prompt_lengths[:, None]) & (position < text_lengths[:, None])
    video_ids, video_lengths = pad_rows(videos, processor.pad_token_id)
    return Batch(
        pixels=torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        video_ids=video_ids,
        video_lengths=video_lengths,
        row_video=torch.tensor([v for v, _, _ in rows]),
        text_ids=text_ids,
        labels=torch.where(is_answer, text_ids, IGNORE_INDEX),
        text_lengths=text_lengths,
        rank_index=prompt_lengths - 1,
        lookups=lookups_of(asked, config.kinds),
        frame_counts=torch.tensor([len(s.seconds) for s in samples]),
        frame_seconds=torch.tensor([t for s in samples for t in s.timestamps], dtype=torch.float64),
        phrases=phrase_tokens(phrases, config.kinds),
        asked=phrase_tokens(named, config.kinds),
    )


def _question_phrases(
    turn: Turn, prompt: Sequence[int], kinds: Kinds, ids: tuple[Sequence[int], Sequence[int]]
) -> list[Phrase]:
    """What the words of a question that compares are to look at.

    `prompt` are its ids, `ids` those of words for looks, and of marks that end clauses.
    """
    named_ids, separator_ids = ids
    evenly = turn.family in kinds.every_token_families
    phrases = asked_phrases(prompt, named_ids, turn.spans, evenly)
    if turn.listed:
        phrases += listed_phrases(prompt, separator_ids, turn.listed, kinds)
    return phrases


def _encode_row(
    processor: TimeVLMProcessor, turn: Turn, history: Sequence[tuple[str, str]]
) -> tuple[list[int], int]:
    prompt = processor.prompt_ids(turn.prompt, history)
    return [*prompt, *processor.answer_ids(turn.answer)], len(prompt)


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one right-padded tensor, and their lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.full((len(rows), int(lengths.max())), pad_id)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded, lengths
