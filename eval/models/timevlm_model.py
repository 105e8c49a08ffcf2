"""TimeVLM under test: the video is watched once, every question of it asks the same memory.

Natively a choice is the option with the highest likelihood, a span is decoded under a grammar of
the frames' times, and captions come with times, so nothing has to be parsed. With `native=False`
the benchmark's own prompt is answered in free text like any other model's.

Options for ablations on the same weights (no retraining): `tokens_per_frame` (ToMe merges to this
many), `transv` ("on": as trained, "off", "drop": drop without transfer, or a list of compressions),
and single values such as `transv.1.keep`.

With the option `prefilter` (a name that `timevlm.prefilter.load_prefilter` takes; "off" is as if it
were not given) the frames of the sampling's budget go where something happens. All frames that the
sampling's rate gives are decoded then, and what the pre-filter looks for is named by all the
questions that the run asks about the video, since they share its memory.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from eval.benchmarks.prompts import distinct
from eval.models.base import ModelSettings, Session, VideoModel, VideoRequest
from eval.models.frames import Frames, open_frames, plan_frames, start_decoding
from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from timevlm import (
    Answer,
    InputError,
    PlanError,
    SamplingPlan,
    TimeVLM,
    TimeVLMForConditionalGeneration,
    TimeVLMProcessor,
    VideoMemory,
)
from timevlm.prefilter import Prefilter, load_prefilter
from timevlm.video import FrameBatch

PREFILTER = "prefilter"
_OFF = "off"
_AS_TRAINED = "on"
_TRANSFER_PARTS = ("llm.backbone.merge_modules.", "llm.backbone.alpha")


@dataclass(frozen=True, slots=True)
class _Opened:
    """Frames that are being decoded, and who chooses among them."""

    frames: Frames
    plan: SamplingPlan
    prefilter: Prefilter | None


class TimeVLMModel(VideoModel):
    """A loaded TimeVLM. `settings.options` changes its compression, see the module's text."""

    def __init__(self, settings: ModelSettings) -> None:
        options = settings.option_values()
        self.prefilter = _prefilter(options.pop(PREFILTER, _OFF))
        if options.get("transv") == _AS_TRAINED:
            del options["transv"]
        vlm = TimeVLM.from_pretrained(settings.name, device=settings.device, dtype=settings.dtype)
        self.vlm = with_options(vlm, options) if options else vlm
        self.name = settings.name
        self.fingerprint = self.vlm.fingerprint
        self.native = settings.native
        self.reads_prompts = not settings.native
        self.seed = settings.seed
        self.max_new_tokens = settings.max_new_tokens
        self.gen_kwargs = {
            "answers": "native" if self.native else "text",
            "do_sample": False,
            "max_new_tokens": self.max_new_tokens,
        }
        if options:
            self.gen_kwargs["options"] = options
        if self.prefilter is not None:
            self.gen_kwargs[PREFILTER] = self.prefilter.identity()
        config = self.vlm.model.config
        mode = "fps" if config.default_max_frames is None else "fps_then_uniform"
        self.default_sampling = Sampling(
            mode=mode, fps=config.default_fps, frames=config.default_max_frames
        )

    def check_sampling(self, sampling: Sampling) -> None:
        """A pre-filter chooses among more frames than it may keep: `linspace` names each one."""
        if self.prefilter is not None and sampling.mode == "linspace":
            raise PlanError(
                f"sampling {sampling} leaves a pre-filter nothing to choose; use "
                f"uniform_mid:{sampling.frames} or fps_then_uniform:R:{sampling.frames}"
            )

    def decode(self, request: VideoRequest) -> _Opened:
        """Frames of the size that the vision tower reads; two batches at most wait decoded."""
        if self.prefilter is None:
            frames = open_frames(request, self.vlm.frame_size)
            return _Opened(frames, frames.plan, None)
        prefilter = self.prefilter.about(*request.questions)
        plan = plan_frames(request, self.vlm.frame_size)
        plan = prefilter.budgeted(plan, self.vlm.default_fps)
        return _Opened(start_decoding(request, prefilter.candidates(plan)), plan, prefilter)

    def watch(self, decoded: _Opened) -> Session:
        """Watch the frames as they come, in one pass, or those that the pre-filter chose."""
        frames = decoded.frames
        try:
            memory, details = self._watch(decoded)
        finally:
            frames.close()
        timings = replace(memory.timings, decode=frames.decode_seconds)
        memory = replace(
            memory, video_end=frames.end_seconds, timings=timings, warnings=frames.warnings
        )
        return _TimeVLMSession(self, memory, frames.duration_seconds, details)

    def _watch(self, decoded: _Opened) -> tuple[VideoMemory, dict[str, Any]]:
        """The memory, and for the rows what the pre-filter saw; its time counts as encoding."""
        frames, prefilter = decoded.frames, decoded.prefilter
        if prefilter is None:
            return self.vlm.watch(frames, plan=decoded.plan), {}
        focus = prefilter.focus(frames, decoded.plan, end_seconds=frames.end_seconds)
        memory = self.vlm.watch(focus, plan=focus.plan)
        encode = memory.timings.encode + focus.recognize_seconds
        memory = replace(memory, timings=replace(memory.timings, encode=encode))
        found = {
            "named": list(prefilter.named),
            "segments": [[segment.start, segment.end] for segment in focus.segments],
            "seconds": focus.recognize_seconds,
        }
        return memory, {PREFILTER: found}

    def watch_nothing(self, duration_seconds: float) -> Session:
        """A session about one grey frame: the model cannot be asked about no video at all."""
        memory = self.vlm.watch(_GreyFrame(self.vlm.frame_size))
        memory = replace(memory, video_end=duration_seconds)
        return _TimeVLMSession(self, memory, duration_seconds)


