"""What is particular to each multiple-choice benchmark: prompts, defects, averages, submissions."""

import json

import pytest

from eval.benchmarks import get
from eval.benchmarks.prompts import letter_list, split_question, without_letters
from eval.records import Reply
from tests.eval.benchmarks.test_layouts import row_of
from tests.eval.miniatures import build
from timevlm import InputError
from timevlm.video import probe


def load(name, folder, *, split=None, variant="official", subtitles=False):
    benchmark = get(name)
    data = build(name, folder / name, variant=variant)
    split = split or benchmark.splits[0]
    return benchmark, data, list(benchmark.samples(data, split, subtitles=subtitles))


def answer(benchmark, samples, replies):
    return [
        row_of(sample, Reply(raw=raw), benchmark)
        for sample, raw in zip(samples, replies, strict=True)
    ]


def lines(tables, title="overall"):
    return {row["name"]: row for row in tables[title]}


def test_two_layouts_of_one_benchmark_give_the_same_samples(tmp_path):
    for name, variant, split in (
        ("videomme", "json", "test"),
        ("longvideobench", "parquet", "val"),
        ("longvideobench", "parquet", "test"),
        ("egoschema", "repository", "full"),
        ("lvbench", "flat", "test"),
    ):
        benchmark = get(name)
        official = build(name, tmp_path / f"{name}-{split}")
        other = build(name, tmp_path / f"{name}-{split}-{variant}", variant=variant)
        for one, two in zip(
            benchmark.samples(official, split), benchmark.samples(other, split), strict=True
        ):
            assert (one.id, one.question, one.options, one.gold, one.tags) == (
                two.id,
                two.question,
                two.options,
                two.gold,
                two.tags,
            )


# Video-MME


def test_videomme_official_prompt(tmp_path):
    benchmark, _, samples = load("videomme", tmp_path)
    prompt = benchmark.prompt(samples[0], num_frames=4, duration_seconds=4.0)
    assert prompt.text.splitlines() == [
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, or D) of the correct option.",
        "What does the girl do at moment 1?",
        "A. She rests.",
        "B. She swims.",
        "C. She sings.",
        "D. She reads.",
        "The best answer is:",
    ]
    timeviper = benchmark.prompt(samples[0], num_frames=4, duration_seconds=4.0, style="timeviper")
    assert timeviper.answer_prefix == "Best Option: ("


def test_videomme_shows_only_the_subtitles_of_the_frames(tmp_path):
    benchmark, data, samples = load("videomme", tmp_path, subtitles=True)
    cues = benchmark.cues(samples[0], data)
    sizes = {"num_frames": 2, "duration_seconds": 4.0}
    plain = benchmark.prompt(samples[0], **sizes).text
    early = benchmark.prompt(samples[0], **sizes, frame_seconds=[0.0, 1.0], cues=cues).text
    assert early == f"This video's subtitles are listed below:\nLook at the boat\n{plain}"
    late = benchmark.prompt(samples[0], **sizes, frame_seconds=[3.95], cues=cues).text
    assert late == plain
    full = benchmark.prompt(samples[0], **sizes, cues=cues).text
    assert "It is yellow\n42\n" in full
    without = next(sample for sample in samples if sample.subtitle is None)
    assert benchmark.cues(without, data) == ()
    latin = next(sample for sample in samples if sample.cluster == "zzTESTvid03")
    assert benchmark.cues(latin, data)[0].text == "At the caf\u00e9"


def test_videomme_reports_long_videos_without_subtitles(tmp_path):
    benchmark, data, _ = load("videomme", tmp_path)
    (data / "subtitle/zzTESTvid03.srt").unlink()
    problems = benchmark.check(data, subtitles=True)
    assert any("1 long videos" in str(problem) for problem in problems)
    for path in (data / "subtitle").iterdir():
        path.unlink()
    assert any(problem.level == "fatal" for problem in benchmark.check(data, subtitles=True))


def test_videomme_equal_option_texts_are_never_mapped_to_a_letter(tmp_path):
    benchmark, _, samples = load("videomme", tmp_path)
    twice = samples[1]
    assert twice.options[2] == twice.options[3]
    assert benchmark.grade(twice, "C").score == 1.0
    assert benchmark.grade(twice, "D").score == 0.0
    assert benchmark.grade(twice, "She sings.").parsed is None


