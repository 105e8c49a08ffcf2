"""Every layout that users have: samples, check, prompts and the whole way to a score."""

import json
import os
from pathlib import Path

import pytest

from eval.benchmarks import STYLES, available, get
from eval.benchmarks.files import VideoIndex, read_rows, write_rows
from eval.records import NATIVE_RULE, ROW_KEYS, Reply, Sample, scoring_row
from tests.eval.miniature_files import write_parquet
from tests.eval.miniatures import build, variants
from timevlm import InputError

LAYOUTS = [(name, variant, split) for name, variant in variants() for split in get(name).splits]
# Splits whose gold is hidden, and tasks that a judge scores.
UNSCORED = {
    *(("longvideobench", variant, "test") for variant in ("official", "parquet")),
    *(("egoschema", variant, "full") for variant in ("official", "repository")),
    *(("tempcompass", variant, "captioning") for variant in ("official", "hub")),
    *(layout for layout in LAYOUTS if layout[0] in ("vdc", "mlvugeneration")),
    ("mlvu", "official", "test"),
}


@pytest.fixture(autouse=True)
def _without_java(monkeypatch):
    """METEOR takes seconds to start; other tests score with a stand-in for it."""
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: False)


def layout_id(layout):
    return "-".join(layout)


class Miniatures(dict):
    """Folder by (benchmark, variant), written when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __missing__(self, key: tuple[str, str]) -> Path:
        self[key] = build(key[0], self.root / "-".join(key), variant=key[1])
        return self[key]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Miniatures(tmp_path_factory.mktemp("layouts"))


def row_of(sample: Sample, reply: Reply, benchmark, *, error: str | None = None) -> dict:
    """The scoring row that a run would write for a reply."""
    grade = benchmark.grade_reply(sample, reply)
    native = reply.choice is not None or reply.spans or reply.captions
    row = dict.fromkeys(ROW_KEYS) | {
        "id": sample.id,
        "bench": sample.bench,
        "raw": reply.raw,
        "parsed": None if error else grade.parsed,
        "parse_rule": NATIVE_RULE if native else grade.rule,
        "score": grade.score,
        "error": error,
        "schema_version": 1,
        "details": {},
    }
    return scoring_row(sample, row)


def right_reply(sample: Sample) -> str:
    """Words that answer a sample rightly in the form that its prompt asks for."""
    if sample.task == "choice":
        if sample.gold is None:
            return "A"
        if sample.options == ("yes", "no"):
            return sample.options[sample.gold]
        if sample.bench == "tempcompass" and "Option 1: " in sample.extra["labels"]:
            return f"Option {sample.gold + 1}"
        return "ABCDEFGH"[sample.gold]
    if sample.task == "grounding":
        start, end = max(sample.gold, key=lambda span: span[1] - span[0])
        return f"The event happens in the {start} - {end} seconds."
    if sample.task == "dense_caption":
        return "\n".join(f"{s:.1f} - {e:.1f} seconds, {text}" for s, e, text in sample.gold)
    return "A long caption."


def test_every_benchmark_has_a_miniature():
    assert {name for name, _ in variants()} == set(available())


@pytest.mark.parametrize("layout", LAYOUTS, ids=layout_id)
def test_samples_are_complete_and_stable(folders, layout):
    name, variant, split = layout
    benchmark, data = get(name), folders[name, variant]
    samples = list(benchmark.samples(data, split))
    assert samples
    assert len({sample.id for sample in samples}) == len(samples)
    assert samples == list(benchmark.samples(data, split))
    for sample in samples:
        assert sample.id.startswith(f"{name}:")
        assert (data / sample.video).exists(), sample.video
        assert not Path(sample.video).is_absolute()
        assert Sample.from_dict(json.loads(json.dumps(sample.to_dict()))) == sample


@pytest.mark.parametrize("layout", LAYOUTS, ids=layout_id)
def test_check_finds_nothing_fatal_and_nothing_missing_in_a_whole_folder(folders, layout):
    name, variant, split = layout
    problems = get(name).check(folders[name, variant], split)
    levels = {problem.level for problem in problems}
    # MVBench's folders of pictures wait for `prepare`.
    assert levels <= ({"note", "missing"} if name == "mvbench" else {"note"}), problems


@pytest.mark.parametrize("layout", LAYOUTS, ids=layout_id)
def test_every_style_words_a_prompt_that_holds_the_question(folders, layout):
    name, variant, split = layout
    benchmark = get(name)
    for sample in benchmark.samples(folders[name, variant], split):
        texts = []
        for style in STYLES:
            prompt = benchmark.prompt(sample, num_frames=8, duration_seconds=4.0, style=style)
            texts.append(prompt.text)
            if sample.task == "choice":
                assert sample.question in prompt.text
                if sample.options != ("yes", "no"):
                    assert all(option in prompt.text for option in sample.options)
            if sample.task == "grounding":
                assert sample.question in prompt.text
        assert all(text.strip() for text in texts)


@pytest.mark.parametrize("layout", [x for x in LAYOUTS if x not in UNSCORED], ids=layout_id)
def test_right_replies_score_all_and_errors_score_nothing(folders, layout):
    name, variant, split = layout
    benchmark = get(name)
    samples = list(benchmark.samples(folders[name, variant], split))
    scored = [sample for sample in samples if sample.task != "detailed_caption"]
    right = [row_of(sample, Reply(raw=right_reply(sample)), benchmark) for sample in scored]
    matched = [row for row in right if "gold_text" not in row["extra"]]
    headline = benchmark.score(matched)["overall"][0]
    assert headline["value"] == pytest.approx(100.0)
    wrong = [row_of(sample, Reply(raw=""), benchmark, error="decoding failed") for sample in scored]
    tables = benchmark.score(wrong)
    assert tables["overall"][0]["value"] == 0.0
    numbers = {row["name"]: row["value"] for row in tables["counts"]}
    assert numbers["n_error"] == numbers["n_total"] == len(scored)
    assert numbers["n_answered"] == numbers["n_unparsed"] == 0
    assert json.loads(json.dumps(tables)) == tables


@pytest.mark.parametrize("name", available())
def test_an_empty_folder_is_one_fatal_line_that_names_what_was_looked_for(tmp_path, name):
    benchmark = get(name)
    (problem,) = benchmark.check(tmp_path)
    assert problem.level == "fatal"
    assert "\n" not in str(problem)
    assert str(tmp_path) in problem.what
    with pytest.raises(InputError):
        list(benchmark.samples(tmp_path, benchmark.splits[0]))


@pytest.mark.parametrize("name", available())
def test_a_folder_that_does_not_exist_and_an_unknown_split(tmp_path, name):
    benchmark = get(name)
    assert benchmark.check(tmp_path / "nowhere")[0].level == "fatal"
    with pytest.raises(InputError, match="no split"):
        list(benchmark.samples(tmp_path, "nosuch"))


@pytest.mark.parametrize(("name", "variant"), variants())
def test_rows_of_another_form_are_one_fatal_line(tmp_path, name, variant):
    data = build(name, tmp_path / name, variant=variant)
    foreign = [{"unexpected": 1}]
    for path in [p for p in data.rglob("*") if p.is_file() and "subtitle" not in str(p)]:
        if path.suffix == ".parquet":
            write_parquet(path, foreign)
        elif path.suffix in (".json", ".jsonl"):
            write_rows(path, foreign)
        elif path.suffix in (".txt", ".csv"):
            path.write_text("unexpected\n1\n")
    (problem,) = get(name).check(data)
    assert problem.level == "fatal"
    assert "\n" not in problem.what


@pytest.mark.parametrize("name", available())
def test_missing_and_empty_videos_are_listed_one_by_one(tmp_path, name):
    benchmark = get(name)
    data = build(name, tmp_path / name)
    videos = sorted({sample.video for sample in benchmark.samples(data, benchmark.splits[0])})
    files = [video for video in videos if (data / video).is_file()]
    (data / files[0]).unlink()
    os.truncate(data / files[-1], 0)
    problems = [p for p in benchmark.check(data) if p.level == "missing" and p.paths]
    listed = [path for problem in problems for path in problem.paths]
    assert len(listed) == 2
    assert files[-1] in listed
    assert Path(files[0]).stem.removeprefix("v_") in listed[0]


@pytest.mark.parametrize("name", available())
def test_versions_titles_and_published_scores_have_sources(name):
    benchmark = get(name)
    assert benchmark.version
    assert benchmark.title
    assert benchmark.name == name
    for score in benchmark.published:
        assert score.source
        assert 0 <= score.value <= 100
    keys = [(score.model, score.metric, score.source, score.note) for score in benchmark.published]
    assert len(set(keys)) == len(keys)


def test_published_metrics_are_names_of_our_tables(folders):
    # VDC's scores carry the judge's name and have a test of their own.
    for name in set(available()) - {"vdc"}:
        benchmark = get(name)
        samples = list(benchmark.samples(folders[name, "official"], benchmark.splits[0]))
        rows = [row_of(sample, Reply(raw=right_reply(sample)), benchmark) for sample in samples]
        tables = benchmark.score(rows)
        names = {row["name"] for row in tables["overall"]}
        for title, lines in tables.items():
            tag = title.removeprefix("by ")
            names |= {f"{tag}: {row['name']}" for row in lines}
        missing = {score.metric for score in benchmark.published} - names
        assert not missing, (name, missing, names)


def test_unknown_benchmarks_get_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'videomme'"):
        get("videome")
    assert get("Charades-STA").name == "charades"
    assert get("video_mme").name == "videomme"


def test_the_index_prefers_the_official_place_and_the_usual_suffix(tmp_path):
    for place in ("a/x.MP4", "a/x.webm", "b/data0613/c/x.mkv", "d.e/-y.2.mp4"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"0")
    index = VideoIndex(tmp_path)
    assert index.find("a/x.mp4") == "a/x.MP4"
    assert index.find("a/x.webm") == "a/x.webm"
    assert index.find("b/c/x.mp4") == "b/data0613/c/x.mkv"
    assert index.find("b/c/x.mp4", strict=True) == "b/data0613/c/x.mkv"
    assert index.find("c/z/x.mp4", strict=True) is None
    assert index.find("videos/-y.2.mp4") == "d.e/-y.2.mp4"
    assert index.locate("videos/none.mp4") == "videos/none.mp4"


def test_the_index_follows_links_once(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/x.mp4").write_bytes(b"0")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/videos").symlink_to(tmp_path / "store")
    (tmp_path / "store/loop").symlink_to(tmp_path / "data")
    assert VideoIndex(tmp_path / "data").find("videos/x.mp4") == "videos/x.mp4"


def test_damaged_annotations_say_which_file(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("[{")
    with pytest.raises(InputError, match=r"rows\.json cannot be read"):
        read_rows(path)
    path.write_text('{"a": 1}')
    with pytest.raises(InputError, match="list of records"):
        read_rows(path)


def test_a_damaged_parquet_file_says_which(tmp_path):
    pytest.importorskip("pyarrow")
    parquet = tmp_path / "rows.parquet"
    parquet.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"rows\.parquet cannot be read"):
        read_rows(parquet)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_rows_are_read_as_written(tmp_path, suffix):
    rows = [{"a": "\u00e9", "b": [1, 2]}, {"a": "\u2028", "b": []}]
    assert read_rows(write_rows(tmp_path / f"new/rows{suffix}", rows)) == rows
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"rows{suffix}"]
