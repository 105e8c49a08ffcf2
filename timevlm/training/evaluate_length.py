"""How a model does on long videos: needles and their order, from 32 to 10,000 frames.

A needle is a short scene whose one object has a shape that nothing else in the video has. Frames
are rendered while they are watched, so that the length of a video costs time and no memory.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from timevlm.api import TimeVLM
from timevlm.errors import InputError
from timevlm.synth.long import MIN_SECONDS, make_needle_questions, sample_long_video
from timevlm.synth.render import render_frames
from timevlm.synth.spec import VideoSpec
from timevlm.synth.world import check_source, frame_seconds
from timevlm.training.evaluate import Progress, blind_memory, question_rows
from timevlm.training.evaluate_scores import Row, summarize_rows, tables_of
from timevlm.training.evaluate_workers import Ledger, Work, map_items
from timevlm.video.frames import FrameBatch

LENGTHS = (32, 128, 512, 2048, 10_000)


@dataclass(frozen=True, kw_only=True)
class LengthConfig:
    """Lengths in frames, and how many videos of each.

    Every length gets about `frames_per_length` frames in all, in at least `min_videos` and at
    most `max_videos` videos.
    """

    lengths: tuple[int, ...] = LENGTHS
    frames_per_length: int = 20_000
    min_videos: int = 2
    max_videos: int = 40
    level: str = "basic"
    split: str = "test"
    fps: float = 1.0

    def __post_init__(self) -> None:
        check_source(0, self.split, self.level)
        if not self.lengths or min(self.lengths) < 8:
            raise InputError(f"lengths {list(self.lengths)}: give at least one, from 8 frames on")
        if not 1 <= self.min_videos <= self.max_videos or self.fps <= 0:
            raise InputError(
                f"{self.min_videos} to {self.max_videos} videos at {self.fps} frames/s cannot be "
                "made; give 1 or more videos and a rate above 0"
            )

    def num_videos(self, length: int) -> int:
        """Videos of a length."""
        return max(self.min_videos, min(self.max_videos, self.frames_per_length // length))


class WorldFrames:
    """The frames of a world's video at `planned_seconds`, rendered a batch at a time."""

    def __init__(
        self, spec: VideoSpec, seconds: torch.Tensor, size: tuple[int, int], device: torch.device
    ) -> None:
        self.spec = spec
        self.planned_seconds = seconds
        self.size = size
        self.device = device
        self.render_seconds = 0.0

    def __iter__(self) -> Iterator[FrameBatch]:
        for part in self.planned_seconds.split(64):
            started = time.perf_counter()
            pixels = render_frames([(self.spec, part)], self.size, self.device)
            self.render_seconds += time.perf_counter() - started
            yield FrameBatch(pixels, part)


def long_video(length: int, seed: int, config: LengthConfig) -> tuple[VideoSpec, torch.Tensor]:
    """A video and the times of `length` frames of it.

    Where a length at `fps` is shorter than the shortest video with needles, frames stand closer.
    """
    num_seconds = max(MIN_SECONDS, round(length / config.fps))
    spec = sample_long_video(seed, num_seconds, split=config.split, level=config.level)
    return spec, frame_seconds(spec, length / num_seconds)[:length]


def evaluate_lengths(
    vlm: TimeVLM,
    config: LengthConfig,
    *,
    processes: int = 1,
    rows_file: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a model at all lengths; a JSON-safe report with a table a length.

    Raises InputError where `rows_file` belongs to other settings.
    """
    settings = {"fingerprint": vlm.fingerprint, **asdict(config), "lengths": list(config.lengths)}
    ledger = Ledger(rows_file, settings)
    items = [
        (length, seed)
        for length in sorted(config.lengths, reverse=True)  # the longest first: nobody waits last
        for seed in range(config.num_videos(length))
    ]
    missing = [item for item in items if _name(item) not in ledger.done]
    if processes == 1:
        open_work = partial(_length_work, vlm, config)
    else:
        open_work = partial(_open_length_work, vlm.name, config)
    for item, result in map_items(open_work, missing, processes):
        ledger.add(_name(item), result)
        if progress is not None:
            progress(len(ledger.done), len(items))
    lengths = {
        str(length): _report([ledger.done[_name(item)] for item in items if item[0] == length])
        for length in sorted(config.lengths)
    }
    return {**settings, "model": vlm.name, "by_length": lengths}


def _name(item: Sequence[int]) -> str:
    return f"{item[0]} frames, video {item[1]}"


def _report(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rows = [Row(**row) for result in results for row in result["rows"]]
    questions = [row for row in rows if row.table == "questions"]
    tables = tables_of(rows)
    tables["questions"] = {"all": summarize_rows(questions), **tables["questions"]}
    names = ("watch_seconds", "render_seconds", "ask_seconds", "memory_bytes")
    means = {name: sum(result[name] for result in results) / len(results) for name in names}
    return {"videos": len(results), "tables": tables, **means}


def _open_length_work(model: str, config: LengthConfig) -> Work:
    return _length_work(TimeVLM.from_pretrained(model), config)


def _length_work(vlm: TimeVLM, config: LengthConfig) -> Work:
    empty = blind_memory(vlm)

    def work(item: Sequence[int]) -> dict[str, Any]:
        length, seed = item
        spec, seconds = long_video(length, seed, config)
        frames = WorldFrames(spec, seconds, vlm.frame_size, vlm.model.device)
        started = time.perf_counter()
        memory = vlm.watch(frames)
        watched = time.perf_counter()
        rows: list[Row] = []
        questions = make_needle_questions(spec, seed)
        for question in questions:
            rows += question_rows(vlm, question, (memory, empty), (seed, spec.duration_seconds))
        asked = time.perf_counter() - watched
        return {
            "rows": [row.to_dict() for row in rows],
            "watch_seconds": watched - started - frames.render_seconds,
            "render_seconds": frames.render_seconds,
            "ask_seconds": asked / max(1, len(questions)),
            "memory_bytes": memory.nbytes,
        }

    return work
