"""One process at work: claim a video, decode the next one ahead, ask all its questions, write rows.

Nothing that goes wrong with one video or question ends the run: it becomes a row with an error,
which counts as wrong and is tried again when the run is resumed.
"""

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, time_scale
from eval.models.base import Session, VideoModel, VideoRequest
from eval.progress import Progress
from eval.records import SCHEMA_VERSION, Prompt, Reply, Sample, scoring_row
from eval.settings import Config
from eval.shards import Shard
from eval.store import Claim, RowReader, RowWriter
from timevlm import ModelError, TimeVLMError, VideoError
from timevlm.video import DecodeLimits

# What a bad file, a bad question or a full GPU raises. Anything else is a defect of a program and
# ends the run, which can be resumed.
SAMPLE_ERRORS = (TimeVLMError, OSError, ValueError, RuntimeError, MemoryError, LookupError)
MAX_FAILURES_IN_A_ROW = 20
VIDEOS_AHEAD = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process needs to know about the run it works on."""

    folder: Path
    config: Config
    benchmark: Benchmark
    samples: Sequence[Sample]

    @property
    def data(self) -> Path:
        """Folder of the benchmark's files."""
        return Path(self.config.settings.data)


@dataclass(frozen=True, slots=True)
class Video:
    """The questions that share one session: same video, same clip."""

    path: str
    clip: tuple[float, float] | None
    samples: tuple[Sample, ...]

    @property
    def key(self) -> str:
        """What a claim is made on."""
        return f"{self.path}\n{self.clip}"


@dataclass(kw_only=True)
class Times:
    """Where a process spent its wall time, in seconds."""

    decode_wait: float = 0.0
    """Waiting for the video that comes next."""
    model: float = 0.0
    """Watching (with the decoding that overlaps it) and answering."""
    total: float = 0.0

    @property
    def harness(self) -> float:
        """Everything else: claims, prompts, grading, rows, progress."""
        return self.total - self.decode_wait - self.model


def group_videos(samples: Sequence[Sample]) -> list[Video]:
    """The samples by (video, clip), in order of first appearance."""
    groups: dict[tuple[str, tuple[float, float] | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.video, sample.clip), []).append(sample)
    return [Video(path, clip, tuple(group)) for (path, clip), group in groups.items()]


def videos_in_order(videos: Sequence[Video], shard: Shard) -> list[Video]:
    """What a process works on: its own shard, then, if it helps, what other shards have left."""
    own = [video for video in videos if shard.owns(video.path)]
    if not shard.helps:
        return own
    # From the end, where the owners have not been yet.
    return own + [video for video in reversed(videos) if not shard.owns(video.path)]


class _Ahead:
    """A video that is being decoded in the background."""

    def __init__(self, model: VideoModel, request: VideoRequest, *, in_thread: bool) -> None:
        self._model = model
        self._request = request
        self._decoded: Any = None
        self._error: BaseException | None = RuntimeError("the decoding thread ended unexpectedly")
        # A daemon: an interrupted run does not wait for a file that hangs.
        self._thread = threading.Thread(target=self._run, name="eval-decode", daemon=True)
        self._in_thread = in_thread
        if in_thread:
            self._thread.start()

    def _run(self) -> None:
        try:
            self._decoded = self._model.decode(self._request)
            self._error = None
        except SAMPLE_ERRORS as error:
            self._error = error

    def result(self) -> Any:
        """What `VideoModel.decode` returned, or its error."""
        if self._in_thread:
            self._thread.join()
        else:
            self._run()
        if self._error is not None:
            raise self._error
        return self._decoded


