"""`timevlm eval judge` and `submission`: results, read by a judge or handed to a server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.judging import JudgeRecord
from eval.metrics.vdc import DEFAULT_PROMPTS
from eval.runner import evaluate
from eval.settings import RunSettings
from eval.store import read_lines
from tests.eval.metrics.judge_server import JudgeServer, Step, judge_server
from tests.eval.miniatures import build
from tests.eval.runs import TalkingModel
from tests.eval.test_cli import run_json, timevlm
from timevlm import InputError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verdicts(messages: list[dict]) -> str:
    """Finds "kite" in the caption; gives 4 of 5 to what it found."""
    text = messages[-1]["content"]
    if "Given answer" not in text:
        return "a kite" if "A kite." in text else "not said"
    return (
        "{'pred': 'yes', 'score': 4}"
        if "Given answer: a kite" in text
        else "{'pred': 'no', 'score': 0}"
    )


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with judge_server(verdicts) as running:
        yield running


def run(bench: str, words: object, out: str, **changes: object) -> Path:
    data = build(bench, Path(f"data-{bench}"))
    settings = RunSettings(bench=bench, data=str(data), **changes)
    assert evaluate(settings, out=Path(out), model=TalkingModel(words)).missing == 0
    return Path(out)


def judge(server: JudgeServer, result: Path, *more: object) -> dict:
    return run_json(
        "judge", result, "--base-url", server.url, "--judge-model", "org/judge-8b", *more
    )


def test_vdc_is_judged_once_and_scored_from_the_replies_ever_after(server: JudgeServer) -> None:
    kites = run("vdc", lambda s: "A kite." if s.cluster.endswith("0-test") else "A dog.", "kites")
    before = json.loads((kites / "metrics.json").read_text())
    assert before["judge"] is None
    metrics = judge(server, kites)
    overall = {line["name"]: line for line in metrics["tables"]["overall"]}
    assert overall["VDCscore: accuracy (judge-8b)"]["value"] == pytest.approx(50.0)
    assert overall["detailed: score (judge-8b)"]["value"] == pytest.approx(2.0)
    assert DEFAULT_PROMPTS.version in overall["detailed: accuracy (judge-8b)"]["note"]
    assert "n_unscored" not in {line["name"] for line in metrics["tables"]["counts"]}
    assert metrics["judge"]["model"] == "org/judge-8b"
    asked = len(server.calls)
    questions = {
        (sample["extra"]["qa"][k]["question"], sample["id"])
        for sample in read_lines(kites / "samples.jsonl")
        for k in range(len(sample["extra"]["qa"]))
    }
    assert 0 < asked <= 2 * len(questions)
    html = (kites / "report.html").read_text(encoding="utf-8")
    assert "VDCscore: accuracy (judge-8b)" in html
    assert "org/judge-8b" in html
    # Again, rescored, resumed: the same scores, and nobody is asked.
    assert judge(server, kites)["tables"] == metrics["tables"]
    assert run_json("--rescore", kites)["tables"] == metrics["tables"]
    run("vdc", "another reply, which no question is left for", "kites")
    assert json.loads((kites / "metrics.json").read_text())["tables"] == metrics["tables"]
    assert len(server.calls) == asked


def test_a_judge_that_was_cut_off_goes_on(server: JudgeServer) -> None:
    result = run("vdc", "A kite.", "r", split="short")
    server.script = [Step(), Step(status=403, body=b"quota")]
    command = ("judge", result, "--base-url", server.url, "--judge-model", "j")
    failed = timevlm(*command, "--concurrency", 1, "--quiet")
    assert failed.exit_code == 2
    assert "refused with HTTP 403" in failed.stderr
    assert JudgeRecord.load(result) is None
    assert len(read_lines(result / "judge.jsonl")) >= 1
    first = server.calls[0]["messages"]
    assert timevlm(*command).exit_code == 0
    assert [call["messages"] for call in server.calls].count(first) == 1


def test_unreadable_verdicts_are_wrong_and_stay_so_without_the_server(tmp_path: Path) -> None:
    result = run("vdc", "A kite.", "r", split="detailed")
    with judge_server(lambda messages: "hard to say") as server:
        metrics = judge(server, result, "--attempts", 2)
    counts = {line["name"]: line["value"] for line in metrics["tables"]["counts"]}
    # Equal requests are asked once.
    assert counts["n_judge_unparsed"] >= metrics["judge"]["num_unreadable"] > 0
    assert metrics["tables"]["overall"][0]["value"] == 0.0
    assert run_json("--rescore", result)["tables"] == metrics["tables"]
    # Replies that were lost: as if nobody had judged, and the way out is named.
    (result / "judge.jsonl").unlink()
    rescored = timevlm("--rescore", result)
    assert "warning: VDCscore has no value: needs a judge model" in rescored.stderr
    (result / "judge.json").write_text("{}")
    assert "judge the result again" in timevlm("--rescore", result).stderr


def test_another_wording_and_a_key(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("vdc", "A kite.", "r", split="short")
    wording = {
        "version": "paper-1",
        "answer_system": "s",
        "answer_user": "{caption} {question}",
        "verdict_system": "v",
        "verdict_user": "Given answer {predicted} {question} {answer}",
    }
    Path("prompts.json").write_text(json.dumps(wording))
    monkeypatch.setenv("JUDGE_KEY", "secret")
    more = ("--prompts", "prompts.json", "--api-key-env", "JUDGE_KEY", "--max-tokens", 99)
    metrics = judge(server, result, *more)
    assert "paper-1" in metrics["tables"]["overall"][0]["note"]
    assert metrics["judge"]["prompts"] == "paper-1"
    assert run_json("--rescore", result)["tables"] == metrics["tables"]
    assert set(server.authorizations) == {"Bearer secret"}
    assert {call["max_tokens"] for call in server.calls} == {99}
    assert "secret" not in "".join(
        path.read_text(errors="replace") for path in result.rglob("*") if path.is_file()
    )


def test_judged_results_are_compared(server: JudgeServer) -> None:
    better = run("vdc", "A kite.", "b", split="camera")
    worse = run("vdc", "A dog.", "a", split="camera")
    assert "no scored question in common" in timevlm("compare", worse, better).stderr
    judge(server, better)
    judge(server, worse)
    found = run_compare(worse, better)
    assert found["tasks"]["detailed_caption"]["difference"] == pytest.approx(100.0)
    assert not any(line.startswith("judge") for line in found["settings"])
    record = JudgeRecord.load(better)
    assert record is not None
    run_json("judge", better, "--base-url", server.url, "--judge-model", "other")
    assert any(line.startswith("judge: ") for line in run_compare(worse, better)["settings"])


def run_compare(first: Path, second: Path) -> dict:
    return json.loads(timevlm("compare", first, second, "--json", "--out", "out").stdout)


def test_tempcompass_captions_are_judged(server: JudgeServer) -> None:
    result = run("tempcompass", "A kite.", "r", split="captioning")
    metrics = judge(server, result)
    assert metrics["tables"]["overall"][0]["name"] == "average (judge-8b)"
    assert metrics["tables"]["overall"][0]["value"] is not None
    refused = timevlm(
        *("judge", result, "--base-url", server.url, "--judge-model", "j"),
        *("--prompts", write_prompts(Path("p.json"))),
    )
    assert refused.exit_code == 2
    assert "prompts of its own" in refused.stderr


def write_prompts(path: Path) -> Path:
    names = ("version", "answer_system", "answer_user", "verdict_system", "verdict_user")
    text = "{caption} {question} {answer} {predicted}"
    path.write_text(json.dumps(dict.fromkeys(names, text)))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("judge", "r", "--base-url", "localhost", "--judge-model", "j"), "http://localhost:30000"),
        (("judge", "r", "--base-url", "http://x/v1", "--judge-model", "j"), "needs no judge"),
        (("judge", "no", "--base-url", "http://x/v1", "--judge-model", "j"), "is no result"),
        (("judge", "r", "--judge-model", "j"), "--base-url"),
        (("submission", "r"), "nothing to submit"),
        (("submission", "no"), "is no result"),
    ],
)
def test_what_cannot_be_judged_or_submitted(arguments: tuple[str, ...], message: str) -> None:
    run("toyworld", "A", "r", split="choice")
    failed = timevlm(*arguments)
    assert failed.exit_code == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("error: ")
    assert message in failed.stderr


@pytest.mark.parametrize(
    ("bench", "split", "name"),
    [
        ("egoschema", "full", "egoschema_full.json"),
        ("longvideobench", "test", "longvideobench_test.json"),
        ("mlvu", "test", "mlvu_test.json"),
    ],
)
def test_hidden_answers_go_into_a_file_for_the_server(bench: str, split: str, name: str) -> None:
    result = run(bench, "B", "r", split=split)
    rescored = timevlm("--rescore", result)
    if bench != "mlvu":  # repacks of its test have the answers
        assert "not public: timevlm eval submission RESULT" in rescored.stderr
    text = timevlm("submission", result).stdout
    written = json.loads((result / name).read_text())
    num_samples = len(read_lines(result / "samples.jsonl"))
    assert len(written) == num_samples > 0
    assert text == f"{num_samples} answers: {result / name}\n"
    answers = {"egoschema": {1}, "longvideobench": {"B"}, "mlvu": {"B"}}
    values = written.values() if isinstance(written, dict) else [row["option"] for row in written]
    assert set(values) == answers[bench]
    timevlm("submission", result, "--out", "elsewhere.json")
    assert json.loads(Path("elsewhere.json").read_text()) == written


def test_a_part_of_a_split_is_not_submitted() -> None:
    result = run("egoschema", "B", "r", split="full", limit=1)
    failed = timevlm("submission", result)
    assert failed.exit_code == 2
    assert "without --limit" in failed.stderr
    shutil.rmtree(result)
    with pytest.raises(InputError):
        JudgeRecord.load(write_broken(Path("broken")))


def write_broken(folder: Path) -> Path:
    folder.mkdir()
    (folder / "judge.json").write_text('{"model": 1}')
    return folder


def graded_by_length(messages: list[dict]) -> str:
    text = messages[-1]["content"]
    names = ("accuracy", "relevance") if "accuracy" in text else ("completeness", "reliability")
    return json.dumps(dict.fromkeys(names, 5 if "sells" in text.split("Given answer")[1] else 2))


def test_mlvus_generation_tasks_are_graded() -> None:
    words = {"sub_scene": "He sells a loaf.", "summary": "He bakes."}
    result = run("mlvugeneration", lambda sample: words[sample.tags["task"]], "r")
    waiting = timevlm("--rescore", result)
    assert "warning: G-Avg has no value: needs a judge model" in waiting.stderr
    with judge_server(graded_by_length) as server:
        metrics = judge(server, result)
    overall = {line["name"]: line["value"] for line in metrics["tables"]["overall"]}
    assert overall == {
        "G-Avg (judge-8b)": 7.0,
        "sub_scene (judge-8b)": 10.0,
        "summary (judge-8b)": 4.0,
    }
    aspects = {line["name"]: line["value"] for line in metrics["tables"]["by aspect"]}
    assert aspects["summary: reliability"] == 2.0
    assert run_json("--rescore", result)["tables"] == metrics["tables"]
