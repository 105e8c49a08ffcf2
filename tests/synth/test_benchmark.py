import csv
import hashlib
import json
import os
import sys

import av
import pytest
from click.testing import CliRunner

from timevlm.cli.synth import synth
from timevlm.errors import InputError
from timevlm.synth import benchmark, layouts
from timevlm.synth.benchmark import BenchmarkConfig, write_benchmark
from timevlm.synth.world import sample_video

parquet = pytest.importorskip("pyarrow.parquet")

SMALL = {"num_videos": 2, "size": 32, "fps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("toyworld")
    write_benchmark(path, BenchmarkConfig(**SMALL))
    return path


def _load(folder):
    return json.loads((folder / "annotations.json").read_text())


def test_version_1_asks_what_it_asks(folder):
    # Reported numbers refer to these very questions: a change needs a new version of the name.
    text = json.dumps(_load(folder)["videos"], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "3f9351a2fb3eea44"


def test_annotations_describe_the_videos(folder):
    data = _load(folder)
    assert (data["version"], data["split"], data["level"]) == ("ToyWorld-QA v1", "test", "full")
    assert [v["video"] for v in data["videos"]] == ["videos/000.mp4", "videos/001.mp4"]
    ids = [item["id"] for v in data["videos"] for item in (*v["questions"], *v["grounding"])]
    assert len(ids) == len(set(ids)) > 40
    for seed, video in enumerate(data["videos"]):
        spec = sample_video(seed, split="test", level="full")
        assert video["duration"] == spec.duration_seconds
        assert len(video["captions"]) == len(spec.scenes)
        assert video["summary"].startswith("The video has ")
        assert all(0 <= q["answer"] < len(q["options"]) for q in video["questions"])
        assert {"id", "family", "query", "spans"} == set(video["grounding"][0])
        with av.open(str(folder / video["video"])) as container:
            assert container.streams.video[0].width == 32
            seconds = container.duration / 1e6
        assert seconds == pytest.approx(spec.duration_seconds, abs=0.3)


def test_no_unfinished_file_is_left(folder):
    names = [p.name for p in folder.rglob("*") if p.is_file()]
    assert {os.path.splitext(name)[1] for name in names} == {
        *(".mp4", ".json", ".jsonl", ".parquet", ".txt", ".csv")
    }
    assert len(list((folder / "videos").iterdir())) == 2


def test_the_video_mme_layout(folder):
    table = parquet.read_table(folder / "videomme" / "videomme" / "test-00000-of-00001.parquet")
    strings = {
        name for name in table.schema.names if str(table.schema.field(name).type) == "string"
    }
    assert strings == set(table.schema.names) - {"options"}
    assert str(table.schema.field("options").type).startswith("list<")
    rows = table.to_pylist()
    questions = {q["id"]: q for v in _load(folder)["videos"] for q in v["questions"]}
    assert len(rows) > 20
    for row in rows:
        question = questions[row["question_id"]]
        right = question["options"][question["answer"]]
        assert row["options"]["ABCD".index(row["answer"])] == f"{row['answer']}. {right}"
        assert [option[:3] for option in row["options"]] == ["A. ", "B. ", "C. ", "D. "]
        assert row["duration"] in ("short", "medium", "long")
        assert (folder / "videomme" / "data" / f"{row['videoID']}.mp4").is_file()


def test_the_charades_layout(folder):
    base = folder / "charades"
    rows = list(csv.DictReader((base / "Charades_v1_test.csv").open()))
    lengths = {row["id"]: float(row["length"]) for row in rows}
    lines = (base / "charades_sta_test.txt").read_text().splitlines()
    assert lines
    for line in lines:
        place, sentence = line.split("##")
        video, start, end = place.split()
        assert 0.0 <= float(start) < float(end) <= lengths[video]
        assert sentence.endswith(".")
        assert (base / "Charades_v1_480" / f"{video}.mp4").is_file()


def test_the_activitynet_layout(folder):
    content = json.loads((folder / "activitynet" / "val_2.json").read_text())
    captions = [v["captions"] for v in _load(folder)["videos"]]
    for (video, entry), expected in zip(content.items(), captions, strict=True):
        assert entry["timestamps"] == [[c["start"], c["end"]] for c in expected]
        assert [s.lower() for s in entry["sentences"]] == [f"{c['text']}." for c in expected]
        assert (folder / "activitynet" / "videos" / f"{video}.mp4").is_file()


def test_the_vdc_layout(folder):
    base = folder / "vdc"
    rows = [json.loads(line) for line in (base / "VDC_1k.jsonl").read_text().splitlines()]
    assert len({row["video_id"] for row in rows}) == 2
    for row in rows:
        assert (base / "Test_Videos" / row["video_name"]).is_file()
        assert all(row[f"{task}_caption"].endswith(".") for task in layouts.VDC_TASKS)
    for task in layouts.VDC_TASKS:
        lines = (base / "VDCScore_qa" / f"{task}.jsonl").read_text().splitlines()
        for line, row in zip(lines, rows, strict=True):
            ((video_id, questions),) = json.loads(line).items()
            assert video_id == row["video_id"]
            assert all(set(q) == {"question", "answer", "category"} for q in questions)


def test_videos_are_stored_once(folder):
    linked = folder / "vdc" / "Test_Videos" / "000.mp4"
    assert os.path.samefile(linked, folder / "videos" / "000.mp4")


def test_a_run_goes_on_where_it_stopped_and_can_be_extended(folder, tmp_path, monkeypatch):
    written = []

    def fail_at_the_second(spec, path, **settings):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(spec.seed)
        original(spec, path, **settings)

    original = benchmark.write_video
    monkeypatch.setattr(benchmark, "write_video", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_benchmark(tmp_path, BenchmarkConfig(**SMALL))
    assert not (tmp_path / "annotations.json").exists()
    first = (tmp_path / "videos" / "000.mp4").stat().st_mtime_ns
    monkeypatch.setattr(benchmark, "write_video", original)
    done = []
    write_benchmark(tmp_path, BenchmarkConfig(**SMALL), progress=lambda *n: done.append(n))
    assert done == [(0, 2), (1, 2), (2, 2)]
    assert (tmp_path / "videos" / "000.mp4").stat().st_mtime_ns == first
    assert _load(tmp_path) == _load(folder)
    write_benchmark(tmp_path, BenchmarkConfig(**{**SMALL, "num_videos": 3}))
    assert _load(tmp_path)["videos"][:2] == _load(folder)["videos"]


def test_folders_of_other_settings_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="was made with split 'test', not 'val'; repeat"):
        write_benchmark(folder, BenchmarkConfig(**SMALL, split="val"))
    (tmp_path / "videos").mkdir()
    with pytest.raises(InputError, match=r"holds videos but no benchmark\.json"):
        write_benchmark(tmp_path, BenchmarkConfig(**SMALL))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_videos": 0}, "--n 0"),
        ({"size": 33}, "--size 33"),
        ({"fps": 0}, "--fps 0"),
        ({"level": "rich"}, "level 'rich' is unknown"),
        ({"split": "compositional", "level": "basic"}, "split 'compositional' is unknown"),
    ],
)
def test_settings_are_checked_before_anything_is_written(wrong, message):
    with pytest.raises(InputError, match=message):
        BenchmarkConfig(**{**SMALL, **wrong})


def test_the_command_writes_basic_videos_too(tmp_path):
    out = tmp_path / "basic"
    arguments = ["--level", "basic", "--split", "test", "--n", "1", "--size", "32", "--fps", "4"]
    result = CliRunner().invoke(synth, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("ToyWorld-QA v1: 1 videos of split test")
    assert _load(out)["level"] == "basic"


def test_a_missing_pyarrow_is_said_before_rendering(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="needs pyarrow; run pip install"):
        write_benchmark(tmp_path / "out", BenchmarkConfig(**SMALL))
    assert not (tmp_path / "out").exists()
