"""ToyWorld-QA: a folder of rendered videos with everything that can be asked about them.

`annotations.json` holds questions, sentences to ground, captions and a summary of every video;
beside it the same facts lie in the file layouts of Video-MME, Charades-STA, ActivityNet Captions
and VDC (`timevlm.synth.layouts`). Videos are made from their seeds, so a folder can be made again
anywhere, and an interrupted run goes on where it stopped.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timevlm.errors import InputError
from timevlm.synth.captions import make_captions
from timevlm.synth.export import write_video
from timevlm.synth.files import write_text
from timevlm.synth.full.captions import make_summary
from timevlm.synth.grounding import make_grounding
from timevlm.synth.layouts import check_parquet, write_layouts
from timevlm.synth.questions import make_questions
from timevlm.synth.spec import VideoSpec
from timevlm.synth.world import check_source, sample_video

BENCHMARK_VERSION = "ToyWorld-QA v1"
ANNOTATIONS = "annotations.json"
SETTINGS = "benchmark.json"

_PER_FAMILY = 2
_NUM_QUERIES = 6


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is rendered, and how; `seed` is that of the first video."""

    split: str = "test"
    num_videos: int = 200
    level: str = "full"
    size: int = 384  # side of the square picture in pixels
    fps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        check_source(self.seed, self.split, self.level)
        if self.num_videos < 1:
            raise InputError(f"--n {self.num_videos}: a benchmark has at least one video")
        if self.size < 16 or self.size % 2:
            raise InputError(f"--size {self.size}: use an even number of pixels from 16 on")
        if self.fps < 1:
            raise InputError(f"--fps {self.fps}: use a rate of at least 1 frame a second")


def write_benchmark(
    folder: str | Path,
    config: BenchmarkConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write videos and annotations into a folder; the content of `annotations.json`.

    Videos that are there already are kept, so a run can be interrupted and repeated, and a folder
    can be extended. Every file is written beside its place and moved there when complete.
    `progress` is told (videos done, videos in all).

    Raises:
        InputError: the folder holds a benchmark of other settings, or pyarrow is missing.
    """
    check_parquet()
    folder = Path(folder)
    _claim(folder, config)
    entries = []
    for number in range(config.num_videos):
        if progress is not None:
            progress(number, config.num_videos)
        spec = sample_video(config.seed + number, split=config.split, level=config.level)
        name = f"{number:03d}"
        path = folder / "videos" / f"{name}.mp4"
        if not path.is_file():
            write_video(spec, path, fps=config.fps, size=(config.size, config.size))
        entries.append((spec, annotate(spec, name)))
    annotations = {
        "version": BENCHMARK_VERSION,
        "split": config.split,
        "level": config.level,
        "videos": [entry for _, entry in entries],
    }
    write_layouts(folder, entries)
    write_text(folder / ANNOTATIONS, json.dumps(annotations, indent=1) + "\n")
    if progress is not None:
        progress(config.num_videos, config.num_videos)
    return annotations


def annotate(spec: VideoSpec, name: str) -> dict[str, Any]:
    """Everything that is asked and told about one video, as JSON values."""
    questions = make_questions(spec, spec.seed, per_family=_PER_FAMILY)
    queries = make_grounding(spec, spec.seed, limit=_NUM_QUERIES)
    return {
        "video": f"videos/{name}.mp4",
        "duration": spec.duration_seconds,
        "questions": [
            {
                "id": f"{name}-q{number}",
                "family": question.family,
                "kind": question.kind,
                "question": question.text,
                "options": list(question.choices),
                "answer": question.choices.index(question.answer),
                "evidence": [list(span) for span in question.answer_spans],
            }
            for number, question in enumerate(questions, start=1)
        ],
        "grounding": [
            {
                "id": f"{name}-g{number}",
                "family": query.kind,
                "query": query.text,
                "spans": [list(span) for span in query.spans],
            }
            for number, query in enumerate(queries, start=1)
        ],
        "captions": [
            {"start": start, "end": end, "text": text} for start, end, text in make_captions(spec)
        ],
        "summary": make_summary(spec),
    }


def _claim(folder: Path, config: BenchmarkConfig) -> None:
    """Note the settings in a new folder; refuse one that holds videos of other settings."""
    settings = {"version": BENCHMARK_VERSION, **asdict(config)}
    del settings["num_videos"]
    path = folder / SETTINGS
    if not path.exists():
        if (folder / "videos").exists():
            raise InputError(
                f"{folder} holds videos but no {SETTINGS}; give an empty folder with --out"
            )
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give an empty folder") from None
    changed = [k for k in settings if not isinstance(found, dict) or found.get(k) != settings[k]]
    if changed:
        name = changed[0]
        was = found.get(name) if isinstance(found, dict) else None
        raise InputError(
            f"{folder} was made with {name} {was!r}, not {settings[name]!r}; "
            "repeat its settings or give another folder with --out"
        )