@dataclass
class Worker:
    """A process's share of a run. `run` does it once."""

    job: Job
    model: VideoModel
    shard: Shard
    writer: RowWriter
    progress: Progress = field(default_factory=Progress)
    times: Times = field(default_factory=Times)

    def __post_init__(self) -> None:
        self._reader = RowReader(self.job.folder)
        self._failures_in_a_row = 0
        self._run_started = time.time()
        self._shared = self._shared_columns()

    def run(self) -> Times:
        """Answer everything that is left of this share.

        Raises ModelError when nothing works any more, so that a dead endpoint does not turn a
        whole benchmark into errors.
        """
        started = time.perf_counter()
        self._reader.refresh()
        todo = videos_in_order(group_videos(self.job.samples), self.shard)
        mine = {sample.id for video in todo for sample in video.samples}
        self.progress.start(len(mine), sum(map(self._is_finished, mine)))
        in_thread = self.model.decodes_ahead
        waiting: deque[tuple[Video, list[Sample], Claim, _Ahead]] = deque()
        videos = self._claimed(todo)
        try:
            while True:
                while len(waiting) <= (VIDEOS_AHEAD if in_thread else 0):
                    claimed = next(videos, None)
                    if claimed is None:
                        break
                    ahead = _Ahead(self.model, self._request(claimed[0]), in_thread=in_thread)
                    waiting.append((*claimed, ahead))
                if not waiting:
                    break
                video, samples, claim, ahead = waiting.popleft()
                try:
                    self._answer_video(video, samples, ahead)
                finally:
                    claim.release()
        finally:
            for *_, claim, _ahead in waiting:
                claim.release()
        self.times.total = time.perf_counter() - started
        return self.times

    def _claimed(self, todo: Sequence[Video]) -> Iterator[tuple[Video, list[Sample], Claim]]:
        """Videos that are ours now, with what is left to ask. Those that others hold come last."""
        busy: list[Video] = []
        for attempt, videos in enumerate((todo, busy)):
            for video in videos:
                if not self._left(video):
                    continue
                claim = Claim(self.job.folder, video.key)
                if not claim.acquire():
                    if attempt == 0:
                        busy.append(video)
                    continue
                # Others may have answered it between our last look and the claim.
                self._reader.refresh()
                samples = self._left(video)
                if samples:
                    yield video, samples, claim
                else:
                    claim.release()

    def _left(self, video: Video) -> list[Sample]:
        return [sample for sample in video.samples if not self._is_finished(sample.id)]

    def _is_finished(self, sample_id: str) -> bool:
        """Whether it was answered, or failed in this very run: one try each."""
        row = self._reader.rows.get(sample_id)
        return row is not None and (row["error"] is None or row["ts"] >= self._run_started)

    def _request(self, video: Video) -> VideoRequest:
        config = self.job.config
        return VideoRequest(
            path=self.job.data / video.path,
            sampling=config.sampling,
            clip=video.clip,
            limits=DecodeLimits(wall_seconds=config.settings.decode_wall_seconds),
            # Not only those that are left: a resumed run looks at the same frames.
            questions=tuple(sample.question for sample in video.samples),
        )

    def _answer_video(self, video: Video, samples: Sequence[Sample], ahead: _Ahead) -> None:
        started = time.perf_counter()
        try:
            decoded = ahead.result()
            self.times.decode_wait += time.perf_counter() - started
            started = time.perf_counter()
            session = self.model.watch(decoded)
            self.times.model += time.perf_counter() - started
        except SAMPLE_ERRORS as error:
            self.times.decode_wait += time.perf_counter() - started
            for sample in samples:
                self._write_failure(sample, error, "")
            return
        with session:
            for sample in samples:
                self._answer(sample, session)

    def _answer(self, sample: Sample, session: Session) -> None:
        prompt_sha256 = ""
        started = time.perf_counter()
        try:
            prompt = session.shown(sample, self._prompt(sample, session))
            prompt_sha256 = hash_prompt(prompt)
            started = time.perf_counter()
            reply = session.answer(sample, prompt)
            self.times.model += time.perf_counter() - started
            row = self._row(sample, reply, prompt_sha256)
            if session.duration_seconds > 0:
                row["details"]["duration_seconds"] = session.duration_seconds
            settings = self.job.config.settings
            read = scoring_row(sample, row, span_unit=settings.span_unit)
            grade = self.job.benchmark.grade_reply(
                sample, reply, rules=settings.extract, scale=time_scale(read)
            )
        except SAMPLE_ERRORS as error:
            self.times.model += time.perf_counter() - started
            self._write_failure(sample, error, prompt_sha256)
            return
        self._failures_in_a_row = 0
        row |= grade.row_values()
        self._write(row)

    def _prompt(self, sample: Sample, session: Session) -> Prompt:
        benchmark, settings = self.job.benchmark, self.job.config.settings
        if settings.prompt_index is not None:
            return benchmark.wordings(sample)[settings.prompt_index]
        return benchmark.prompt(
            sample,
            num_frames=len(session.frame_seconds),
            duration_seconds=session.duration_seconds,
            style=settings.prompt_style,
            # Without frame times a benchmark shows all cues.
            frame_seconds=() if settings.subtitles == "all" else session.frame_seconds,
            cues=benchmark.cues(sample, self.job.data),
        )

    def _write_failure(self, sample: Sample, error: BaseException, prompt_sha256: str) -> None:
        text = " ".join(str(error).split()) or type(error).__name__
        kind = "" if isinstance(error, TimeVLMError) else f"{type(error).__name__}: "
        row = self._row(sample, Reply(raw=""), prompt_sha256)
        row |= {"parsed": None, "parse_rule": "error", "error": f"{kind}{text}"[:1000]}
        row["score"] = None if sample.gold is None else 0.0
        self._write(row)
        if isinstance(error, VideoError):
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise ModelError(
                f"{MAX_FAILURES_IN_A_ROW} samples in a row failed, the last with: {row['error']}; "
                "set it right and run the same command again, nothing is lost"
            ) from error

    def _write(self, row: dict[str, Any]) -> None:
        self.writer.append(row)
        self.progress.row(row)

    def _shared_columns(self) -> dict[str, Any]:
        config = self.job.config
        return {
            "sampling": str(config.sampling),
            "gen_kwargs": config.gen_kwargs,
            "model_id": config.model_id,
            "model_sha": config.model_sha,
            "data_revision": config.data_revision,
            "schema_version": SCHEMA_VERSION,
        }

    def _row(self, sample: Sample, reply: Reply, prompt_sha256: str) -> dict[str, Any]:
        times = None
        if reply.num_frames:
            first, last = reply.first_frame_seconds, reply.last_frame_seconds
            times = {"first": first, "last": last, "n": reply.num_frames}
        return {
            **self._shared,
            "id": sample.id,
            "bench": sample.bench,
            "raw": reply.raw,
            "gold": sample.gold,
            "n_frames": reply.num_frames,
            "frame_times": times,
            "prompt_sha256": prompt_sha256,
            "seconds_decode": reply.seconds_decode,
            "seconds_gen": reply.seconds_encode + reply.seconds_prefill + reply.seconds_generate,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "error": None,
            "ts": time.time(),
            "details": _details(reply, self.shard),
        }


def hash_prompt(prompt: Prompt) -> str:
    """SHA-256 of everything that a prompt shows."""
    parts = [prompt.system, prompt.text, prompt.answer_prefix]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _details(reply: Reply, shard: Shard) -> dict[str, Any]:
    details: dict[str, Any] = {
        "seconds": {
            "decode": reply.seconds_decode,
            "encode": reply.seconds_encode,
            "prefill": reply.seconds_prefill,
            "generate": reply.seconds_generate,
        },
        "shard": str(shard),
        **reply.details,
    }
    if reply.confidence is not None:
        details["confidence"] = reply.confidence
    if reply.evidence:
        details["evidence"] = [list(span) for span in reply.evidence]
    if reply.warnings:
        details["warnings"] = list(reply.warnings)
    return details
