"""What an evaluation costs beside the model: a table, verdicts, and one JSON line last.

    python scripts/bench_eval.py                       # official sizes, some minutes
    python scripts/bench_eval.py --videos 3 --minutes 1  # toy size

Four questions, asked of ToyWorld-QA with nano:

    rate       questions a second, and how the time splits over decode, encode, prefill, generate
    harness    the share of wall time that is neither waiting for frames nor the model
    sharing    ten questions about one ten-minute video, over the first question's time alone
    processes  the rate of two processes over that of one, each with one thread

Every run is a fresh process; the rate counts from the first video on, without loading the model.
The videos are rendered once, into --data if given. A busy machine shows in every figure.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bench import cores, print_table, run_child, show_verdicts, verdict

HARNESS_SHARE = 0.03
SHARING = 1.2
TWO_PROCESSES = 1.6
NUM_SHARED_QUESTIONS = 10


def render(folder: Path, arguments: argparse.Namespace) -> None:
    """Two data folders, `many` with short videos and `long` with one; kept if they are there."""
    from timevlm.synth.benchmark import annotate
    from timevlm.synth.long import sample_long_video
    from timevlm.synth.world import sample_video

    many = [sample_video(seed, split="test", level="basic") for seed in range(arguments.videos)]
    entries = [annotate(spec, f"{number:03d}") for number, spec in enumerate(many)]
    _write(folder / "many", many, entries, arguments)
    seconds = round(60 * arguments.minutes)
    spec = sample_long_video(0, seconds, split="test", level="basic")
    entry = {"video": "videos/000.mp4", "duration": seconds, "questions": _questions(spec)}
    _write(folder / "long", [spec], [entry], arguments)


def _write(folder: Path, specs: list, entries: list[dict], arguments: argparse.Namespace) -> None:
    from timevlm.synth.export import write_video

    size = (arguments.size, arguments.size)
    for spec, entry in zip(specs, entries, strict=True):
        if not (folder / entry["video"]).is_file():
            write_video(spec, folder / entry["video"], fps=arguments.file_fps, size=size)
    content = {"version": "ToyWorld-QA v1", "split": "test", "videos": entries}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _questions(spec: object) -> list[dict]:
    """Ten questions about the needles of a long video, repeated if it has fewer."""
    from timevlm.synth.long import make_needle_questions

    found = {q.text: q for seed in range(8) for q in make_needle_questions(spec, seed)}
    asked = itertools.islice(itertools.cycle(found.values()), NUM_SHARED_QUESTIONS)
    return [
        {
            "id": f"000-q{number}",
            "family": question.family,
            "question": question.text,
            "options": list(question.choices),
            "answer": question.choices.index(question.answer),
        }
        for number, question in enumerate(asked)
    ]


def run(job: dict) -> dict:
    """One process's share of a run; to be called once in a process."""
    import torch

    from eval.models import ModelSettings, load_model
    from eval.runner import evaluate
    from eval.settings import RunSettings, read_samples
    from eval.shards import shard_from_environment
    from eval.store import merge

    torch.set_num_threads(job["threads"])
    model = load_model(ModelSettings(name="nano"))
    settings = RunSettings(bench="toyworld", data=job["data"], split=job["split"])
    folder = Path(job["out"])
    if job.get("barrier"):
        _wait_for_all(Path(job["barrier"]), int(os.environ["WORLD_SIZE"]))
    started = time.time()
    outcome = evaluate(settings, out=folder, shard=shard_from_environment(), model=model)
    rows, _ = merge(folder, [sample.id for sample in read_samples(folder)])
    notes = [json.loads(p.read_text()) for p in (folder / "processes").glob("*.json")]
    return {
        "started": started,
        "ended": time.time(),
        "missing": outcome.missing,
        "rows": [
            {"ts": row["ts"], "error": row["error"], "seconds": row["details"]["seconds"]}
            for row in rows
        ],
        "processes": [note["seconds"] for note in notes if "seconds" in note],
    }


