"""A model may say when in seconds, in frame indices or in parts of the video: one score."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eval.benchmarks.base import get
from eval.metrics.spans import TIME_UNITS
from eval.records import Sample
from eval.replay import compare, replay, rescore
from eval.report import write_comparison, write_report
from eval.runner import evaluate
from eval.settings import read_config, read_result
from tests.eval.miniatures import build
from tests.eval.runs import TalkingModel, make_toyworld, settings
from timevlm.cli import app
from timevlm.errors import InputError

# As the sessions of TalkingModel say, where the annotations have no duration.
SESSION_SECONDS = 2.0


class Speaker(TalkingModel):
    """Names the first half of each true span, all in one unit."""

    def __init__(self, unit: str) -> None:
        super().__init__(self.say)
        self.unit = unit

    def say(self, sample: Sample) -> str:
        if sample.task == "grounding":
            start, end = sample.gold[0]
            return f"{self.time(sample, start)} to {self.time(sample, (start + end) / 2)}"
        if sample.task == "dense_caption":
            return "\n".join(
                f"{self.time(sample, start)} - {self.time(sample, (start + end) / 2)}, {text}"
                for start, end, text in sample.gold
            )
        return "B"

    def time(self, sample: Sample, seconds: float) -> str:
        share = seconds / sample.extra.get("duration", SESSION_SECONDS)
        values = {"seconds": seconds, "frame_index": 100 * share, "normalized": share}
        return f"{values[self.unit]:.9f}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_toyworld(tmp_path / "data", num_videos=6)


def run(data: Path, out: Path, *, speaks: str, reads: str | None = None, **changes: object) -> dict:
    given = settings(data, **{"split": "all", **changes}, span_unit=reads or speaks)
    return evaluate(given, out=out, model=Speaker(speaks)).metrics


def values(metrics: dict) -> dict[str, list[tuple[str, object]]]:
    return {
        title: [(line["name"], line["value"] and round(line["value"], 5)) for line in lines]
        for title, lines in metrics["tables"].items()
    }


@pytest.mark.parametrize("bench", ["toyworld", "charades", "activitynet", "youcook2"])
def test_every_unit_gives_the_same_tables(bench: str, data: Path, tmp_path: Path) -> None:
    split = "all" if bench == "toyworld" else None
    folder = data if bench == "toyworld" else build(bench, tmp_path / bench)
    found = [
        run(folder, tmp_path / unit, speaks=unit, bench=bench, split=split) for unit in TIME_UNITS
    ]
    assert values(found[0]) == values(found[1]) == values(found[2])
    assert [metrics["span_unit"] for metrics in found] == list(TIME_UNITS)
    overall = found[0]["tables"]["overall"]
    assert any(line["name"] in ("mIoU", "F1") and line["value"] > 0 for line in overall)


def test_rows_hold_seconds_as_they_were_read_and_agree_with_the_tables(
    data: Path, tmp_path: Path
) -> None:
    metrics = run(data, tmp_path / "r", speaks="frame_index", split="grounding")
    rows = read_result(tmp_path / "r").rows
    assert [row["parsed"] for row in rows] == [pytest.approx([1.0, 2.0])] * 6
    assert rows[0]["raw"] == "25.000000000 to 50.000000000"
    mean = 100 * sum(row["score"] for row in rows) / len(rows)
    assert metrics["tables"]["overall"][0]["value"] == pytest.approx(mean) == pytest.approx(50.0)


def test_a_unit_read_wrongly_is_set_right_by_rescoring(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    wrong = run(data, out, speaks="normalized", reads="seconds")
    right = rescore(out, span_unit="normalized")
    assert values(right) == values(run(data, tmp_path / "s", speaks="seconds"))
    assert values(right) != values(wrong)
    assert json.loads((out / "metrics.json").read_text())["span_unit"] == "normalized"
    assert read_result(out).span_unit == "normalized"
    # Without a unit it is read as the run was told to.
    assert values(rescore(out)) == values(wrong)
    assert read_result(out).span_unit == "seconds"


def test_a_unit_is_a_reading_and_no_other_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    first = run(data, out, speaks="frame_index", reads="seconds")
    key = read_config(out).key
    assert values(run(data, out, speaks="frame_index")) != values(first)
    assert read_config(out).key == key
    assert read_config(out).settings.span_unit == "frame_index"


def test_rows_of_a_resumed_run_are_all_read_in_its_last_unit(data: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "r", tmp_path / "whole"
    run(data, out, speaks="normalized", reads="seconds", limit=3)
    run(data, out, speaks="normalized")
    run(data, whole, speaks="normalized")
    keys = ("id", "parsed", "parse_rule", "score")
    found, expected = ([[r[k] for k in keys] for r in read_result(f).rows] for f in (out, whole))
    assert found == expected
    assert replay(out, model=Speaker("normalized"))["num_different"] == 0


def test_a_replay_reads_in_the_same_unit(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "r", speaks="frame_index")
    assert replay(tmp_path / "r", model=Speaker("frame_index"))["num_different"] == 0
    assert read_config(tmp_path / "r-replay").settings.span_unit == "frame_index"


def test_a_comparison_reads_each_result_in_its_own_unit(data: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    run(data, a, speaks="seconds")
    run(data, b, speaks="frame_index", reads="seconds")
    assert compare(a, b)["tasks"]["grounding"]["difference"] < -10
    rescore(b, span_unit="frame_index")
    found = compare(a, b)
    assert found["tasks"]["grounding"]["difference"] == pytest.approx(0.0, abs=1e-6)
    assert found["tasks"]["dense_caption"]["difference"] == pytest.approx(0.0, abs=1e-6)
    assert "span unit: seconds there, frame_index here" in found["settings"]
    write_comparison(a, b, tmp_path / "page")
    assert "span unit: seconds there" in (tmp_path / "page" / "comparison.md").read_text()
    with pytest.raises(InputError, match="the rules 'lmms' read seconds alone"):
        compare(a, b, rules="lmms")


def test_reports_name_the_unit_where_it_is_not_seconds(data: Path, tmp_path: Path) -> None:
    for unit in ("seconds", "frame_index"):
        run(data, tmp_path / unit, speaks=unit, split="grounding")
        write_report(tmp_path / unit)
        for name in ("report.html", "report.md"):
            text = (tmp_path / unit / name).read_text()
            assert ("ours rules, times as frame" in text) == (unit == "frame_index")


def test_a_bad_unit_is_one_clear_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown span unit 'frames'; use one of seconds, "):
        settings(data, span_unit="frames")
    with pytest.raises(InputError, match="the rules 'timeviper' read seconds alone"):
        settings(data, span_unit="normalized", extract="timeviper")
    run(data, tmp_path / "r", speaks="seconds", split="grounding")
    before = (tmp_path / "r" / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="unknown span unit 'frames'"):
        rescore(tmp_path / "r", span_unit="frames")
    with pytest.raises(InputError, match="read span unit 'normalized' with the rules 'ours'"):
        rescore(tmp_path / "r", rules="lmms", span_unit="normalized")
    assert (tmp_path / "r" / "metrics.json").read_bytes() == before


def test_a_video_of_unknown_length_is_named(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "r", speaks="seconds", split="grounding")
    row = read_result(tmp_path / "r").scoring_rows("frame_index")[0]
    row["extra"], row["details"] = {}, {}
    with pytest.raises(InputError, match=r"toyworld:test:000-g0: .* got None"):
        get("toyworld").score([row])


def timevlm(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_the_command_line_chooses_the_unit(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    command = ("toyworld", "--data", data, "--model", "constant", "--split", "grounding")
    done = timevlm(*command, "--span-unit", "normalized", "--out", out)
    assert done.exit_code == 0, done.output
    assert ", times as normalized" in done.stdout
    assert read_config(out).settings.span_unit == "normalized"
    done = timevlm("--rescore", out, "--span-unit", "seconds", "--json")
    assert json.loads(done.stdout)["span_unit"] == "seconds"
    for bad in (("--span-unit", "frames"), ("--span-unit", "normalized", "--extract", "lmms")):
        done = timevlm(*command, *bad)
        assert done.exit_code == 2
        assert "Traceback" not in done.output