def test_videomme_counts_unreadable_answers_as_wrong_and_the_official_script_does_not(tmp_path):
    benchmark, _, samples = load("videomme", tmp_path)
    replies = ["B", "C", "B", "", "no idea", ""]
    overall = lines(benchmark.score(answer(benchmark, samples, replies)))
    assert overall["accuracy"]["value"] == pytest.approx(50.0)
    assert overall["compat_official"]["value"] == pytest.approx(100.0)
    assert overall["accuracy"]["low"] <= 50.0 <= overall["accuracy"]["high"]
    tables = benchmark.score(answer(benchmark, samples, replies))
    assert set(lines(tables, "by duration")) == {"short", "medium", "long"}
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert (counted["n_total"], counted["n_unparsed"]) == (6, 3)
    assert lines(tables, "baselines")["always B"]["value"] == pytest.approx(50.0)


# LVBench


def test_lvbench_splits_options_off_a_stem_of_several_lines(tmp_path):
    _, _, samples = load("lvbench", tmp_path)
    assert samples[0].question == "What is on the baker's table\nat the end?"
    assert samples[0].options == ("A radio", "Two loaves", "A map", "Nothing")


def test_lvbench_counts_a_question_once_and_timeviper_once_per_label(tmp_path):
    benchmark, _, samples = load("lvbench", tmp_path)
    tables = benchmark.score(answer(benchmark, samples, ["B", "B", "B"]))
    assert lines(tables)["accuracy"]["value"] == pytest.approx(100 / 3)
    assert lines(tables)["accuracy_timeviper"]["value"] == pytest.approx(50.0)
    assert lines(tables, "by question_type")["temporal grounding"]["value"] == 100.0


def test_lvbench_numbered_files_follow_the_lines_of_the_annotation(tmp_path):
    _, _, samples = load("lvbench", tmp_path, variant="numbered")
    assert [sample.video for sample in samples] == [
        "all_videos/00000000.mp4",
        "all_videos/00000000.mp4",
        "all_videos/00000001.mp4",
    ]


# LongVideoBench


def test_longvideobench_subtitles_are_moved_into_video_time(tmp_path):
    benchmark, data, samples = load("longvideobench", tmp_path, subtitles=True)
    cues = benchmark.cues(samples[0], data)
    assert [(cue.start, cue.end, cue.text) for cue in cues] == [
        (0.5, pytest.approx(1.2), "here we go"),
        (2.0, 4.0, "to the end"),
    ]
    sizes = {"num_frames": 2, "duration_seconds": 4.0}
    text = benchmark.prompt(samples[0], **sizes, frame_seconds=[0.4], cues=cues).text
    assert "0.5s - 1.2s: here we go" in text
    assert "to the end" not in text


def test_longvideobench_test_split_has_no_gold_and_writes_a_submission(tmp_path):
    benchmark, _, samples = load("longvideobench", tmp_path, split="test")
    rows = answer(benchmark, samples, ["E", "maybe"])
    assert benchmark.submission(rows) == ("longvideobench_test.json", {"zzLB01_0": "E"})
    tables = benchmark.score(rows)
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert counted["n_unscored"] == 2
    assert tables["overall"][0]["value"] is None


def test_longvideobench_letters_stop_at_the_options_of_the_question(tmp_path):
    benchmark, _, samples = load("longvideobench", tmp_path)
    assert benchmark.grade(samples[0], "E").parsed == 4
    assert benchmark.grade(samples[1], "E").parsed is None


# MLVU


def test_mlvu_macro_differs_from_micro(tmp_path):
    benchmark, _, samples = load("mlvu", tmp_path)
    replies = ["C" if sample.tags["task"] == "count" else "" for sample in samples]
    overall = lines(benchmark.score(answer(benchmark, samples, replies)))
    assert overall["M-Avg"]["value"] == pytest.approx(100 / 7)
    assert overall["accuracy_timeviper"]["value"] == pytest.approx(100 / len(samples))


