"""Models that do not look: what a benchmark's score means is read against them.

`constant[:LETTER]` gives the same answer to every question: one letter, or the whole video as the
span. `blind` looks at the words alone (the longest option; the middle of the video), and
`blind:NAME` asks the model NAME without showing it a frame. `shuffled:NAME` shows it the frames in
another order: what it keeps of its score needs no order.
"""

from dataclasses import dataclass, replace
from typing import Any

from eval.models.base import ModelSettings, Session, VideoModel, VideoRequest, digest
from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from timevlm import InputError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONSTANT_CAPTION = "A video."
# The part of the video that the blind baseline names; the metrics' centre prior is the fitted one.
BLIND_SPAN = (0.25, 0.75)


class WordsOnlyModel(VideoModel):
    """Base of the baselines that never open a video, except to learn how long it is."""

    decodes_ahead = False

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.fingerprint = digest({"baseline": name, **settings})
        self.gen_kwargs = {"baseline": name, **settings}
        self.default_sampling = Sampling(mode="uniform_mid", frames=1)

    def decode(self, request: VideoRequest) -> VideoRequest:
        """Nothing to decode."""
        return request

    def watch(self, decoded: VideoRequest) -> Session:
        """A session that knows the words of a question and the length of the video."""
        return _WordsOnlySession(self, decoded)

    def choose(self, sample: Sample) -> int:
        """Index of the answered option."""
        raise NotImplementedError

    def span(self, start: float, end: float) -> tuple[float, float]:
        """The answered span of a video from `start` to `end`, seconds."""
        raise NotImplementedError


class ConstantModel(WordsOnlyModel):
    """The same letter for every question, the whole video for every span."""

    def __init__(self, letter: str = "A") -> None:
        if len(letter) != 1 or letter.upper() not in LETTERS:
            raise InputError(f"constant answer {letter!r} is not a letter; write constant:A")
        self.letter = letter.upper()
        super().__init__(f"constant:{self.letter}", {"letter": self.letter})

    def choose(self, sample: Sample) -> int:
        """The letter, or the last option where there are fewer."""
        return min(LETTERS.index(self.letter), len(sample.options) - 1)

    def span(self, start: float, end: float) -> tuple[float, float]:
        """All of it."""
        return start, end


class BlindModel(WordsOnlyModel):
    """The longest option (the first of them), the middle half of the video."""

    def __init__(self) -> None:
        super().__init__("blind", {"choice": "longest", "span": list(BLIND_SPAN)})

    def choose(self, sample: Sample) -> int:
        """Index of the longest text."""
        lengths = [len(option) for option in sample.options]
        return lengths.index(max(lengths))

    def span(self, start: float, end: float) -> tuple[float, float]:
        """The middle of it."""
        length = end - start
        return start + BLIND_SPAN[0] * length, start + BLIND_SPAN[1] * length


class _WordsOnlySession(Session):
    def __init__(self, model: WordsOnlyModel, request: VideoRequest) -> None:
        self._model = model
        self._request = request
        self._bounds: tuple[float, float] | None = None

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        if sample.task == "choice":
            choice = self._model.choose(sample)
            return Reply(raw=LETTERS[choice], choice=choice, tokens_in=0, tokens_out=0)
        if sample.task == "grounding":
            span = self._model.span(*self._span_of(sample))
            return Reply(raw=f"{span[0]:.2f} - {span[1]:.2f}", spans=(span,))
        if sample.task == "dense_caption":
            start, end = self._span_of(sample)
            text = f"{start:.1f} - {end:.1f} seconds, {CONSTANT_CAPTION}"
            return Reply(raw=text, captions=((start, end, CONSTANT_CAPTION),))
        return Reply(raw=CONSTANT_CAPTION)

    def _span_of(self, sample: Sample) -> tuple[float, float]:
        if sample.clip is not None:
            return sample.clip
        duration = sample.extra.get("duration")
        if isinstance(duration, int | float):
            return 0.0, float(duration)
        if self._bounds is None:
            from eval.models.frames import video_span

            self._bounds = video_span(self._request)
        return self._bounds


