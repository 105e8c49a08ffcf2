"""Does a pre-filter answer more for the same number of frames? Mostly empty hours, few events.

    python scripts/bench_prefilter.py --videos 20 --out runs/bench_prefilter.json
    python scripts/bench_prefilter.py --videos 2 --seconds 300 --events 2 --budgets 16

Every video is a procedural hour at one frame a second, in which six events of 3 to 10 s happen. The
same model watches 64, 128 and 256 frames of it: evenly spread, chosen by each recognizer, by
novelty alone, and by the true times ("oracle": what a perfect recognizer would give). All see the
same questions and sentences to ground; none is told the question beforehand.

"events seen" is the share of events of which at least two frames were watched. The cost is measured
on an H.264 file of the same kind of video, decoded at the same rate to the model's picture size:
seconds of scoring as a share of seconds of decoding. About a minute a video on two free cores. The
last line printed is JSON.
"""

import argparse
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from _bench import cores, finish, print_table, show_verdicts, verdict

from timevlm import TimeVLM
from timevlm.memory import VideoMemory
from timevlm.prefilter.detector import DetectorState
from timevlm.prefilter.focus import FrameStore, Prefilter, load_prefilter
from timevlm.prefilter.names import FAMILIES, NOVELTY
from timevlm.synth.export import write_video
from timevlm.synth.render import render_frames
from timevlm.synth.sparse import (
    event_spans,
    make_sparse_grounding,
    make_sparse_questions,
    sample_sparse_video,
)
from timevlm.synth.spec import VideoSpec
from timevlm.training.evaluate_scores import interval_iou, summarize
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan
from timevlm.video.tensor_frames import TensorFrames

UNIFORM, ORACLE = "uniform", "oracle"
ACCURACY, MIOU, SEEN = "accuracy", "grounding mIoU", "events seen"
_MARGIN_SECONDS = 2.0
_RENDER_FRAMES = 240


class Scores:
    """Numbers with the videos that they are of."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.videos: list[int] = []

    def add(self, video: int, value: float) -> None:
        """One more number, of a video."""
        self.values.append(value)
        self.videos.append(video)

    def summary(self) -> dict[str, float]:
        """Mean with its 95 % bootstrap interval over videos, and the count."""
        return summarize(self.values, self.videos)


Table = dict[tuple[str, int], dict[str, Scores]]


def main() -> None:
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    vlm = TimeVLM.from_pretrained(options.model)
    prefilters = {name: load_prefilter(name) for name in options.prefilter}
    table: Table = defaultdict(lambda: defaultdict(Scores))
    for seed in range(options.videos):
        started = time.perf_counter()
        spec = sample_sparse_video(seed, options.seconds, num_events=options.events)
        frames = rendered(spec, vlm.frame_size)
        for method, budget, plan in plans(spec, frames, prefilters, options.budgets):
            score(vlm, spec, frames, plan, table[method, budget])
        print(f"video {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    costs = measure_cost(vlm, prefilters, options)
    report = summarise(table, costs, options, vlm)
    finish(report, show(report, options), options.out)


def rendered(spec: VideoSpec, size: tuple[int, int]) -> TensorFrames:
    """The whole video at one frame a second: uint8, 100 MB an hour at 96 x 96."""
    seconds = torch.arange(int(spec.duration_seconds), dtype=torch.float64)
    blocks = [render_frames([(spec, part)], size) for part in seconds.split(_RENDER_FRAMES)]
    return TensorFrames(torch.cat(blocks), seconds)


def plans(
    spec: VideoSpec,
    frames: TensorFrames,
    prefilters: dict[str, Prefilter],
    budgets: Sequence[int],
) -> Iterator[tuple[str, int, SamplingPlan]]:
    """(method, budget, plan); a recognizer scores the video once for all budgets."""
    truth = tuple(
        (max(0.0, s - _MARGIN_SECONDS), min(spec.duration_seconds, e + _MARGIN_SECONDS), 1.0)
        for s, e in event_spans(spec)
    )
    for budget in budgets:
        yield UNIFORM, budget, SamplingPlan(max_frames=budget)
        yield ORACLE, budget, SamplingPlan(max_frames=budget, focus=truth)
    for name, prefilter in prefilters.items():
        scores, _ = prefilter.scan(frames, FrameStore(1))
        segments = prefilter.segments(scores, end_seconds=spec.duration_seconds)
        for budget in budgets:
            plan = SamplingPlan(max_frames=budget)
            yield name, budget, prefilter.focused_plan(plan, scores, segments)


def score(
    vlm: TimeVLM,
    spec: VideoSpec,
    frames: TensorFrames,
    plan: SamplingPlan,
    scores: dict[str, Scores],
) -> None:
    """Watch the plan's frames, ask every question, ground every sentence."""
    times = frames.planned_seconds.numpy()
    chosen = torch.from_numpy(plan.select(times, end_seconds=spec.duration_seconds))
    memory = vlm.watch(TensorFrames(frames.pixels[chosen], frames.planned_seconds[chosen]))
    memory = replace(memory, video_end=spec.duration_seconds)
    for question in make_sparse_questions(spec, spec.seed):
        answer = vlm.ask(memory, question.text, choices=question.choices)
        right = float(answer.choice == question.choices.index(question.answer))
        scores[ACCURACY].add(spec.seed, right)
        scores[question.kind].add(spec.seed, right)
    _score_grounding(vlm, spec, memory, scores)
    watched = times[chosen.numpy()]
    for start, end in event_spans(spec):
        inside = int(((watched >= start) & (watched < end)).sum())
        scores[SEEN].add(spec.seed, float(inside >= 2))