class _GreyFrame:
    """A stream of one grey picture at 0 s."""

    planned_seconds = (0.0,)

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size

    def __iter__(self) -> Iterator[FrameBatch]:
        pixels = torch.full((1, 3, *self._size), 128, dtype=torch.uint8)
        yield FrameBatch(pixels, torch.zeros(1, dtype=torch.float64))


class _TimeVLMSession(Session):
    def __init__(
        self,
        model: TimeVLMModel,
        memory: VideoMemory,
        duration_seconds: float,
        watch_details: dict[str, Any] | None = None,
    ) -> None:
        self._watch_details = watch_details or {}
        self._vlm = model.vlm
        self._model = model
        self._memory = memory
        self._is_first = True
        self.frame_seconds = memory.frame_seconds.tolist()
        self.duration_seconds = duration_seconds
        ids, _ = self._vlm.processor.video_ids(self.frame_seconds)
        self._video_tokens = self._tokens_kept = len(ids)
        # Where text goes on alone, the tokens have done their work.
        for compression in (c for c in self._vlm.model.config.llm.transv if c.keep):
            self._tokens_kept = compression.num_kept(self._video_tokens, self._tokens_kept)

    def shown(self, sample: Sample, prompt: Prompt) -> Prompt:
        """The question alone where the model answers natively."""
        if not self._model.native:
            return prompt
        return Prompt(text="\n".join([sample.question, *sample.options]))

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        """By likelihood, under a grammar, or in free text, as the task and settings ask."""
        started = time.perf_counter()
        if not self._model.native:
            text = "\n\n".join(part for part in (prompt.system, prompt.text) if part)
            reply = self._write(text)
        elif sample.task == "choice":
            reply = self._choose(sample)
        elif sample.task == "grounding":
            reply = self._ground(sample)
        elif sample.task == "open_answer":
            reply = self._write(sample.question)
        else:
            reply = self._caption()
        return self._with_costs(reply, sample, time.perf_counter() - started)

    def _write(self, text: str) -> Reply:
        model = self._model
        answer = self._vlm.ask(
            self._memory, text, seed=model.seed, max_new_tokens=model.max_new_tokens
        )
        return _text_reply(answer)

    def _choose(self, sample: Sample) -> Reply:
        places = distinct(sample.options)
        if len(places) < 2:
            return Reply(raw=sample.options[0], choice=0, confidence=1.0)
        texts = [sample.options[index] for index in places]
        answer = self._vlm.ask(self._memory, sample.question, choices=texts, seed=self._model.seed)
        reply = replace(_text_reply(answer), choice=places[answer.choice])
        if len(places) < len(sample.options):
            note = "options with equal texts: the first of them stands for all"
            reply = replace(reply, warnings=(*reply.warnings, note))
        return reply

    def _ground(self, sample: Sample) -> Reply:
        spans = self._vlm.ground(self._memory, sample.question)
        ranked = sorted(spans, key=lambda span: (-span.score, span.start))
        pairs = tuple((span.start, span.end) for span in ranked)
        raw = "; ".join(f"{start:.2f} - {end:.2f}" for start, end in pairs)
        score = ranked[0].score if ranked else None
        return Reply(raw=raw, spans=pairs or None, confidence=score, evidence=pairs)

    def _caption(self) -> Reply:
        captions = self._vlm.caption(self._memory)
        lines = [f"{c.start:.1f} - {c.end:.1f} seconds, {c.text}" for c in captions]
        found = tuple((c.start, c.end, c.text) for c in captions)
        return Reply(raw="\n".join(lines), captions=found)

    def _with_costs(self, reply: Reply, sample: Sample, seconds: float) -> Reply:
        memory, shared = self._memory, self._memory.timings
        reply = replace(
            reply,
            seconds_decode=shared.decode if self._is_first else 0.0,
            seconds_encode=shared.encode if self._is_first else 0.0,
            seconds_prefill=shared.prefill if self._is_first else 0.0,
            seconds_generate=seconds,
            num_frames=memory.num_frames,
            first_frame_seconds=self.frame_seconds[0],
            last_frame_seconds=self.frame_seconds[-1],
            tokens_in=self._video_tokens + len(self._vlm.processor.prompt_ids(sample.question)),
            warnings=tuple(dict.fromkeys((*memory.warnings, *reply.warnings))),
            details=self._details(),
        )
        self._is_first = False
        return reply

    def _details(self) -> dict[str, Any]:
        """Vision tokens that the last layers see; once a video, its memory's bytes and where the
        pre-filter saw something."""
        details: dict[str, Any] = {"tokens_kept": self._tokens_kept}
        if self._is_first:
            details |= {"memory_bytes": self._memory.nbytes, **self._watch_details}
        return details


