"""The Python API: load a model, watch a video once, ask it any number of times.

vlm = TimeVLM.from_pretrained("nano")
memory = vlm.watch("video.mp4", fps=1)
print(vlm.ask(memory, "What colour is the first shape?").text)
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from timevlm.agreement import LikelyCaption, most_agreed, most_agreed_caption
from timevlm.chat import ChatSession
from timevlm.choosing import choice_log_likelihoods, ranked_confidences
from timevlm.errors import InputError
from timevlm.evidence import evidence_spans
from timevlm.generation import (
    check_beams,
    generate_answer,
    likely_answers,
    mean_probability,
    read_prompt,
    score_candidates,
    set_seed,
    write_lines,
)
from timevlm.llm.ssd import choose_backend
from timevlm.loading import load_model, resolve_device, resolve_dtype
from timevlm.memory import MemoryBuilder, VideoMemory, model_fingerprint
from timevlm.model import TimeVLMForConditionalGeneration, TimeVLMOutput
from timevlm.processing import TimeVLMProcessor
from timevlm.results import Answer, AnswerScore, Caption, Span, Timings
from timevlm.tasks.captioning import CAPTION_PROMPT, listed_items, merge_repeats, parse_captions
from timevlm.tasks.confidence import question_trust
from timevlm.tasks.grounding import NOT_IN_VIDEO, grounding_prompt, merge_spans, parse_spans
from timevlm.tasks.qa import (
    candidate_texts,
    check_choices,
    check_question,
    choice_confidences,
    question_prompt,
    scored_text,
)
from timevlm.tasks.times import mark_times, unmark_times
from timevlm.video.frames import FrameBatch
from timevlm.video.identity import file_sha256
from timevlm.video.limits import DecodeLimits
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan

if TYPE_CHECKING:
    from timevlm.prefilter import Prefilter

MEMORY_SUFFIX = ".tvm"
MAX_ANSWER_TOKENS = 48
MAX_SPANS = 8
NUM_BEAMS = 32
MAX_CAPTION_TOKENS = 2048
# Reading 64 frames at a time keeps the vision tower busy and memory small.
FRAMES_PER_BATCH = 64
AUDIO_IGNORED = "the sound was ignored: answers rest on the pictures alone"

Progress = Callable[[int, int], None]


class TimeVLM:
    """A loaded model. Methods change nothing in it: one instance serves any number of videos."""

    def __init__(
        self, model: TimeVLMForConditionalGeneration, processor: TimeVLMProcessor, name: str
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self.fingerprint = model_fingerprint(model)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "nano",
        *,
        device: str = "auto",
        dtype: str = "auto",
        ssd_backend: str = "auto",
    ) -> "TimeVLM":
        """Load the embedded "nano", a folder, or a hub id.

        Raises `ModelError` when the name is unknown, a file is missing, or the device, dtype or
        SSD backend cannot be used.
        """
        target = resolve_device(device)
        model, processor = load_model(name_or_path, dtype=resolve_dtype(dtype, target))
        model.llm.set_backend(choose_backend(ssd_backend, target.type))
        return cls(model.to(target), processor, str(name_or_path))

    @property
    def default_fps(self) -> float:
        """Frames a second when the caller names no rate."""
        return self.model.config.default_fps

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that the model reads."""
        return self.model.config.frame_size

    @property
    def trained_on(self) -> str:
        """What the model knows, in one line for people; empty when its makers did not say."""
        return self.model.config.trained_on

    # ---- watch ----------------------------------------------------------------------------

    def make_plan(
        self,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
    ) -> SamplingPlan:
        """A sampling plan with this model's defaults where nothing is asked."""
        if fps is None and max_frames is None:
            fps, max_frames = self.default_fps, self.model.config.default_max_frames
        return SamplingPlan(
            start=start, end=end, fps=fps, max_frames=max_frames, resolution=self.frame_size
        )

    def watch(
        self,
        source: str | Path | Iterable[FrameBatch],
        *,
        plan: SamplingPlan | None = None,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
        progress: Progress | None = None,
        isolate: bool = False,
        limits: DecodeLimits | None = None,
        prefilter: "Prefilter | str | None" = None,
    ) -> VideoMemory:
        """Watch a video in one streaming pass and return the memory of it.

        `source` is a file, or a stream of `FrameBatch` with an attribute `planned_seconds` (see
        `timevlm.video.frames.TensorFrames`). `plan` overrides fps, start, end and max_frames.
        `progress(done, planned)` is called after every batch. With a `prefilter` (a name, or what
        `load_prefilter` returned) all frames that the plan would take without a cap are decoded and
        scored, and `max_frames` of them (256 if nothing is said) are watched, most of them where
        something happens. Raises `VideoError` or `PlanError`.
        """
        if plan is None:
            plan = self.make_plan(fps=fps, start=start, end=end, max_frames=max_frames)
        if plan.resolution is None:
            plan = replace(plan, resolution=self.frame_size)
        prefilter, plan = self._prefilter(prefilter, plan)
        if not isinstance(source, str | Path):
            return self._watch_chosen(source, plan, progress, prefilter)
        path = Path(source)
        decoded = plan if prefilter is None else prefilter.candidates(plan)
        with open_video(
            path, decoded, limits=limits, batch_size=FRAMES_PER_BATCH, isolate=isolate
        ) as reader:
            asked_end = reader.info.end_seconds
            if plan.end is not None:
                asked_end = min(asked_end, plan.end)
            memory = self._watch_chosen(reader, plan, progress, prefilter, end_seconds=asked_end)
            planned = len(reader.planned_seconds)
            missing = planned - reader.frames_decoded
            lost = [f"{missing} of {planned} frames could not be decoded"]
            warnings = [*reader.warnings] or (lost if missing else [])
            if reader.info.has_audio:
                warnings.append(AUDIO_IGNORED)
            last = float(memory.frame_seconds[-1])
            return replace(
                memory,
                video_path=str(path),
                video_sha256=file_sha256(path),
                video_end=max(last, asked_end),
                timings=replace(memory.timings, decode=reader.decode_seconds),
                warnings=tuple(warnings),
            )

    def _prefilter(
        self, prefilter: "Prefilter | str | None", plan: SamplingPlan
    ) -> "tuple[Prefilter | None, SamplingPlan]":
        """The loaded pre-filter, and the plan with the cap and rate that one needs."""
        if prefilter is None:
            return None, plan
        if isinstance(prefilter, str):
            from timevlm.prefilter import load_prefilter

            prefilter = load_prefilter(prefilter)
        return prefilter, prefilter.budgeted(plan, self.default_fps)

    def _watch_chosen(
        self,
        stream: Iterable[FrameBatch],
        plan: SamplingPlan,
        progress: Progress | None,
        prefilter: "Prefilter | None",
        end_seconds: float | None = None,
    ) -> VideoMemory:
        """Watch the stream, or what the pre-filter chooses of it."""
        if prefilter is None:
            return self._watch_stream(stream, plan, progress)
        focus = prefilter.focus(stream, plan, end_seconds=end_seconds, progress=progress)
        memory = self._watch_stream(focus, focus.plan, progress)
        spent = memory.timings.encode + focus.recognize_seconds
        return replace(memory, timings=replace(memory.timings, encode=spent))

    @torch.inference_mode()
    def _watch_stream(
        self,
        stream: Iterable[FrameBatch],
        plan: SamplingPlan,
        progress: Progress | None,
    ) -> VideoMemory:
        planned = torch.as_tensor(stream.planned_seconds, dtype=torch.float64)
        builder = MemoryBuilder(self.model, self.processor, planned)
        done = 0
        for batch in stream:
            builder.add(batch)
            done += batch.pixels.shape[0]
            if progress is not None:
                progress(done, len(planned))
        state, held_seconds, frame_seconds = builder.finish()
        step = float(frame_seconds[-1] - frame_seconds[-2]) if len(frame_seconds) > 1 else 0.0
        return VideoMemory(
            state=state,
            held_seconds=held_seconds,
            frame_seconds=frame_seconds,
            video_end=float(frame_seconds[-1]) + step,
            model_name=self.name,
            model_fingerprint=self.fingerprint,
            plan=plan.to_dict(),
            timings=Timings(
                decode=0.0,
                encode=builder.encode_seconds,
                prefill=builder.prefill_seconds,
                generate=0.0,
            ),
        )

    def remember(self, video: VideoMemory | str | Path | Iterable[FrameBatch]) -> VideoMemory:
        """The memory of `video`: itself, loaded from a saved memory, or watched now.

        Raises `MemoryFileError` for a memory of another model.
        """
        if isinstance(video, VideoMemory):
            if video.model_fingerprint != self.fingerprint:
                raise InputError(
                    f"the memory was made by model {video.model_name!r}, not by {self.name!r} as "
                    "loaded; watch the video again"
                )
            return video
        if isinstance(video, str | Path) and Path(video).suffix == MEMORY_SUFFIX:
            memory = VideoMemory.load(video, self.fingerprint, self.model.llm.config)
            return replace(memory, state=memory.state.to(self.model.device))
        return self.watch(video)

    # ---- ask ------------------------------------------------------------------------------

    @torch.inference_mode()
    def ask(
        self,
        video: VideoMemory | str | Path | Iterable[FrameBatch],
        question: str,
        *,
        choices: Sequence[str] | None = None,
        history: Sequence[tuple[str, str]] = (),
        seed: int | None = None,
        max_new_tokens: int = MAX_ANSWER_TOKENS,
    ) -> Answer:
        """Answer a question, with the seconds that the answer rests on.

        With `choices`, each is scored by likelihood and the best is returned. `history` holds
        earlier (question, answer) turns. Decoding is greedy; `seed` only matters to models whose
        kernels are random. `max_new_tokens` cuts off a free answer. Words that the model was not
        taught stand in the answer's warnings and lower its confidence. Raises `InputError` or
        `ChoiceError`.
        """
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens}; allow at least 1")
        check_question(question)  # before a video is watched for it
        texts = None if choices is None else check_choices(choices)
        if seed is not None:
            set_seed(seed)
        memory = self.remember(video)
        started = time.perf_counter()
        prompt_ids, prompt = self.read_question(memory, question, choices or (), history)
        trust = question_trust(len(self.unknown_words(question)))
        if texts is None:
            choice = None
            answer, confidence = self._write(prompt_ids, prompt, max_new_tokens)
            confidence *= trust
        else:
            choice, confidence = self._choose(memory, prompt, texts, trust)
            answer = texts[choice]
        return Answer(
            question=question,
            text=answer,
            choice=choice,
            choices=tuple(choices or ()),
            confidence=confidence,
            evidence=self._evidence(memory, prompt),
            timings=replace(memory.timings, generate=time.perf_counter() - started),
            plan=memory.plan,
            warnings=(*memory.warnings, *self.unknown_words_warnings(question)),
            video=memory.video_path,
            model=self.name,
        )

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of a question or query that the model has no token for, in any spelling."""
        return self.processor.unknown_words(self.processor.familiar(mark_times(text, [0.0])))

    def unknown_words_warnings(self, text: str) -> tuple[str, ...]:
        """The warning that `unknown_words` are worth, none without them."""
        unknown = ", ".join(self.unknown_words(text))
        return (f"{self.name} was not taught the words: {unknown}",) if unknown else ()

    @torch.inference_mode()
    def read_question(
        self,
        memory: VideoMemory,
        question: str,
        choices: Sequence[str] = (),
        history: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[int], TimeVLMOutput]:
        """A question as token ids, and what the model makes of it before it answers.

        Raises `InputError` or `ChoiceError`.
        """
        style, familiar = self.model.config.choice_style, self.processor.familiar
        text = question_prompt(familiar(question), [*map(familiar, choices)], style=style)
        text = mark_times(text, memory.frame_seconds.tolist())
        earlier = [(familiar(asked), answer) for asked, answer in history]
        prompt_ids = self.processor.prompt_ids(text, earlier)
        return prompt_ids, read_prompt(self.model, memory.state, prompt_ids)

    @torch.inference_mode()
    def score(
        self,
        video: VideoMemory | str | Path | Iterable[FrameBatch],
        question: str,
        answers: Sequence[str],
    ) -> list[AnswerScore]:
        """How likely each of `answers` is as the answer to an open question, in their order.

        Models whose `choice_style` is "text" compare the choices of `ask` by these numbers, unless
        the question speaks of "these": then `ask` lets the model read them.
        Raises `InputError` for a blank question or answer.
        """
        if isinstance(answers, str):
            raise InputError(f"answers must be a list of texts, got one text {answers!r}")
        check_question(question)  # before a video is watched for it
        texts = [scored_text(answer, style=self.model.config.choice_style) for answer in answers]
        memory = self.remember(video)
        frames = memory.frame_seconds.tolist()
        _, prompt = self.read_question(memory, question)
        candidates = [self.processor.answer_ids(mark_times(text, frames, "from")) for text in texts]
        scores = score_candidates(self.model, prompt, candidates)
        return [AnswerScore(log_probability=s, is_greedy=greedy) for s, greedy in scores]

    def _write(
        self, prompt_ids: Sequence[int], prompt: TimeVLMOutput, max_new_tokens: int
    ) -> tuple[str, float]:
        """A free answer and its confidence."""
        ids, log_probabilities = generate_answer(
            self.model,
            prompt_ids,
            prompt,
            end_token_id=self.processor.end_token_id,
            pad_token_id=self.processor.pad_token_id,
            max_new_tokens=max_new_tokens,
        )
        text = unmark_times(self.processor.decode(ids)).strip()
        return text, mean_probability(log_probabilities)

    def _choose(
        self, memory: VideoMemory, prompt: TimeVLMOutput, choices: Sequence[str], trust: float
    ) -> tuple[int, float]:
        """Index of the likeliest choice and its probability among the choices."""
        config, frames = self.model.config, memory.frame_seconds.tolist()
        scores = choice_log_likelihoods(self.model, self.processor, prompt, choices, frames)
        texts = candidate_texts(choices, style=config.choice_style)
        num_unknown = sum(bool(self.processor.unknown_words(text)) for text in texts)
        best, confidences = ranked_confidences(
            scores, config.choice_temperature, num_unknown=num_unknown, trust=trust
        )
        return best, confidences[best]

    def _evidence(self, memory: VideoMemory, prompt: TimeVLMOutput) -> tuple[Span, ...]:
        """Spans that the question's ranking chose; none for a model that does not rank."""
        ranking = prompt.state.ranking
        if ranking is None:
            return ()
        return evidence_spans(
            ranking[0].cpu(), memory.held_seconds, memory.frame_seconds, memory.end_seconds
        )

    # ---- ground and caption ---------------------------------------------------------------

    @torch.inference_mode()
    def ground(
        self,
        video: VideoMemory | str | Path | Iterable[FrameBatch],
        query: str,
        *,
        num_beams: int = NUM_BEAMS,
    ) -> list[Span]:
        """When `query` happens: spans in time order, inside the video, with scores.

        Of the `num_beams` likeliest answers, under a grammar whose times are those of the watched
        frames, the one that agrees best with the others (`most_agreed`); 1 writes greedily, and
        can then not tell how sure it is. A span's score is the chance that it is right, less for
        words that are not known. A span reaches from its first frame to the end of its last one,
        that of a single frame half the way to the nearer one beside it. There is at least one span,
        unless the model was taught to miss things (`grounds_absence`) and would rather say that the
        query is not in the video than anything else. Raises `InputError`.
        """
        check_beams(num_beams)
        text = grounding_prompt(self.processor.familiar(query))
        memory = self.remember(video)
        frames = memory.frame_seconds.tolist()
        prompt_ids = self.processor.prompt_ids(mark_times(text, frames))
        prompt = read_prompt(self.model, memory.state, prompt_ids)
        if self.model.config.grounds_absence and self._says_absent(prompt):
            return []
        grammar = self.processor.span_grammar(frames, max_spans=MAX_SPANS)
        found = likely_answers(self.model, prompt, grammar, num_beams)
        told = [self._told_spans(ids, memory) for ids, _ in found]
        answers = zip(told, choice_confidences([value for _, value in found]), strict=True)
        trust = question_trust(len(self.unknown_words(query)))
        return [Span(start=s, end=e, score=p * trust) for s, e, p in most_agreed(list(answers))]

    def _told_spans(self, ids: Sequence[int], memory: VideoMemory) -> list[tuple[float, float]]:
        """The seconds that an answer tells, spans that touch made one."""
        told = parse_spans(self.processor.decode(ids))
        return merge_spans(memory.told_interval(start, end) for start, end in told)

    def _says_absent(self, prompt: TimeVLMOutput) -> bool:
        """Whether "not in the video" has more probability than all other answers together."""
        absent = self.processor.answer_ids(NOT_IN_VIDEO)
        ((log_probability, _),) = score_candidates(self.model, prompt, [absent])
        return math.exp(log_probability) > 0.5

    @torch.inference_mode()
    def caption(
        self,
        video: VideoMemory | str | Path | Iterable[FrameBatch],
        *,
        num_beams: int = NUM_BEAMS,
    ) -> list[Caption]:
        """Dense captions in time order, each with the interval that it describes, none twice.

        Of the `num_beams` likeliest after those before it, each is the one that agrees best with
        the others (`most_agreed_caption`); 1 writes greedily, and can then not tell how sure it is.
        A score is the share of its items that is expected to be right. Raises `InputError`.
        """
        check_beams(num_beams)
        memory = self.remember(video)

        def choose(found: Sequence[tuple[list[int], float]]) -> tuple[int, tuple]:
            told = [parse_captions(self.processor.decode(ids).rstrip())[0] for ids, _ in found]
            shares = choice_confidences([value for _, value in found])
            likely = [
                LikelyCaption(memory.told_interval(s, e), listed_items(text), share)
                for (s, e, text), share in zip(told, shares, strict=True)
            ]
            best, score = most_agreed_caption(likely)
            return best, (told[best], score)

        lines = write_lines(
            self.model,
            read_prompt(self.model, memory.state, self.processor.prompt_ids(CAPTION_PROMPT)),
            self.processor.caption_grammar(memory.frame_seconds.tolist()),
            choose,
            num_beams=num_beams,
            max_tokens=MAX_CAPTION_TOKENS,
        )
        # Lines that say the same are one from the first of them on, and no two begin together.
        score_from = {start: score for (start, _, _), score in lines}
        captions = []
        for start, end, text in merge_repeats([told for told, _ in lines]):
            first, last = memory.told_interval(start, end)
            captions.append(Caption(start=first, end=last, text=text, score=score_from[start]))
        return captions

    def chat(self, video: VideoMemory | str | Path | Iterable[FrameBatch]) -> ChatSession:
        """A conversation about one video."""
        return ChatSession(self, self.remember(video))


__all__ = ["ChatSession", "TimeVLM"]
