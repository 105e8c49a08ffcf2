"""Batches of rendered videos, each with several turns that share it.

A video is read once and every turn about it is a row that forks the video's state, as `ask` does.
That costs less than packing the turns into one sequence (the video's tokens run once either way,
but rows stay short) and trains the very path that answers, including the ranking by each turn's
own prompt.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from timevlm.model import IGNORE_INDEX
from timevlm.processing import TimeVLMProcessor
from timevlm.synth.palette import COLOURS, SHAPES
from timevlm.synth.render import render_frames
from timevlm.synth.spec import ObjectSpec, SceneSpec, VideoSpec
from timevlm.synth.world import frame_seconds, sample_video
from timevlm.training.turns import Turn, make_turns

# Families whose questions are about a single object that their text (with the answer) describes.
ONE_OBJECT_FAMILIES = ("colour", "shape", "motion", "when", "grounding")
_OBJECT_TIMES = tuple(f.name for f in fields(ObjectSpec) if f.name.endswith("_seconds"))


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How much goes into a batch and how videos are sampled."""

    num_videos: int = 8
    turns_per_video: int = 12
    max_frames: int = 64
    frame_rates: tuple[float, ...] = (1.0, 1.0, 1.0, 2.0, 0.5)  # drawn evenly
    shift_share: float = 0.3  # videos whose clock does not start at 0
    max_shift_seconds: int = 3600
    history_share: float = 0.15  # rows that stand after an earlier turn
    max_scenes: int | None = None  # cut videos down to a run of at most this many scenes
    first_seed: int = 0  # of the videos: another one trains on videos that were not seen yet


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
class Batch:
    """V videos with R rows of text; rows are right-padded.

    pixels uint8 (sum of frames, 3, H, W); video_ids (V, Lv), video_lengths (V,);
    row_video (R,) which video a row asks; text_ids and labels (R, Lt), text_lengths (R,);
    rank_index (R,) place of the last prompt token; asked (R, shapes + colours) bool: what the
    object that a row asks for looks like, as far as its text says; none where it asks for no one.
    """

    pixels: Tensor
    video_ids: Tensor
    video_lengths: Tensor
    row_video: Tensor
    text_ids: Tensor
    labels: Tensor
    text_lengths: Tensor
    rank_index: Tensor
    asked: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def sample_videos(
    config: BatchConfig, step: int, *, split: str = "train", first_seed: int = 0
) -> list[VideoSample]:
    """The videos of one step; the step alone decides them, so that training can resume."""
    samples = []
    for i in range(config.num_videos):
        seed = config.first_seed + first_seed + step * config.num_videos + i
        rng = random.Random(f"sampling:{split}:{seed}")
        spec = sample_video(seed, split=split)
        if config.max_scenes is not None and config.max_scenes < len(spec.scenes):
            count = rng.randint(1, config.max_scenes)
            first = rng.randrange(len(spec.scenes) - count + 1)
            spec = crop_scenes(spec, first, count)
        rate = rng.choice(config.frame_rates)
        seconds = frame_seconds(spec, rate)
        if len(seconds) > config.max_frames:
            seconds = frame_seconds(spec, min(1.0, rate))[: config.max_frames]
        shifted = rng.random() < config.shift_share
        shift = float(rng.randrange(config.max_shift_seconds)) if shifted else 0.0
        samples.append(VideoSample(spec=spec, seconds=seconds, shift=shift))
    return samples


def crop_scenes(spec: VideoSpec, first: int, count: int) -> VideoSpec:
    """The video of `count` scenes from scene `first` on, starting at time 0."""
    scenes = spec.scenes[first : first + count]
    start = scenes[0].start_seconds
    moved = tuple(_earlier(scene, start) for scene in scenes)
    return replace(spec, scenes=moved, duration_seconds=moved[-1].end_seconds)


def _earlier(scene: SceneSpec, seconds: float) -> SceneSpec:
    """A scene with all its times `seconds` earlier (in tenths, as the world keeps them)."""

    def move(item: object, names: Sequence[str]) -> dict[str, float]:
        values = {name: getattr(item, name) for name in names}
        return {k: round(v - seconds, 1) for k, v in values.items() if v is not None}

    objects = tuple(replace(item, **move(item, _OBJECT_TIMES)) for item in scene.objects)
    return replace(scene, objects=objects, **move(scene, ("start_seconds", "end_seconds")))


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
    pixels = render_frames([(s.spec, s.seconds) for s in samples], size, device)
    videos = [processor.video_ids(s.timestamps)[0] for s in samples]
    rng = random.Random(f"rows:{seed}:{samples[0].spec.seed}")
    rows: list[tuple[int, list[int], int]] = []
    asked: list[list[bool]] = []
    for v, sample in enumerate(samples):
        turns = make_turns(
            sample.spec, sample.timestamps, sample.shift, seed, config.turns_per_video
        )
        for turn in turns:
            history = []
            if rng.random() < config.history_share:
                earlier = rng.choice(turns[1:] or turns)
                history = [(earlier.prompt, earlier.answer)]
            rows.append((v, *_encode_row(processor, turn, history)))
            asked.append(asked_looks(turn))
    text_ids, text_lengths = pad_rows([ids for _, ids, _ in rows], processor.pad_token_id)
    prompt_lengths = torch.tensor([length for _, _, length in rows])
    position = torch.arange(text_ids.shape[1])
    is_answer = (position >= prompt_lengths[:, None]) & (position < text_lengths[:, None])
    video_ids, video_lengths = pad_rows(videos, processor.pad_token_id)
    return Batch(
        pixels=pixels,
        video_ids=video_ids,
        video_lengths=video_lengths,
        row_video=torch.tensor([v for v, _, _ in rows]),
        text_ids=text_ids,
        labels=torch.where(is_answer, text_ids, IGNORE_INDEX),
        text_lengths=text_lengths,
        rank_index=prompt_lengths - 1,
        asked=torch.tensor(asked),
    ).to(device)


def asked_looks(turn: Turn) -> list[bool]:
    """Which shapes and colours the one object has that a turn asks for; all False for no one."""
    if turn.family not in ONE_OBJECT_FAMILIES:
        return [False] * (len(SHAPES) + len(COLOURS))
    words = set(re.findall("[a-z]+", f"{turn.prompt} {turn.answer}".lower()))
    return [name in words for name in (*SHAPES, *COLOURS)]


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
