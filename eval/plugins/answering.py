"""TimeVLM as other harnesses see it: a video and a text in, a text or a likelihood out.

A video is watched once; its memory answers all its questions, and the last few memories are kept.
With `answers="native"` a prompt with options is answered by the letter of the likeliest option and
a prompt for an event by its span, in the form that the harness parses; with `answers="text"` the
prompt is answered in free words as it stands.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import torch

from eval.benchmarks.prompts import LETTERS, distinct
from eval.models.base import VideoRequest
from eval.models.frames import frame_times
from eval.plugins.wording import Asked, read_prompt
from eval.sampling import Sampling
from timevlm import AnswerScore, InputError, SamplingPlan, TimeVLM, VideoMemory
from timevlm.video import FrameBatch

if TYPE_CHECKING:
    from PIL.Image import Image

AnswerMode = Literal["native", "text"]
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tiff", ".webp"}
FREE_ANSWER_TOKENS = 48
GREY = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginSettings:
    """What a harness's command line may say about the model."""

    pretrained: str = "nano"
    """"nano", a folder, or a hub id."""
    device: str = "auto"
    dtype: str = "auto"
    sampling: str = "model"
    """Which frames, as `timevlm eval --sampling` takes it; "model": what its makers chose."""
    answers: AnswerMode = "native"
    memories: int = 4
    """How many watched videos are kept for questions that come later."""
    picture_fps: float = 1.0
    """Pictures that stand for a video are this many a second."""
    broken_videos: Literal["raise", "empty"] = "raise"
    """A video that cannot be decoded ends the run, or its questions are answered by ""."""

    def __post_init__(self) -> None:
        for name, allowed in (("answers", get_args(AnswerMode)), ("broken_videos", _BROKEN)):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}"
                )
        for name in ("memories", "picture_fps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise InputError(f"{name} is {value!r}; it must be a number above 0")
        Sampling.parse(self.sampling)

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Self:
        """Settings by name; None means the default. Raises InputError or PlanError."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(f"unknown model options {unknown}; known are {', '.join(known)}")
        return cls(**{name: value for name, value in options.items() if value is not None})


_BROKEN = ("raise", "empty")


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video file, or the part of it between two times in seconds, and which frames of it."""

    path: str
    start: float | None = None
    end: float | None = None
    sampling: str = "model"


def read_visual(items: Sequence[Any], sampling: str = "model") -> "VideoPart | list[Image]":
    """One visual out of what a harness hands over for a question.

    Items are paths of videos or of pictures, PIL pictures, or dicts with `url`, `path` or `video`
    and `video_start`, `video_end` or `start_time`, `end_time`. Raises InputError for anything but
    one video, or pictures alone.
    """
    videos, pictures = [], []
    for item in items:
        found = _read_item(item, sampling)
        (videos if isinstance(found, VideoPart) else pictures).append(found)
    if not videos:
        return pictures
    if len(videos) > 1 or pictures:
        raise InputError(
            f"a question shows {len(videos)} videos and {len(pictures)} pictures; this model "
            "answers about one video, or about pictures alone"
        )
    return videos[0]


def _read_item(item: Any, sampling: str) -> "VideoPart | Image":
    start = end = None
    if isinstance(item, Mapping):
        start = item.get("video_start", item.get("start_time"))
        end = item.get("video_end", item.get("end_time"))
        named = [item[key] for key in ("url", "path", "video") if item.get(key)]
        if not named:
            raise InputError(f"a visual with the keys {sorted(item)} names no video")
        item = named[0]
    if isinstance(item, str | Path):
        if Path(item).suffix.lower() not in PICTURE_SUFFIXES:
            path = str(item).removeprefix("file://")
            return VideoPart(path, _seconds(start), _seconds(end), sampling)
        from PIL import Image

        with Image.open(item) as picture:
            return picture.convert("RGB")
    if hasattr(item, "convert") and hasattr(item, "resize"):
        return item
    raise InputError(f"a visual is a {type(item).__name__}; give a video's path or PIL pictures")


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


class Answerer:
    """A loaded TimeVLM and the memories of the videos that it was asked about last."""

    def __init__(self, settings: PluginSettings, vlm: TimeVLM | None = None) -> None:
        self.settings = settings
        self.vlm = vlm or TimeVLM.from_pretrained(
            settings.pretrained, device=settings.device, dtype=settings.dtype
        )
        self._memories: OrderedDict[VideoPart, VideoMemory] = OrderedDict()

    def answer(
        self,
        visual: "VideoPart | Sequence[Image]",
        prompt: str,
        *,
        max_new_tokens: int = FREE_ANSWER_TOKENS,
        until: Sequence[str] = (),
    ) -> str:
        """The reply to a harness's prompt.

        `max_new_tokens` and `until` (texts before which a reply ends) cut free answers alone: a
        letter and a span are short and whole. Raises VideoError or InputError.
        """
        memory = self.remember(visual)
        if self.settings.answers == "native":
            asked = read_prompt(prompt)
            if asked.options:
                return LETTERS[self._choose(memory, asked)]
            if asked.is_event:
                return self._locate(memory, asked.question)
        text = self.vlm.ask(memory, prompt, max_new_tokens=max_new_tokens).text
        for stop in until:
            text = text.partition(stop)[0] if stop else text
        return text.strip()

    def score(
        self, visual: "VideoPart | Sequence[Image]", question: str, answers: Sequence[str]
    ) -> list[AnswerScore]:
        """How likely each of `answers` is as the answer to an open question."""
        return self.vlm.score(self.remember(visual), question, answers)

    def remember(self, visual: "VideoPart | Sequence[Image]") -> VideoMemory:
        """The memory of a visual; a video's is kept. Raises VideoError, PlanError."""
        if not isinstance(visual, VideoPart):
            return self.vlm.watch(self._frames(visual))
        if visual not in self._memories:
            self._memories[visual] = self.vlm.watch(
                visual.path, plan=self._plan(visual), isolate=True
            )
            while len(self._memories) > self.settings.memories:
                self._memories.popitem(last=False)
        self._memories.move_to_end(visual)
        return self._memories[visual]

    def _plan(self, part: VideoPart) -> SamplingPlan:
        sampling = Sampling.parse(part.sampling)
        if sampling.mode == "model":
            return self.vlm.make_plan(start=part.start, end=part.end)
        clip = (part.start, part.end)
        times: Sequence[float] | np.ndarray = ()
        if sampling.needs_frame_times:
            request = VideoRequest(path=Path(part.path), sampling=sampling, clip=clip)
            times = frame_times(request)
        return sampling.plan(clip=clip, resolution=self.vlm.frame_size, frame_seconds=times)

    def _frames(self, pictures: "Sequence[Image]") -> "_Pictures":
        height, width = self.vlm.frame_size
        arrays = [np.asarray(p.convert("RGB").resize((width, height))) for p in pictures]
        if not arrays:  # the model cannot be asked about no video at all
            arrays = [np.full((height, width, 3), GREY, dtype=np.uint8)]
        return _Pictures(arrays, self.settings.picture_fps)

    def _choose(self, memory: VideoMemory, asked: Asked) -> int:
        """Index of the likeliest option; of options with equal texts the first stands for all."""
        places = distinct(asked.options)
        if len(places) < 2:
            return places[0]
        texts = [asked.options[place] for place in places]
        return places[self.vlm.ask(memory, asked.question, choices=texts).choice]

    def _locate(self, memory: VideoMemory, query: str) -> str:
        """The best span of an event, in the words that lmms-eval's prompt asks for."""
        spans = self.vlm.ground(memory, query)
        if not spans:
            return ""
        best = max(spans, key=lambda span: (span.score, -span.start))
        return f"The event happens in the {best.start:.2f} - {best.end:.2f} seconds."


class _Pictures:
    """Pictures, uint8 (H, W, 3) each, as a stream of frames at a steady rate."""

    def __init__(self, arrays: Sequence[np.ndarray], fps: float) -> None:
        self._arrays = arrays
        self.planned_seconds = np.arange(len(arrays), dtype=np.float64) / fps

    def __iter__(self) -> Iterator[FrameBatch]:
        for array, seconds in zip(self._arrays, self.planned_seconds, strict=True):
            pixels = torch.from_numpy(array.copy()).permute(2, 0, 1)[None]
            yield FrameBatch(pixels, torch.tensor([seconds], dtype=torch.float64))
