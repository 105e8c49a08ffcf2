import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eval.cli import evaluation
from tests.eval.miniatures import build
from tests.eval.runs import make_toyworld
from timevlm.cli import OneLineErrors


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_toyworld(tmp_path / "data")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def timevlm(*arguments: object) -> Result:
    app = OneLineErrors("timevlm", commands={"eval": evaluation})
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], catch_exceptions=False)


def run_json(*arguments: object) -> dict:
    result = timevlm(*arguments, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_run_prints_tables_and_where_they_lie(data: Path) -> None:
    result = timevlm("toyworld", "--data", data, "--model", "constant:B", "--split", "choice")
    assert result.exit_code == 0
    assert "ToyWorld-QA choice (version 1.0), constant:B" in result.stdout
    assert "accuracy" in result.stdout
    assert "result: results/toyworld-choice/constant-B-" in result.stdout
    assert "LIMITED" not in result.stdout


def test_json_and_a_limit(data: Path) -> None:
    metrics = run_json(
        "toyworld", "--data", data, "--model", "blind", "--limit", 2, "--seed", 3, "--out", "r"
    )
    assert metrics["folder"] == "r"
    assert metrics["limited"]
    assert Path("r/report.html").stat().st_size > 1000
    assert metrics["num_videos"] == 2
    assert set(metrics) >= {"tables", "cost", "published", "extract"}
    assert "LIMITED to 2 of 4 videos" in timevlm("--rescore", "r").stdout


def test_one_video_has_no_interval_in_the_terminal(data: Path) -> None:
    command = ("toyworld", "--data", data, "--split", "choice", "--limit", 1)
    for letter in "AB":
        text = timevlm(*command, "--model", f"constant:{letter}", "--out", letter).stdout
        assert "- (1 video)" in text
        assert " to " not in text.replace("LIMITED to", "")
    text = timevlm("compare", "A", "B").stdout
    assert " to " not in text
    assert "- | - |" in text.replace("\u2502", "|")


def test_a_metric_that_could_not_be_computed_is_a_warning(tmp_path: Path) -> None:
    videos = build("vdc", tmp_path / "vdc")
    result = timevlm("vdc", "--data", videos, "--model", "blind", "--split", "short", "--out", "v")
    assert result.exit_code == 0
    assert "warning: VDCscore has no value: needs a judge" in result.stderr
    assert timevlm("--rescore", "v", "--quiet").stderr == ""


def test_every_option_reaches_the_run(data: Path) -> None:
    run_json(
        *("toyworld", "--data", data, "--model", "constant:A", "--split", "grounding"),
        *("--sampling", "linspace:4", "--prompt-style", "timeviper", "--extract", "timeviper"),
        *("--seed", 5, "--decode-timeout", 9, "--max-new-tokens", 7, "--text", "--out", "r"),
        *("--device", "cpu", "--model-option", "a=[1, 2]", "--model-option", "b=words"),
        *("--prefilter", "novelty"),
    )
    config = json.loads(Path("r/config.json").read_text())
    given = config["settings"]
    assert config["sampling"]["mode"] == "linspace"
    options = {"a": [1, 2], "b": "words", "prefilter": "novelty"}
    assert given["model"]["options"] == options
    assert (given["extract"], given["prompt_style"]) == ("timeviper", "timeviper")
    assert (given["seed"], given["decode_wall_seconds"]) == (5, 9.0)
    assert (given["model"]["max_new_tokens"], given["model"]["native"]) == (7, False)


def test_shards_by_hand_meet_in_one_folder(data: Path) -> None:
    command = ("toyworld", "--data", data, "--model", "constant:A", "--out", "r")
    first = run_json(*command, "--shard", "0/2")
    assert set(first) == {"folder", "missing"}
    text = timevlm(*command, "--shard", "0/2").stdout
    assert f"shard 0/2 is done; {first['missing']} questions are left" in text
    assert run_json(*command, "--shard", "1/2")["tables"]


def test_launchers_name_the_shard(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_json("toyworld", "--data", data, "--model", "constant:A", "--out", "r")["tables"]
    assert list(Path("r/rows").glob("00001-of-00002*.jsonl"))


def test_check_says_what_is_missing_without_a_model(data: Path) -> None:
    result = timevlm("toyworld", "--data", data, "--check", "--model", "no such model")
    assert result.exit_code == 0
    assert "missing: " in result.stdout
    problems = json.loads(timevlm("toyworld", "--data", data, "--check", "--json").stdout)
    assert problems[0]["level"] == "missing"
    assert len(problems[0]["paths"]) == 4
    empty = timevlm("toyworld", "--data", data.parent, "--check")
    assert empty.exit_code == 2
    assert "fatal: " in empty.stdout
    refused = timevlm("toyworld", "--data", data.parent)
    assert refused.exit_code == 2
    assert f"see: timevlm eval toyworld --data {data.parent} --check" in refused.stderr


def test_replay_rescore_and_compare(data: Path) -> None:
    for letter in "AB":
        run_json("toyworld", "--data", data, "--model", f"constant:{letter}", "--out", letter)
    same = timevlm("--replay", "A")
    assert same.exit_code == 0
    assert "0 of 20 questions differ" in same.stdout
    assert run_json("--replay", "B", "--out", "B2")["num_different"] == 0
    assert run_json("--rescore", "A", "--extract", "lmms")["extract"] == "lmms"
    text = timevlm("compare", "A", "B").stdout
    assert "B - A" in text
    assert "not the same: model" in text
    found = json.loads(timevlm("compare", "A", "B", "--json").stdout)
    assert found["tasks"]["choice"]["num_samples"] == 12


def test_a_replay_that_differs_exits_with_one(data: Path) -> None:
    run_json("toyworld", "--data", data, "--model", "constant:A", "--out", "r")
    path = Path("r/predictions.jsonl")
    path.write_text(path.read_text().replace('"raw": "A"', '"raw": "B"', 1))
    result = timevlm("--replay", "r")
    assert result.exit_code == 1
    assert "1 of 20 questions differ" in result.stdout
    assert "raw: 'B' before, 'A' now" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toyworld"], "--data DIR"),
        (["--json"], "say which benchmark"),
        (["toywrld", "--data", "."], "did you mean 'toyworld'"),
        (["toyworld", "--data", "nowhere", "--model", "blind"], "annotations.json"),
        (["toyworld", "--data", "data", "--shard", "3/2"], "i from 0 to n-1"),
        (["toyworld", "--data", "data", "--sampling", "all"], "unknown sampling"),
        (["toyworld", "--data", "data", "--sampling", "fps:1", "--fps", "1"], "drop --fps"),
        (["toyworld", "--data", "data", "--limit", "0"], "neither a number"),
        (["toyworld", "--data", "data", "--model-option", "x"], "NAME=VALUE"),
        (["toyworld", "--data", "data", "--model", "nanoo"], "did you mean 'nano'"),
        (["toyworld", "--data", "data", "--split", "x", "--model", "blind"], "no split 'x'"),
        (["--replay", "nowhere"], "is no result folder"),
        (["--rescore", "data"], "is no result folder"),
        (["compare", "data", "data"], "is no result folder"),
        (["sweep", "nowhere.toml", "--data", "data"], "is no sweep file"),
    ],
)
@pytest.mark.usefixtures("data")
def test_errors_are_one_line_with_status_two(arguments: list[str], message: str) -> None:
    result = timevlm(*arguments)
    assert result.exit_code == 2
    *notes, last = result.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert all(note.startswith("missing: ") for note in notes)


def test_list_names_every_benchmark_and_the_models() -> None:
    found = json.loads(timevlm("list", "--json").stdout)
    assert {"toyworld", "charades", "videomme"} <= {line["name"] for line in found}
    text = timevlm("list").stdout
    assert "constant:A" in text
    assert "ToyWorld-QA" in text


def test_help_shows_the_options_of_a_run_and_the_commands() -> None:
    text = timevlm("--help").stdout
    for word in ("--sampling", "--replay", "--shard", "compare", "sweep", "list"):
        assert word in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from eval.cli import evaluation\n"
        "evaluation.main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'transformers', 'av', 'rich', 'eval.runner', 'eval.metrics'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip().endswith("heavy: []")


def test_python_m_eval_is_the_same_program(data: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "eval", "toyworld", "--data", data, "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert done.returncode == 0
    assert "missing: " in done.stdout
