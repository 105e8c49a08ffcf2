"""Kill real processes at random moments: nothing may be lost, doubled or scored differently."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from eval.runner import Outcome, evaluate
from eval.shards import Shard
from eval.store import RowReader
from tests.eval.runs import SlowModel, TalkingModel, make_toyworld, settings

FORK = multiprocessing.get_context("fork")
PAUSE_SECONDS = 0.01


def work(data: Path, out: Path, shard: Shard, log: Path) -> None:
    # A group of its own, as a shell gives: the parent kills it with everything it started.
    os.setsid()
    evaluate(settings(data), out=out, shard=shard, model=SlowModel(PAUSE_SECONDS, log))


def start(data: Path, out: Path, shards: list[Shard], log: Path) -> list:
    processes = [FORK.Process(target=work, args=(data, out, shard, log)) for shard in shards]
    for process in processes:
        process.start()
    return processes


def wait_for_calls(log: Path, count: int, processes: list) -> None:
    """Until `count` more answers have begun, so that kills hit the work on a busy machine too."""
    target = (log.stat().st_size if log.exists() else 0) + 20 * count
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(p.is_alive() for p in processes):
        if (log.stat().st_size if log.exists() else 0) >= target:
            return
        time.sleep(PAUSE_SECONDS / 5)


def raw_ids(out: Path) -> list[str]:
    """Ids of all whole lines in all files, doubled ones included."""
    ids = []
    for path in (out / "rows").glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            if line.endswith(b"}"):
                ids.append(json.loads(line)["id"])
    return ids


def finish(data: Path, out: Path) -> Outcome:
    return evaluate(settings(data), out=out, model=SlowModel(0.0))


def same_scores(data: Path, outcome: Outcome, tmp_path: Path) -> bool:
    clean = evaluate(settings(data), out=tmp_path / "clean", model=SlowModel(0.0))
    return clean.metrics["tables"] == outcome.metrics["tables"]


def test_twenty_kills_lose_at_most_what_was_in_flight_and_double_nothing(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=20, num_questions=10)
    out, log = tmp_path / "out", tmp_path / "log"
    rng = random.Random(0)
    num_killed = 0
    before: set[str] = set()
    sizes = []
    for _ in range(20):
        count = rng.choice([1, 1, 2, 3])
        helps = rng.random() < 0.5
        shards = [Shard(index=i, count=count, helps=helps) for i in range(count)]
        processes = start(data, out, shards, log)
        wait_for_calls(log, rng.randrange(10), processes)
        time.sleep(rng.uniform(0.0, 2 * PAUSE_SECONDS))
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                num_killed += 1
        for process in processes:
            process.join()
        after = set(raw_ids(out)) if out.exists() else set()
        assert before <= after
        before = after
        sizes.append(len(before))
    outcome = finish(data, out)
    assert outcome.missing == 0
    assert num_killed >= 20
    # Most kills hit a run that was under way.
    assert len(set(sizes)) >= 10
    assert Counter(raw_ids(out)).most_common(1)[0][1] == 1
    started = Counter(log.read_text().split())
    # Each kill may have cost the sample that was in flight, and no other.
    assert sum(started.values()) - len(before) <= num_killed
    assert same_scores(data, outcome, tmp_path)


def test_two_writers_of_one_shard_share_the_work(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=10, num_questions=4)
    out, log = tmp_path / "out", tmp_path / "log"
    processes = start(data, out, [Shard(), Shard()], log)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(raw_ids(out)) == sorted(log.read_text().split())
    assert max(Counter(raw_ids(out)).values()) == 1
    sizes = [len(p.read_text().splitlines()) for p in (out / "rows").glob("*.jsonl")]
    assert len(sizes) == 2
    assert min(sizes) > 0
    assert (out / "metrics.json").exists()  # whoever came last scored, without the other
    assert same_scores(data, finish(data, out), tmp_path)


def test_processes_may_start_at_the_same_moment(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=2, num_questions=1)
    for attempt in range(5):
        shards = [Shard(index=index, count=4, helps=True) for index in range(4)]
        processes = start(data, tmp_path / f"out{attempt}", shards, tmp_path / "log")
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        assert sorted(raw_ids(tmp_path / f"out{attempt}")) == [
            f"toyworld:test:00{v}-q0" for v in (0, 1)
        ]


def test_the_number_of_shards_may_change_between_runs(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=9, num_questions=2)
    out = tmp_path / "out"
    half = evaluate(settings(data), out=out, shard=Shard(index=1, count=3), model=SlowModel(0.0))
    assert half.metrics is None
    assert 0 < half.missing < 18
    whole = evaluate(
        settings(data), out=out, shard=Shard(index=0, count=2, helps=True), model=SlowModel(0.0)
    )
    assert whole.missing == 0
    assert len(raw_ids(out)) == len(set(raw_ids(out))) == 18
    assert same_scores(data, whole, tmp_path)


def test_a_torn_line_in_the_middle_of_a_resumed_run_costs_one_sample(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=3, num_questions=2)
    out = tmp_path / "out"
    finish(data, out)
    path = next((out / "rows").glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-25])
    (out / "predictions.jsonl").unlink()
    model = SlowModel(0.0, tmp_path / "log")
    outcome = evaluate(settings(data), out=out, model=model)
    assert len((tmp_path / "log").read_text().split()) == 1
    assert outcome.num_torn == 1
    assert same_scores(data, outcome, tmp_path)


def test_errors_are_tried_again_once_a_run(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=2, num_questions=2)
    out = tmp_path / "out"
    failing = TalkingModel(lambda s: ValueError("not now") if s.id.endswith("q1") else "B")
    first = evaluate(settings(data), out=out, model=failing)
    assert first.missing == 0
    counts = {line["name"]: line["value"] for line in first.metrics["tables"]["counts"]}
    assert counts == {"n_total": 4, "n_answered": 2, "n_unparsed": 0, "n_error": 2}
    again = TalkingModel("B")
    second = evaluate(settings(data), out=out, model=again)
    assert sorted(again.opened) == ["000.mp4", "001.mp4"]
    counts = {line["name"]: line["value"] for line in second.metrics["tables"]["counts"]}
    assert counts["n_error"] == 0
    third = TalkingModel("B")
    evaluate(settings(data), out=out, model=third)
    assert third.opened == []
    reader = RowReader(out)
    reader.refresh()
    assert reader.num_read == 6


def test_a_run_that_is_complete_asks_nothing(tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=2, num_questions=2)
    first = evaluate(settings(data), out=tmp_path / "out", model=SlowModel(0.0))
    log = tmp_path / "log"
    second = evaluate(settings(data), out=tmp_path / "out", model=SlowModel(0.0, log))
    assert not log.exists()
    assert first.metrics["tables"] == second.metrics["tables"]