def _wait_for_all(folder: Path, count: int) -> None:
    """Start together: loading a model takes longer than a small run."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)


def run_processes(job: dict, count: int) -> float:
    """Questions a second of `count` processes at work on one folder, as torchrun would start
    them."""
    with tempfile.TemporaryDirectory() as folder:
        barrier = Path(folder) / "barrier"
        barrier.mkdir()
        full = {**job, "threads": 1, "out": f"{folder}/out", "barrier": str(barrier)}
        children = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", json.dumps(full)],
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
                    "RANK": str(rank),
                    "WORLD_SIZE": str(count),
                    "OMP_NUM_THREADS": "1",
                },
            )
            for rank in range(count)
        ]
        outputs = [child.communicate()[0] for child in children]
        if any(child.returncode for child in children):
            raise RuntimeError(f"a process failed: exit {[c.returncode for c in children]}")
        found = [json.loads(out.strip().splitlines()[-1]) for out in outputs]
    first = min(item["started"] for item in found)
    last = max(row["ts"] for item in found for row in item["rows"])
    return max(len(item["rows"]) for item in found) / (last - first)


def measure(data: Path, threads: int) -> dict:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"threads": threads, "data": str(data / "many"), "split": "all"}
        whole = run_child(__file__, {**job, "out": f"{folder}/many"})
        job = {"threads": threads, "data": str(data / "long"), "split": "choice"}
        shared = run_child(__file__, {**job, "out": f"{folder}/long"})
    times = whole["processes"][0]
    stages: dict[str, float] = {}
    for row in whole["rows"]:
        for stage, seconds in row["seconds"].items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    moments = sorted(row["ts"] for row in shared["rows"])
    # The first row is written when the video was watched and one question answered.
    begun = shared["started"]
    job = {"data": str(data / "many"), "split": "all"}
    one, two = (run_processes(job, count) for count in (1, 2))
    return {
        "questions": len(whole["rows"]),
        "errors": sum(row["error"] is not None for row in whole["rows"]),
        "questions_per_second": len(whole["rows"]) / times["total"],
        "stages": stages,
        "decode_wait_seconds": times["decode_wait"],
        "model_seconds": times["model"],
        "harness_seconds": times["harness"],
        "total_seconds": times["total"],
        "shared_questions": len(moments),
        "first_question_seconds": moments[0] - begun,
        "all_questions_seconds": moments[-1] - begun,
        "one_process_per_second": one,
        "two_processes_per_second": two,
    }


def show(found: dict) -> None:
    """Print the tables."""
    total = found["total_seconds"]
    names = ("decode_wait_seconds", "model_seconds", "harness_seconds", "total_seconds")
    rows = [(n.removesuffix("_seconds"), found[n], 100 * found[n] / total) for n in names]
    rows += [
        (f"  {s} (sum over questions)", t, 100 * t / total) for s, t in found["stages"].items()
    ]
    title = f"{found['questions']} questions, {found['questions_per_second']:.2f} a second"
    print_table(title, ("wall time", "s", "%"), rows)
    columns = ("", "value")
    print_table(
        "sharing and processes",
        columns,
        [
            ("first question of the long video, s", found["first_question_seconds"]),
            (f"all {found['shared_questions']} questions, s", found["all_questions_seconds"]),
            ("one process, questions/s", found["one_process_per_second"]),
            ("two processes, questions/s", found["two_processes_per_second"]),
        ],
    )


def judge(found: dict) -> list[dict]:
    """What was asked for against what was measured."""
    sharing = found["all_questions_seconds"] / found["first_question_seconds"]
    speedup = found["two_processes_per_second"] / found["one_process_per_second"]
    harness = found["harness_seconds"] / found["total_seconds"]
    return [
        verdict("harness share of wall time", harness, HARNESS_SHARE),
        verdict("all questions of the long video over the first one's time", sharing, SHARING),
        verdict("two processes over one", speedup, TWO_PROCESSES, at_most=False),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=24, help="short videos")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long video")
    parser.add_argument("--size", type=int, default=96, help="side of the pictures, pixels")
    parser.add_argument("--file-fps", type=int, default=10, help="frames per second of the files")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--data", type=Path, help="where the videos are kept")
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run(json.loads(arguments.child))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or Path(temporary)
        render(data, arguments)
        found = measure(data, arguments.threads)
    asked = judge(found)
    if not arguments.json:
        print(f"{arguments.threads} threads on {cores()} cores")
        show(found)
        show_verdicts(asked)
    sizes = {name: getattr(arguments, name) for name in ("videos", "minutes", "size", "file_fps")}
    print(json.dumps({"bench": "eval", "cores": cores(), **sizes, **found, "asked": asked}))


if __name__ == "__main__":
    main()
