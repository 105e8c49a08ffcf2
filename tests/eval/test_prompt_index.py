"""`--prompt-index`: all questions in one wording, where a benchmark draws one for each."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.benchmarks.base import get
from eval.benchmarks.vdc import TASKS, caption_wordings
from eval.records import Prompt, Sample
from eval.report import write_report
from eval.runner import evaluate
from eval.settings import RunSettings, read_config, read_result
from eval.worker import hash_prompt
from tests.eval.miniatures import build
from tests.eval.runs import TalkingModel, make_toyworld, settings
from timevlm.cli import app
from timevlm.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return build("vdc", tmp_path / "vdc")


def hashes(data: Path, out: Path, index: int | None) -> dict[str, str]:
    """The prompt's hash by sample, of a run of all tasks."""
    given = RunSettings(bench="vdc", data=str(data), prompt_index=index)
    evaluate(given, out=out, model=TalkingModel("A caption."))
    return {row["id"]: row["prompt_sha256"] for row in read_result(out).rows}


def task_of(sample: Sample) -> str:
    return str(sample.tags["task"])


def test_all_captions_are_asked_for_in_the_wording_of_that_number(
    data: Path, tmp_path: Path
) -> None:
    samples = list(get("vdc").samples(data, "all"))
    for index in (0, 3, 15):
        expected = {s.id: Prompt(text=caption_wordings(task_of(s))[index]) for s in samples}
        found = hashes(data, tmp_path / str(index), index)
        assert found == {key: hash_prompt(prompt) for key, prompt in expected.items()}


def test_without_a_number_the_hash_of_task_and_video_draws(data: Path, tmp_path: Path) -> None:
    found = hashes(data, tmp_path / "r", None)
    for sample in get("vdc").samples(data, "all"):
        wordings = caption_wordings(task_of(sample))
        digest = hashlib.sha256(f"{task_of(sample)}{sample.cluster}".encode()).hexdigest()
        drawn = Prompt(text=wordings[int(digest, 16) % len(wordings)])
        assert found[sample.id] == hash_prompt(drawn)


def test_another_wording_is_another_run_and_reports_say_so(data: Path, tmp_path: Path) -> None:
    hashes(data, tmp_path / "r", 2)
    hashes(data, tmp_path / "drawn", None)
    assert read_config(tmp_path / "r").key != read_config(tmp_path / "drawn").key
    with pytest.raises(InputError, match="prompt index: 2 there, 3 here"):
        hashes(data, tmp_path / "r", 3)
    write_report(tmp_path / "r")
    assert "official, wording 2 throughout" in (tmp_path / "r" / "report.md").read_text()


def test_a_result_from_before_keeps_its_key(data: Path, tmp_path: Path) -> None:
    hashes(data, tmp_path / "r", None)
    path = tmp_path / "r" / "config.json"
    content = json.loads(path.read_text())
    key = content["key"]
    for name in ("prompt_index", "span_unit"):
        del content["settings"][name]
    path.write_text(json.dumps(content))
    assert read_config(tmp_path / "r").key == key


def test_an_index_that_there_is_not_is_one_clear_error(data: Path, tmp_path: Path) -> None:
    fewest = min(len(caption_wordings(task)) for task in TASKS)
    with pytest.raises(InputError, match=rf"no prompt index {fewest}; use 0 to {fewest - 1}"):
        hashes(data, tmp_path / "r", fewest)
    detailed = RunSettings(bench="vdc", data=str(data), split="detailed", prompt_index=fewest)
    assert evaluate(detailed, out=tmp_path / "d", model=TalkingModel("So.")).missing == 0
    toyworld = make_toyworld(tmp_path / "toyworld")
    with pytest.raises(InputError, match="one wording alone; leave out the prompt index"):
        evaluate(settings(toyworld, prompt_index=0), out=tmp_path / "t", model=TalkingModel("B"))
    for bad in (-1, 1.0, True, "2"):
        with pytest.raises(InputError, match="count from 0"):
            RunSettings(bench="vdc", data=str(data), prompt_index=bad)
    with pytest.raises(InputError, match="give one of the two"):
        RunSettings(bench="vdc", data=str(data), prompt_index=1, prompt_style="plain")
    deaf = TalkingModel("So.")
    deaf.reads_prompts = False
    with pytest.raises(InputError, match="words of its own"):
        evaluate(detailed, out=tmp_path / "n", model=deaf)


def test_the_command_line_takes_it(data: Path, tmp_path: Path) -> None:
    command = ["eval", "vdc", "--data", str(data), "--model", "constant", "--split", "short"]
    out = tmp_path / "r"
    done = CliRunner().invoke(app, [*command, "--prompt-index", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert read_config(out).settings.prompt_index == 3
    for bad in ("-1", "16", "first"):
        done = CliRunner().invoke(app, [*command, "--prompt-index", bad])
        assert done.exit_code == 2
        assert "Traceback" not in done.output