def with_options(vlm: TimeVLM, options: dict[str, Any]) -> TimeVLM:
    """The same weights with another compression; see the module's text for the options.

    Raises InputError for an unknown option, ModelError for values that contradict each other.
    """
    config = copy.deepcopy(vlm.model.config)
    trained = list(config.llm_config["transv"])
    config.llm_config = {**config.llm_config, "transv": _transv(trained, options)}
    config.tokens_per_frame = int(options.get("tokens_per_frame", config.tokens_per_frame))
    model = TimeVLMForConditionalGeneration(type(config)(**config.to_dict()))
    weights = _without_transfers(vlm.model.state_dict(), trained, config.llm_config["transv"])
    model.load_state_dict(weights)
    backends = {getattr(block.mixer, "backend", None) for block in vlm.model.llm.backbone.layers}
    for backend in backends - {None}:
        model.llm.set_backend(backend)
    model = model.to(device=vlm.model.device, dtype=vlm.model.dtype)
    processor = TimeVLMProcessor(
        vlm.processor.tokenizer,
        tokens_per_frame=config.tokens_per_frame,
        even_timestamps=vlm.processor.even_timestamps,
    )
    return TimeVLM(model, processor, vlm.name)


def _transv(trained: list[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    compressions = [dict(c) for c in trained]
    whole = options.get("transv")
    if whole == "off":
        # Where text goes on alone is a matter of the layers.
        compressions = [c for c in compressions if not c["keep"]]
    elif whole == "drop":
        compressions = [{**c, "transfer": False} for c in compressions]
    elif isinstance(whole, list):
        compressions = [dict(c) for c in whole]
    elif whole not in (None, _AS_TRAINED):
        raise InputError(f"transv is {whole!r}; write on, off, drop or a list of compressions")
    for key, value in options.items():
        if key in ("transv", "tokens_per_frame"):
            continue
        head, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        known = {"layer", "keep", "rule", "transfer", "max_keep", "normalize"}
        if head != "transv" or not number.isdecimal() or name not in known:
            raise InputError(
                f"unknown model option {key!r}; known are tokens_per_frame, prefilter, transv and "
                f"transv.N.NAME with NAME one of {', '.join(sorted(known))}"
            )
        if int(number) >= len(compressions):
            raise InputError(f"{key}: there are {len(compressions)} compressions, counted from 0")
        compressions[int(number)][name] = value
    return compressions


def _without_transfers(
    weights: dict[str, Any], trained: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> dict[str, Any]:
    """The weights without the cross-attention of transfers that are switched off.

    A transfer's weights belong to its place in the list. Raises InputError for a transfer that was
    never trained.
    """
    has = [bool(c.get("transfer", True)) for c in trained]
    keeps = [bool(c.get("transfer", True)) for c in wanted]
    for place, kept in enumerate(keeps):
        if kept and not (place < len(has) and has[place]):
            raise InputError(
                f"compression {place} transfers, but the model was not trained with a transfer "
                "there; set transfer to false"
            )
    kept_weights = {k: v for k, v in weights.items() if not k.startswith(_TRANSFER_PARTS)}
    for key, value in weights.items():
        module = key.removeprefix(_TRANSFER_PARTS[0])
        place = int(module.partition(".")[0]) if module != key else -1
        if 0 <= place < len(keeps) and keeps[place]:
            kept_weights[key] = value
    if any(keeps):
        gates = weights[_TRANSFER_PARTS[1]]
        gate_of = {place: sum(has[:place]) for place, kept in enumerate(keeps) if kept}
        kept_weights[_TRANSFER_PARTS[1]] = gates[list(gate_of.values())]
    return kept_weights


def _prefilter(name: Any) -> Prefilter | None:
    if not isinstance(name, str):
        raise InputError(f"prefilter is {name!r}; write {_OFF}, auto, or a pre-filter's name")
    return None if name == _OFF else load_prefilter(name)


def _text_reply(answer: Answer) -> Reply:
    return Reply(
        raw=answer.text,
        confidence=answer.confidence,
        evidence=tuple((span.start, span.end) for span in answer.evidence),
        warnings=answer.warnings,
    )