def test_mlvu_golds_outside_the_options(tmp_path):
    benchmark, _, samples = load("mlvu", tmp_path)
    needle = {sample.id: sample for sample in samples if sample.tags["task"] == "findNeedle"}
    assert needle["mlvu:dev:2_needle-0"].options[1] == "Catching the drone"
    assert needle["mlvu:dev:2_needle-0"].gold == 1
    lost = needle["mlvu:dev:2_needle-2"]
    assert lost.gold is None
    assert all(benchmark.grade(lost, letter).score == 0.0 for letter in "ABCD")


def test_mlvu_an_option_that_reads_like_the_gold_is_right(tmp_path):
    benchmark, _, samples = load("mlvu", tmp_path)
    (count,) = [sample for sample in samples if sample.tags["task"] == "count"]
    assert count.options == ("2", "3", "3", "4")
    assert [benchmark.grade(count, letter).score for letter in "ABCD"] == [0.0, 1.0, 1.0, 0.0]
    assert benchmark.grade_value(count, 2).score == 1.0


def test_cgbench_has_up_to_eight_options_and_subtitles(tmp_path):
    benchmark, data, samples = load("cgbench", tmp_path)
    assert [(len(s.options), s.gold, s.cluster) for s in samples] == [
        (8, 7, "zzCG0"),
        (5, 1, "zzCG0"),
        (6, 5, "zzCG1"),
    ]
    overall = lines(benchmark.score(answer(benchmark, samples, ["(h)", "H", "The answer is F"])))
    assert overall["long-acc"]["value"] == pytest.approx(200 / 3)  # five options end with E
    prompt = benchmark.prompt(samples[0], num_frames=4, duration_seconds=4.0).text
    assert "A, B, C, D, E, F, G, or H" in prompt
    with_subtitles = list(benchmark.samples(data, "mini", subtitles=True))
    assert [s.subtitle is not None for s in with_subtitles] == [True, True, False]
    assert benchmark.cues(with_subtitles[0], data)[0].text == "A bag, then"
    rows = json.loads((data / "cgbench_mini.json").read_text())
    del rows[1]["right_answer"]
    (data / "cgbench_mini.json").write_text(json.dumps(rows))
    assert [s.gold for s in benchmark.samples(data, "mini")] == [7, 1, 5]  # by the answer's text


def test_mlvu_test_has_six_letters_and_a_submission(tmp_path):
    benchmark, data, samples = load("mlvu", tmp_path, split="test")
    assert benchmark.grade(samples[0], "F) a hat").parsed == 5
    name, answers = benchmark.submission(answer(benchmark, samples, ["F", ""]))
    assert name == "mlvu_test.json"
    assert answers == [
        {"question_id": "NQA_0", "question_type": "needleQA", "option": "F"},
        {"question_id": "NQA_1", "question_type": "needleQA", "option": ""},
    ]
    (data / "MLVU/json/5_order.json").unlink()
    with pytest.raises(InputError, match=r"lacks 5_order\.json"):
        list(benchmark.samples(data, "dev"))


# MVBench


def test_mvbench_clips_and_folders(tmp_path):
    _, _, samples = load("mvbench", tmp_path, variant="wrapped")
    by_task = {sample.tags["task"]: sample for sample in samples if sample.id.endswith("-1")}
    assert by_task["action_sequence"].clip == (0.5, 3.0)
    assert by_task["state_change"].clip is None
    assert by_task["state_change"].video == "video/data0613/perception/videos/zz1.mp4"
    assert by_task["action_antonym"].video.endswith("ssv2_video/zz1.webm")
    assert by_task["moving_count"].cluster != by_task["scene_transition"].cluster


def test_mvbench_an_empty_reply_is_wrong_but_right_by_the_official_rules(tmp_path):
    benchmark, _, samples = load("mvbench", tmp_path)
    assert benchmark.grade(samples[0], "").score == 0.0
    assert benchmark.grade(samples[0], "", rules="official").score == 1.0


def test_mvbench_one_option_is_a_question_too(tmp_path):
    benchmark, _, samples = load("mvbench", tmp_path)
    (single,) = [sample for sample in samples if len(sample.options) == 1]
    assert benchmark.grade(single, "A").score == 1.0
    assert benchmark.grade(single, "B").parsed is None