@dataclass(frozen=True, slots=True)
class _Length:
    """How long a video is that nobody looks at."""

    duration_seconds: float


class BlindfoldedModel(VideoModel):
    """Another model that is asked without being shown the video.

    The inner model must be able to open a session without frames (`watch_nothing`).
    """

    decodes_ahead = True

    def __init__(self, inner: VideoModel) -> None:
        if not hasattr(inner, "watch_nothing"):
            raise InputError(f"model {inner.name!r} cannot be asked without a video; use blind")
        self._inner = inner
        self.name = f"blind:{inner.name}"
        self.fingerprint = digest({"blind": inner.fingerprint})
        self.gen_kwargs = {**inner.gen_kwargs, "blind": True}
        self.reads_prompts = inner.reads_prompts
        self.default_sampling = Sampling(mode="uniform_mid", frames=1)

    def decode(self, request: VideoRequest) -> _Length:
        """The length alone: prompts may name it."""
        from eval.models.frames import video_span

        start, end = video_span(request)
        return _Length(end - start)

    def watch(self, decoded: _Length) -> Session:
        """A session of the inner model without frames."""
        return _Blindfolded(self._inner.watch_nothing(decoded.duration_seconds))


class _Blindfolded(Session):
    """The inner session; what it was fed in place of frames does not count as frames."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self.duration_seconds = inner.duration_seconds

    def shown(self, sample: Sample, prompt: Prompt) -> Prompt:
        return self._inner.shown(sample, prompt)

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        reply = self._inner.answer(sample, prompt)
        return replace(reply, num_frames=0, first_frame_seconds=None, last_frame_seconds=None)

    def close(self) -> None:
        self._inner.close()


class ShuffledModel(VideoModel):
    """Another model that is shown the frames in a wrong order, at the right times."""

    def __init__(self, inner: VideoModel) -> None:
        self._inner = inner
        self.name = f"shuffled:{inner.name}"
        self.fingerprint = digest({"shuffled": inner.fingerprint})
        self.gen_kwargs = {**inner.gen_kwargs, "shuffled": True}
        self.default_sampling = inner.default_sampling
        self.reads_prompts = inner.reads_prompts
        self.decodes_ahead = inner.decodes_ahead

    def check_sampling(self, sampling: Sampling) -> None:
        """As the inner model."""
        self._inner.check_sampling(sampling)

    def decode(self, request: VideoRequest) -> Any:
        """The inner model's, of the frames in another order."""
        return self._inner.decode(replace(request, shuffled=True))

    def watch(self, decoded: Any) -> Session:
        """The inner model's session."""
        return self._inner.watch(decoded)


def _load_shuffled(settings: ModelSettings, name: str) -> VideoModel:
    """Raises InputError where frames cannot be shuffled."""
    from eval.models import load_model

    options = settings.option_values()
    if not name or name.partition(":")[0] in ("blind", "constant", "shuffled"):
        raise InputError(f"shuffled:{name} has no frames to shuffle; name a model that looks")
    if options.get("prefilter", "off") != "off" or options.get("frames_as") == "video_url":
        raise InputError(
            "shuffled frames go with neither a pre-filter nor frames_as=video_url: both see the "
            "video itself; leave the option out"
        )
    return ShuffledModel(load_model(replace(settings, name=name)))


def load_baseline(settings: ModelSettings) -> VideoModel | None:
    """The baseline that `settings.name` means, None for other models."""
    kind, _, rest = settings.name.partition(":")
    if kind == "shuffled":
        return _load_shuffled(settings, rest)
    if kind == "constant":
        return ConstantModel(rest or "A")
    if kind == "blind" and not rest:
        return BlindModel()
    if kind == "blind":
        from eval.models import load_model

        return BlindfoldedModel(load_model(replace(settings, name=rest)))
    return None