def _score_grounding(
    vlm: TimeVLM, spec: VideoSpec, memory: VideoMemory, scores: dict[str, Scores]
) -> None:
    for query in make_sparse_grounding(spec, spec.seed):
        found = [(span.start, span.end) for span in vlm.ground(memory, query.text)]
        scores[MIOU].add(spec.seed, interval_iou(found, query.spans))


def measure_cost(
    vlm: TimeVLM, prefilters: dict[str, Prefilter], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Seconds of decoding a file and of scoring its frames, the better of `repeats` runs each."""
    if not options.file_seconds:
        return {}
    spec = sample_sparse_video(0, options.file_seconds, num_events=1)
    plan = SamplingPlan(fps=1.0, resolution=vlm.frame_size)
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "video.mp4"
        if options.file is None:
            write_video(spec, path, size=(options.file_side, options.file_side))
        decode, batches = [], []
        for _ in range(options.repeats):
            with open_video(path, plan) as reader:
                batches = list(reader)
                decode.append(reader.decode_seconds)
    costs = {"decode": {"seconds": min(decode), "frames": sum(len(b) for b in batches)}}
    for name, prefilter in prefilters.items():
        runs = []
        for _ in range(options.repeats):
            state, started = DetectorState(), time.perf_counter()
            for batch in batches:
                _, state = prefilter.detector.step(batch.pixels, batch.seconds.numpy(), state)
            runs.append(time.perf_counter() - started)
        costs[name] = {"seconds": min(runs), "share_of_decode": min(runs) / min(decode)}
    return costs


def summarise(
    table: Table, costs: dict[str, dict[str, float]], options: argparse.Namespace, vlm: TimeVLM
) -> dict[str, object]:
    """Means with 95 % bootstrap intervals over videos, the gains, and what was asked for."""
    results = {
        f"{method}@{budget}": {key: scores.summary() for key, scores in by_key.items()}
        for (method, budget), by_key in table.items()
    }
    smallest = min(options.budgets)
    base = table[UNIFORM, smallest][ACCURACY].summary()["mean"]
    verdicts = []
    for name in options.prefilter:
        gain = 100 * (table[name, smallest][ACCURACY].summary()["mean"] - base)
        verdicts.append(verdict(f"{name}: points gained at {smallest}", gain, 15, at_most=False))
        share = costs.get(name, {}).get("share_of_decode")
        verdicts.append(verdict(f"{name}: cost as a share of decode", share, 0.2))
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "file")}
    machine = {"cores": cores(), "processor": platform.machine(), "torch": torch.__version__}
    return {
        "bench": "prefilter",
        "settings": settings | {"model": vlm.name, "fingerprint": vlm.fingerprint},
        "machine": machine,
        "results": results,
        "costs": costs,
        "verdicts": verdicts,
    }


def show(report: dict[str, object], options: argparse.Namespace) -> list[str]:
    results, costs = report["results"], report["costs"]
    rows = []
    for budget in options.budgets:
        for method in (UNIFORM, *options.prefilter, ORACLE):
            found = results[f"{method}@{budget}"]
            accuracy = found[ACCURACY]
            share = costs.get(method, {}).get("share_of_decode")
            rows.append(
                (
                    method,
                    budget,
                    f"{100 * accuracy['mean']:.1f}",
                    f"{100 * accuracy['low']:.1f}-{100 * accuracy['high']:.1f}",
                    f"{100 * found[MIOU]['mean']:.1f}",
                    f"{100 * found[SEEN]['mean']:.0f}",
                    "-" if share is None else f"{100 * share:.1f} %",
                )
            )
    title = f"{options.videos} videos of {options.seconds} s, {options.events} events each"
    columns = ("method", "frames", ACCURACY, "95 %", MIOU, SEEN, "cost / decode")
    return [print_table(title, columns, rows), show_verdicts(report["verdicts"])]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=3600, help="of each video")
    parser.add_argument("--events", type=int, default=6, help="in each video")
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--prefilter", nargs="+", default=[*FAMILIES, NOVELTY], metavar="NAME")
    parser.add_argument("--file-seconds", type=int, default=120, help="cost; 0: not measured")
    parser.add_argument("--file-side", type=int, default=384, help="pixels of that file")
    parser.add_argument("--file", type=Path, help="measure the cost on this file instead")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as cores")
    parser.add_argument("--out", type=Path, help="write the report there as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
