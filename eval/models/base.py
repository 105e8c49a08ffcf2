"""What the runner asks of any model: decode ahead, open a video, answer questions about it.

Work on a video has two stages, so that the next video can be decoded while the model is busy with
this one. `decode` runs in a background thread and touches no model; `watch` and `Session.answer`
run in the main thread. All questions of a video go to one session, which holds whatever the model
keeps of the video: TimeVLM's memory, or just the frames.

Nothing here imports torch: scoring and checking need these types too.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from timevlm.video import DecodeLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """How the command line names a model and what it may change about it.

    `options` are JSON values that only some models know, such as `tokens_per_frame` or `transv`;
    a model refuses the ones that it does not know.
    """

    name: str = "nano"
    device: str = "auto"
    dtype: str = "auto"
    max_new_tokens: int = 256
    seed: int = 0
    native: bool = True
    """Let a model that can return a value do so (likelihood of options, spans under a grammar);
    False: it writes text, and the text is parsed like any other model's."""
    options: tuple[tuple[str, Any], ...] = ()

    def option_values(self) -> dict[str, Any]:
        """`options` as a dict."""
        return dict(self.options)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRequest:
    """Which frames of which video."""

    path: Path
    sampling: Sampling
    clip: tuple[float, float] | None = None
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    questions: tuple[str, ...] = ()
    """All that the run asks about this video, for models that look for what is asked."""
    shuffled: bool = False
    """Show the frames in another order, at the times of the true one."""


class Session(ABC):
    """One opened video (or one clip of it), for any number of questions."""

    frame_seconds: Sequence[float] = ()
    """Presentation times of the frames that the model is shown."""
    duration_seconds: float = 0.0
    """Length of the video, or of the clip."""

    @abstractmethod
    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        """What the model says to one question.

        Raises TimeVLMError, OSError, ValueError or RuntimeError; the runner records the error.
        """

    def shown(self, sample: Sample, prompt: Prompt) -> Prompt:
        """The prompt that the model really reads; models with words of their own override this."""
        return prompt

    def close(self) -> None:
        """Free what the session holds; nothing unless a model says so."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoModel(ABC):
    """A model under test."""

    name: str
    fingerprint: str
    """Changes whenever the same question may get another answer."""
    gen_kwargs: dict[str, Any]
    """How replies are made: JSON values, part of every row."""
    default_sampling: Sampling
    """What `--sampling model` means."""
    reads_prompts: bool = True
    """Whether the benchmark's prompts, with subtitles where there are any, are what it is shown."""
    decodes_ahead: bool = True
    """Whether `decode` may run for the next video while this one is being answered."""

    @abstractmethod
    def decode(self, request: VideoRequest) -> Any:
        """Start on a video's frames without touching the model; the result goes to `watch`.

        Raises VideoError or PlanError.
        """

    @abstractmethod
    def watch(self, decoded: Any) -> Session:
        """A session about what `decode` returned."""

    def check_sampling(self, sampling: Sampling) -> None:
        """Raise PlanError for a sampling that this model cannot follow; most follow all."""
        return

    def open(
        self,
        video: Path,
        sampling: Sampling,
        clip: tuple[float, float] | None = None,
        limits: DecodeLimits | None = None,
        questions: tuple[str, ...] = (),
    ) -> Session:
        """Both stages at once: a session about one video, a context manager."""
        request = VideoRequest(
            path=video,
            sampling=sampling,
            clip=clip,
            limits=limits or DecodeLimits(),
            questions=questions,
        )
        return self.watch(self.decode(request))


def digest(values: dict[str, Any]) -> str:
    """SHA-256 of JSON values: the fingerprint of a model that has no weights here."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
