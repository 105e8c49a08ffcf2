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

With `--out` every video is kept when it is scored: a run that was cut off goes on with the same
command, and more `--videos` add to those that are there.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _bench import Parts, cores, table, verdict, verdict_list

from timevlm import TimeVLM
from timevlm.agreement import interval_iou
from timevlm.errors import TimeVLMError
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
from timevlm.training.evaluate_scores import summarize
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan
from timevlm.video.tensor_frames import TensorFrames

UNIFORM, ORACLE = "uniform", "oracle"
ACCURACY, MIOU, SEEN = "accuracy", "grounding mIoU", "events seen"
_MARGIN_SECONDS = 2.0
_RENDER_FRAMES = 240


VideoScores = dict[str, dict[str, list[float]]]  # by "method@budget", then by what is scored


def main() -> None:
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    vlm = TimeVLM.from_pretrained(options.model)
    prefilters = {name: load_prefilter(name) for name in options.prefilter}
    names = ("seconds", "events", "budgets", "prefilter", "file_seconds", "file_side", "repeats")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    settings |= {"model": vlm.name, "fingerprint": vlm.fingerprint}
    settings["weights"] = {name: p.detector.fingerprint for name, p in prefilters.items()}
    settings["file"] = None if options.file is None else options.file.name
    parts = Parts(settings, partial(report, settings=settings), options.out)
    if options.file_seconds:
        parts.measure("cost", partial(measure_cost, vlm, prefilters, options))
    for seed in range(options.videos):
        parts.measure(f"video {seed}", partial(score_video, vlm, seed, prefilters, options))
    parts.finish()


def score_video(
    vlm: TimeVLM, seed: int, prefilters: dict[str, Prefilter], options: argparse.Namespace
) -> VideoScores:
    """All methods and budgets on one video."""
    spec = sample_sparse_video(seed, options.seconds, num_events=options.events)
    frames = rendered(spec, vlm.frame_size)
    return {
        f"{method}@{budget}": score(vlm, spec, frames, plan)
        for method, budget, plan in plans(spec, frames, prefilters, options.budgets)
    }


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
    vlm: TimeVLM, spec: VideoSpec, frames: TensorFrames, plan: SamplingPlan
) -> dict[str, list[float]]:
    """Watch the plan's frames, ask every question, ground every sentence."""
    scores: dict[str, list[float]] = defaultdict(list)
    times = frames.planned_seconds.numpy()
    chosen = torch.from_numpy(plan.select(times, end_seconds=spec.duration_seconds))
    memory = vlm.watch(TensorFrames(frames.pixels[chosen], frames.planned_seconds[chosen]))
    memory = replace(memory, video_end=spec.duration_seconds)
    for question in make_sparse_questions(spec, spec.seed):
        answer = vlm.ask(memory, question.text, choices=question.choices)
        right = float(answer.choice == question.choices.index(question.answer))
        scores[ACCURACY].append(right)
        scores[question.kind].append(right)
    for query in make_sparse_grounding(spec, spec.seed):
        found = [(span.start, span.end) for span in vlm.ground(memory, query.text)]
        scores[MIOU].append(interval_iou(found, query.spans))
    watched = times[chosen.numpy()]
    for start, end in event_spans(spec):
        inside = int(((watched >= start) & (watched < end)).sum())
        scores[SEEN].append(float(inside >= 2))
    return dict(scores)


def measure_cost(
    vlm: TimeVLM, prefilters: dict[str, Prefilter], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Seconds of decoding a file and of scoring its frames, the best of `repeats` runs each."""
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


def pooled(videos: dict[int, VideoScores]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean with its 95 % bootstrap interval over videos of all that was scored, and the count."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    of_videos: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for seed, by_method in videos.items():
        for method, by_key in by_method.items():
            for key, scores in by_key.items():
                values[method][key] += scores
                of_videos[method][key] += [seed] * len(scores)
    return {
        method: {key: summarize(scores, of_videos[method][key]) for key, scores in by_key.items()}
        for method, by_key in values.items()
    }


def report(parts: dict[str, Any], settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The numbers and the page of the parts that were measured."""
    costs = parts.get("cost", {})
    videos = {
        int(name.removeprefix("video ")): part
        for name, part in parts.items()
        if name.startswith("video ")
    }
    results = pooled(videos)
    smallest = min(settings["budgets"])
    verdicts = []
    for name in settings["prefilter"]:
        gain = None
        if results:
            better, base = (
                results[f"{method}@{smallest}"][ACCURACY]["mean"] for method in (name, UNIFORM)
            )
            gain = 100 * (better - base)
        verdicts.append(verdict(f"{name}: points gained at {smallest}", gain, 15, at_most=False))
        share = costs.get(name, {}).get("share_of_decode")
        verdicts.append(verdict(f"{name}: cost as a share of decode", share, 0.2))
    result = {"bench": "prefilter", "cores": cores(), "videos": len(videos)}
    result |= {"results": results, "costs": costs, "verdicts": verdicts}
    rows = table_rows(results, costs, settings) if results else []
    title = (
        f"{len(videos)} videos of {settings['seconds']} s, {settings['events']} events each, "
        f"{settings['threads']} threads"
    )
    columns = ("method", "frames", ACCURACY, "95 %", MIOU, SEEN, "cost / decode")
    return result, [table(title, columns, rows), verdict_list(verdicts)]


def table_rows(
    results: dict[str, dict[str, dict[str, float]]],
    costs: dict[str, dict[str, float]],
    settings: dict[str, Any],
) -> list[tuple[object, ...]]:
    """A row for every budget and method, in percent."""
    rows = []
    for budget in settings["budgets"]:
        for method in (UNIFORM, *settings["prefilter"], ORACLE):
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
    return rows


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
    try:
        main()
    except TimeVLMError as error:
        raise SystemExit(f"error: {error}") from error
