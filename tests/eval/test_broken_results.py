"""A result folder that lost a file, or has a broken one: one line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.models.baselines import ConstantModel
from eval.replay import rescore
from eval.report import write_report
from eval.runner import evaluate
from eval.settings import RunSettings, read_config, read_result
from tests.eval.runs import make_toyworld, settings
from timevlm.cli import app
from timevlm.errors import InputError


@pytest.fixture
def result(tmp_path: Path) -> Path:
    data = make_toyworld(tmp_path / "data")
    evaluate(settings(data), out=tmp_path / "r", model=ConstantModel())
    return tmp_path / "r"


def cut(text: str) -> str:
    return text[: len(text) // 2 - 5]


def first_line(text: str) -> str:
    return text.split("\n")[0] + "\n"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", None, "is no result folder"),
        ("config.json", cut, "is no result folder"),
        ("config.json", lambda text: "[]", "no configuration that this program wrote"),
        ("config.json", lambda text: text.replace('"mode"', '"kind"'), "no configuration"),
        ("config.json", lambda text: text.replace("official", "offical"), "prompt style 'offical'"),
        ("samples.jsonl", None, "run the evaluation again"),
        ("samples.jsonl", cut, "run the evaluation again"),
        ("samples.jsonl", lambda text: "", "has no questions"),
        ("samples.jsonl", first_line, "has 12 rows, not one for each of the 1 questions"),
        ("predictions.jsonl", None, "is not finished; run the same command again"),
        ("predictions.jsonl", cut, "run the evaluation again"),
        ("predictions.jsonl", lambda text: "", "has 0 rows, not one for each of the 12"),
        ("predictions.jsonl", first_line, "has 1 rows, not one for each of the 12"),
        ("predictions.jsonl", lambda text: "3\n", "has a line that is no row"),
        ("predictions.jsonl", lambda text: '{"id": 1}\n', "has a line that is no row"),
    ],
)
def test_a_broken_file_is_named(
    result: Path, name: str, change: Callable[[str], str] | None, message: str
) -> None:
    path = result / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        rescore(result)
    done = CliRunner().invoke(app, ["eval", "--rescore", str(result)])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_lost_predictions_are_made_again_by_the_same_command(result: Path) -> None:
    path = result / "predictions.jsonl"
    whole = path.read_text()
    path.write_text(first_line(whole))
    given = read_config(result).settings
    assert evaluate(given, out=result, model=ConstantModel()).missing == 0
    assert path.read_text() == whole


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tables": '])
def test_broken_score_tables_are_made_again_by_rescoring(result: Path, text: str) -> None:
    path = result / "metrics.json"
    before = json.loads(path.read_text())
    path.write_text(text)
    with pytest.raises(InputError, match="make it again: timevlm eval --rescore"):
        write_report(result)
    assert rescore(result)["tables"] == before["tables"]
    write_report(result)
    assert (result / "report.md").is_file()


@pytest.mark.parametrize("text", ["{", "7"])
def test_a_broken_note_of_a_process_is_named(result: Path, text: str) -> None:
    next((result / "processes").glob("*.json")).write_text(text)
    with pytest.raises(InputError, match=r"processes.*\.json"):
        read_result(result).processes()


def test_a_prompt_style_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="prompt style 'short' is unknown; use official, "):
        RunSettings(bench="toyworld", data="d", prompt_style="short")


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), 0, -1, 1.5])
def test_a_limit_that_is_no_number_of_videos_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="neither a number of videos nor a share below 1"):
        RunSettings(bench="toyworld", data="d", limit=limit)
