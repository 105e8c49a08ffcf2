"""A miniature ToyWorld-QA folder and light models, for tests of the runner."""

import json
import time
from pathlib import Path
from typing import Any

from eval.models.base import Session, VideoModel, VideoRequest, digest
from eval.models.baselines import ConstantModel
from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from eval.settings import RunSettings

OPTIONS = ["red", "green", "blue", "yellow"]


def make_toyworld(folder: Path, *, num_videos: int = 4, num_questions: int = 3) -> Path:
    """Annotations of videos that do not exist: enough for models that open none."""
    videos = []
    for v in range(num_videos):
        stem = f"{v:03}"
        questions = [
            {
                "id": f"{stem}-q{q}",
                "family": "colour",
                "question": f"Which colour comes at {q} in {v}?",
                "options": OPTIONS,
                "answer": (v + q) % len(OPTIONS),
            }
            for q in range(num_questions)
        ]
        query = {"id": f"{stem}-g0", "family": "moment", "query": "it spins", "spans": [[1.0, 3.0]]}
        videos.append(
            {
                "video": f"videos/{stem}.mp4",
                "duration": 4.0,
                "questions": questions,
                "grounding": [query],
                "captions": [{"start": 0.0, "end": 4.0, "text": "a red ball rests"}],
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": "ToyWorld-QA v1", "split": "test", "videos": videos}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def settings(data: Path, **changes: Any) -> RunSettings:
    """A run of the questions with options."""
    return RunSettings(**{"bench": "toyworld", "data": str(data), "split": "choice", **changes})


class SlowModel(ConstantModel):
    """The constant baseline with a pause before every answer and every video, and a log of calls.

    `log` gets the id of a sample when its answering begins.
    """

    decodes_ahead = True

    def __init__(self, seconds: float, log: Path | None = None) -> None:
        super().__init__("B")
        self.seconds = seconds
        self.log = log

    def watch(self, decoded: VideoRequest) -> Session:
        time.sleep(self.seconds)
        session = super().watch(decoded)
        answer = session.answer

        def slowly(sample: Sample, prompt: Prompt) -> Reply:
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{sample.id}\n")
            time.sleep(self.seconds)
            return answer(sample, prompt)

        session.answer = slowly
        return session


class TalkingModel(VideoModel):
    """Says what `words` has for a question; a ready exception is raised instead."""

    name = "talker"

    def __init__(self, words: Any) -> None:
        self.words = words
        self.fingerprint = digest({"talker": 1})
        self.gen_kwargs = {"talks": True}
        self.default_sampling = Sampling(mode="uniform_mid", frames=2)
        self.opened: list[str] = []

    def decode(self, request: VideoRequest) -> VideoRequest:
        return request

    def watch(self, decoded: VideoRequest) -> Session:
        self.opened.append(decoded.path.name)
        return _Talk(self.words)


class _Talk(Session):
    frame_seconds = (0.5, 1.5)
    duration_seconds = 2.0

    def __init__(self, words: Any) -> None:
        self._words = words

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        words = self._words(sample) if callable(self._words) else self._words
        if isinstance(words, BaseException):
            raise words
        return Reply(raw=words, seconds_generate=0.25, num_frames=2, tokens_in=7, tokens_out=1)