def test_mvbench_wraps_pictures_into_a_file_that_opens(tmp_path):
    benchmark, data, _ = load("mvbench", tmp_path)
    assert any("folders of pictures" in str(problem) for problem in benchmark.check(data))
    assert benchmark.prepare(data, "test") == 2
    assert benchmark.prepare(data, "test") == 0
    assert not any("folders of pictures" in str(problem) for problem in benchmark.check(data))
    wrapped = [s for s in benchmark.samples(data, "test") if s.video.endswith(".mkv")]
    assert {sample.tags["task"] for sample in wrapped} == {"episodic_reasoning"}
    info = probe(data / wrapped[0].video)
    assert info.num_frames == 6
    assert info.duration_seconds == pytest.approx(2.0, abs=0.02)
    assert (info.height, info.width) == (48, 64)


# EgoSchema


def test_egoschema_full_split_is_for_the_server(tmp_path):
    benchmark, _, samples = load("egoschema", tmp_path, split="full")
    assert all(sample.gold is None for sample in samples)
    rows = answer(benchmark, samples, ["B", "E", ""])
    name, answers = benchmark.submission(rows)
    assert name == "egoschema_full.json"
    assert list(answers.values()) == [1, 4, -1]
    subset, _, known = load("egoschema", tmp_path / "again")
    assert subset.submission(answer(subset, known, ["A", "B"])) is None


# TempCompass


def test_tempcompass_forms_of_answers(tmp_path):
    benchmark, _, samples = load("tempcompass", tmp_path)
    first = {sample.tags["task"]: sample for sample in reversed(samples)}
    yes = first["yes_no"]
    assert benchmark.grade(yes, "Yes, it is red.").score == 1.0
    assert benchmark.grade(yes, "I would say no").score == 0.0
    assert benchmark.grade(yes, "It may be yes or no").parsed is None
    match = first["caption_matching"]
    assert match.options == ("The car goes left.", "The car stops.")
    for raw, parsed in (("Option 2", 1), ("2", 1), ("The car stops.", 1)):
        assert benchmark.grade(match, raw).parsed == parsed, raw
    assert benchmark.grade(match, "Option 1 beats Option 2").parsed is None
    prompt = benchmark.prompt(match, num_frames=1, duration_seconds=1.0).text
    assert "Option 2: The car stops." in prompt
    caption = first["captioning"]
    assert caption.extra["facts"]["A"] == "{'subject': 'car'}"
    assert benchmark.grade(caption, "A car drives.").score is None


def test_tempcompass_average_is_the_mean_of_the_tasks(tmp_path):
    benchmark, _, samples = load("tempcompass", tmp_path)
    replies = ["yes" if sample.tags["task"] == "yes_no" else "" for sample in samples]
    overall = lines(benchmark.score(answer(benchmark, samples, replies)))
    assert overall["yes_no"]["value"] == pytest.approx(200 / 3)
    assert overall["average"]["value"] == pytest.approx(200 / 9)


# Shared pieces


@pytest.mark.parametrize(
    ("text", "stem", "options"),
    [
        ("Who?\n(A) x\n(B) y", "Who?", ("x", "y")),
        ("Who?\nA. x\nB. y\nC. z", "Who?", ("x", "y", "z")),
        ("Who is\nA. Smith?\n(A) x\n(B) y", "Who is\nA. Smith?", ("x", "y")),
        ("Who?\nA) x, or so\nmore\nB) y", "Who?", ("x, or so\nmore", "y")),
        ("No options here", "No options here", ()),
        ("Only\n(A) one", "Only\n(A) one", ()),
    ],
)
def test_split_question(text, stem, options):
    assert split_question(text) == (stem, options)


def test_letters_are_taken_off_only_where_they_are_markers():
    assert without_letters(["A. x", "(B) y", "C) z", "Dogs run"]) == ("x", "y", "z", "Dogs run")
    assert without_letters(["A cat", "B. B. King"]) == ("A cat", "B. King")
    assert [letter_list(n) for n in (1, 2, 4)] == ["A", "A or B", "A, B, C, or D"]
