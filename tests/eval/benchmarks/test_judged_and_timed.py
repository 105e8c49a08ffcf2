"""Grounding, dense captions, ToyWorld-QA, and captions with a stand-in for the judge."""

import json

import pytest

from eval.benchmarks import get
from eval.benchmarks.vdc import TASKS, caption_wordings
from eval.metrics.captioning import rouge_l
from eval.metrics.meteor import MeteorError
from eval.records import Reply
from eval.report.content import table_kind
from eval.report.further import further_tables
from tests.eval.benchmarks.test_choice_benchmarks import answer, lines, load
from tests.eval.benchmarks.test_layouts import right_reply, row_of
from timevlm import InputError


class StandInJudge:
    """Answers every question from a function of the prompt's last message."""

    name = "stand-in"

    def __init__(self, reply):
        self.reply = reply
        self.asked = []

    def ask_all(self, requests, *, accept=bool, on_reply=None):
        texts = [request.messages[-1]["content"] for request in requests]
        self.asked += texts
        return [self.reply(text) for text in texts]


class FakeMeteor:
    """ROUGE-L in METEOR's place, without Java."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def __call__(self, hypotheses, references):
        return rouge_l(hypotheses, references)


@pytest.fixture(autouse=True)
def _without_java(monkeypatch):
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: False)


# Grounding


def test_charades_reads_lines_and_durations(tmp_path):
    _, _, samples = load("charades", tmp_path)
    assert [(s.id, s.question, s.gold) for s in samples[:2]] == [
        ("charades:test:ZZTST-0", "a person folds the blue blanket.", ((0.5, 2.5),)),
        ("charades:test:ZZTST-1", "the person leaves.", ((3.0, 4.6),)),
    ]
    assert samples[0].extra["duration"] == 4.0


def test_charades_refuses_other_lines(tmp_path):
    benchmark, data, _ = load("charades", tmp_path)
    (data / "charades_sta_test.txt").write_text("ZZTST 0.5 a person##x\n")
    with pytest.raises(InputError, match="line 1"):
        list(benchmark.samples(data, "test"))


def test_grounding_scores_baselines_and_counts(tmp_path):
    benchmark, _, samples = load("charades", tmp_path)
    rows = answer(benchmark, samples, ["2.5 to 0.5", "3.0 - 4.0", "I cannot find it."])
    tables = benchmark.score(rows)
    overall = lines(tables)
    assert overall["mIoU"]["value"] == pytest.approx(100 * (1 + 1 / 1.6 + 0) / 3)
    assert overall["R@1,IoU>=0.5"]["value"] == pytest.approx(200 / 3)
    # Clipped at 4.0 s the second gold is met exactly.
    assert overall["mIoU, gold clipped"]["value"] == pytest.approx(200 / 3)
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert counted["n_swapped"] == 1
    assert counted["n_gold_beyond_video"] == 1
    assert counted["n_unparsed"] == 1
    full = lines(tables, "baselines")["full video: mIoU"]["value"]
    assert full == pytest.approx(100 * (0.5 + 1 / 4.6 + 0.5) / 3)


def test_iou_of_exactly_a_half_is_a_hit_with_at_least_but_not_with_more(tmp_path):
    benchmark, _, samples = load("charades", tmp_path)
    (third,) = [sample for sample in samples if sample.id.endswith("ZZTWO-2")]
    overall = lines(benchmark.score(answer(benchmark, [third], ["0 - 4"])))
    assert overall["R@1,IoU>=0.5"]["value"] == 100.0
    assert overall["R@1,IoU>0.5"]["value"] == 0.0


def test_spans_from_the_model_itself_are_kept_under_every_rule_set(tmp_path):
    benchmark, _, samples = load("activitynet", tmp_path)
    rows = [row_of(s, Reply(raw="no words", spans=s.gold), benchmark) for s in samples]
    for rules in ("ours", "timeviper", "lmms", "official"):
        assert benchmark.score(rows, rules=rules)["overall"][0]["value"] == pytest.approx(100.0)


def test_grounding_prompts_by_style(tmp_path):
    benchmark, _, samples = load("activitynet", tmp_path)
    assert samples[0].question == "A man waxes a ski."
    sizes = {"num_frames": 16, "duration_seconds": 95.2}
    official = benchmark.prompt(samples[0], **sizes).text
    timeviper = benchmark.prompt(samples[0], **sizes, style="timeviper").text
    assert "The event happens in the start time - end time" in official
    assert "95.20 seconds, and 16 frames are uniformly sampled" in timeviper
    assert "'start to end' seconds" in timeviper


def test_without_durations_there_are_no_baselines(tmp_path):
    benchmark, _, samples = load("charades", tmp_path, variant="hub")
    tables = benchmark.score(answer(benchmark, samples, ["0.5 - 2.5", "0 - 2"]))
    assert tables["overall"][0]["value"] == 100.0
    assert "baselines" not in tables
    # A run measures what the annotations lack.
    rows = answer(benchmark, samples, ["0.5 - 2.5", "0 - 2"])
    for row in rows:
        row["details"] = {"duration_seconds": 4.0}
    full = lines(benchmark.score(rows), "baselines")["full video: mIoU"]
    assert (full["value"], full["n"]) == (pytest.approx(50.0), 2)


# Dense captions


def test_youcook2_orders_steps_and_takes_the_validation_videos(tmp_path):
    _, _, samples = load("youcook2", tmp_path)
    assert [sample.cluster for sample in samples] == ["zzCook0", "zzCook1"]
    assert samples[0].gold == samples[1].gold
    assert samples[0].gold[0] == (0.0, 2.0, "cut the onions")


def test_dense_scores_with_and_without_meteor(tmp_path, monkeypatch):
    benchmark, _, samples = load("youcook2", tmp_path)
    rows = answer(benchmark, samples, [right_reply(samples[0]), "nothing to tell"])
    tables = benchmark.score(rows)
    overall = lines(tables)
    assert overall["F1"]["value"] == pytest.approx(50.0)
    # 10 for an identical caption, 7.5 for one too short for 4-grams; the second video has none.
    assert overall["CIDEr"]["value"] == pytest.approx(100 * (10 + 7.5) / 2 / 2)
    assert overall["SODA, ROUGE-L"]["value"] == pytest.approx(50.0)
    assert overall["SODA_c"]["value"] is None
    assert "Java" in overall["SODA_c"]["note"]
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert (counted["n_unparsed"], counted["n_events"]) == (1, 2)
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: True)
    monkeypatch.setattr("eval.benchmarks.dense.Meteor", FakeMeteor)
    overall = lines(benchmark.score(rows))
    assert overall["SODA_c"]["value"] == pytest.approx(50.0)
    assert overall["METEOR"]["value"] == pytest.approx(50.0)


class SleepyMeteor(FakeMeteor):
    """Falls silent in the second of three metrics."""

    def __init__(self):
        self.calls = 0

    def __call__(self, hypotheses, references):
        self.calls += 1
        if self.calls > 1:
            raise MeteorError("METEOR was silent for 120 s")
        return super().__call__(hypotheses, references)


def test_a_silent_meteor_costs_its_own_lines_alone(tmp_path, monkeypatch):
    benchmark, _, samples = load("youcook2", tmp_path)
    rows = answer(benchmark, samples, [right_reply(samples[0]), "nothing to tell"])
    without = lines(benchmark.score(rows))
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: True)
    monkeypatch.setattr("eval.benchmarks.dense.Meteor", SleepyMeteor)
    tables = benchmark.score(rows)
    overall = lines(tables)
    assert list(overall) == list(without)
    assert overall["SODA_c"]["value"] == pytest.approx(50.0)
    for name in ("SODA_c, compat_official", "METEOR"):
        assert overall[name]["value"] is None
        assert "silent for 120 s" in overall[name]["note"]
    for name in ("F1", "CIDEr", "SODA, ROUGE-L"):
        assert overall[name] == without[name]
    assert set(tables) == {"overall", "by tIoU", "counts"}


def test_captions_from_the_model_itself(tmp_path):
    benchmark, _, samples = load("youcook2", tmp_path)
    reply = Reply(raw="", captions=tuple(samples[0].gold))
    rows = [row_of(sample, reply, benchmark) for sample in samples]
    assert lines(benchmark.score(rows))["F1"]["value"] == pytest.approx(100.0)
    assert json.loads(json.dumps(rows[0]["parsed"])) == rows[0]["parsed"]


# ToyWorld-QA


def test_toyworld_yields_the_three_tasks_video_by_video(tmp_path):
    benchmark, data, samples = load("toyworld", tmp_path)
    tasks = ["choice", "choice", "grounding", "dense_caption"]
    assert [sample.task for sample in samples] == tasks * 2
    assert [sample.cluster for sample in samples] == ["000"] * 4 + ["001"] * 4
    assert samples[0].id == "toyworld:test:000-q0"
    assert len(list(benchmark.samples(data, "choice"))) == 4
    assert len(list(benchmark.samples(data, "dense_caption"))) == 2


def test_toyworld_tables_of_all_tasks(tmp_path):
    benchmark, _, samples = load("toyworld", tmp_path)
    replies = [right_reply(sample) for sample in samples]
    tables = benchmark.score(answer(benchmark, samples, replies))
    assert [row["name"] for row in tables["overall"]] == ["accuracy", "mIoU", "F1"]
    assert all(row["value"] == pytest.approx(100.0) for row in tables["overall"])
    assert "grounding: baselines" in tables
    assert "by family" in tables
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert counted["n_total"] == 8


def test_toyworld_grounding_is_broken_down_by_family(tmp_path):
    benchmark, data, samples = load("toyworld", tmp_path)
    path = data / "annotations.json"
    path.write_text(path.read_text().replace('"family": "object"', '"family": "moment"', 1))
    queries = list(benchmark.samples(data, "grounding"))
    assert [sample.tags["family"] for sample in queries] == ["moment", "object"]
    tables = benchmark.score(answer(benchmark, queries, ["2 - 4", "no idea"]))
    found = {row["name"]: (row["value"], row["n"]) for row in tables["by family"]}
    assert found == {"moment": (100.0, 1), "object": (0.0, 1)}
    # Among the other tasks the title says whose families they are.
    everything = [*samples[:2], *queries]
    replies = [right_reply(sample) for sample in everything]
    tables = benchmark.score(answer(benchmark, everything, replies))
    assert [row["name"] for row in tables["by family"]] == ["colour", "exist"]
    assert [row["name"] for row in tables["grounding: by family"]] == ["moment", "object"]
    graded = benchmark.regrade(answer(benchmark, everything, replies), "ours")
    titles = set(further_tables(graded, tables))
    assert not any("by family" in title for title in titles)
    assert table_kind("grounding: by family") == "breakdowns"


def test_toyworld_span_counts_by_its_best_gold(tmp_path):
    benchmark, data, _ = load("toyworld", tmp_path)
    sample = next(benchmark.samples(data, "grounding"))
    assert sample.gold == ((0.0, 1.0), (2.0, 4.0))
    assert benchmark.grade(sample, "0 - 1").score == 1.0
    assert benchmark.grade(sample, "2 - 4").score == 1.0
    tables = benchmark.score(answer(benchmark, [sample], ["0 - 1"]))
    assert lines(tables, "baselines")["full video: mIoU"]["value"] == pytest.approx(50.0)


def test_toyworld_refuses_another_version(tmp_path):
    benchmark, data, _ = load("toyworld", tmp_path)
    path = data / "annotations.json"
    path.write_text(path.read_text().replace("ToyWorld-QA v1", "ToyWorld-QA v9"))
    with pytest.raises(InputError, match="'ToyWorld-QA v9'; this program reads 'ToyWorld-QA v1'"):
        list(benchmark.samples(data, "all"))


# VDC


def test_vdc_wordings_are_drawn_by_the_sample_not_by_chance(tmp_path):
    benchmark, _, samples = load("vdc", tmp_path)
    assert {task: len(set(caption_wordings(task))) for task in TASKS} == {
        "detailed": 24,
        "short": 16,
        "background": 16,
        "main_object": 16,
        "camera": 16,
    }
    sizes = {"num_frames": 4, "duration_seconds": 4.0}
    once = [benchmark.prompt(sample, **sizes).text for sample in samples]
    assert once == [benchmark.prompt(sample, **sizes).text for sample in samples]
    assert len(set(once)) > len(TASKS)
    plain = {benchmark.prompt(sample, **sizes, style="plain").text for sample in samples}
    assert plain == {caption_wordings(task)[0] for task in TASKS}


def test_vdc_questions_of_one_video_on_two_lines_belong_together(tmp_path):
    _, _, samples = load("vdc", tmp_path, split="main_object")
    assert [len(sample.extra["qa"]) for sample in samples] == [3, 2]


def test_vdc_without_and_with_a_judge(tmp_path):
    benchmark, _, samples = load("vdc", tmp_path)
    replies = ["" if sample.cluster.endswith("1-test") else "A yellow kite." for sample in samples]
    rows = answer(benchmark, samples, replies)
    (waiting,) = benchmark.score(rows)["overall"]
    assert waiting["value"] is None
    assert "judge" in waiting["note"]
    judge = StandInJudge(lambda text: "{'pred': 'yes', 'score': 4}" if "Given" in text else "red")
    tables = benchmark.score_judged(rows, judge)
    overall = lines(tables)
    assert overall["VDCscore: accuracy (stand-in)"]["value"] == pytest.approx(50.0)
    assert overall["detailed: score (stand-in)"]["value"] == pytest.approx(2.0)
    # The published script leaves the empty caption's zero out.
    compat = lines(tables, "by task")["detailed: accuracy, compat_official"]
    assert (compat["value"], compat["n"]) == (pytest.approx(100.0), 1)
    # Two steps for each question of the five captions that exist.
    assert len(judge.asked) == 2 * sum(
        len(s.extra["qa"]) for s, raw in zip(samples, replies, strict=True) if raw
    )
    metrics = {score.metric for score in benchmark.published}
    ours = {name.replace("stand-in", "Llama-3.1-8B-Instruct") for name in overall}
    assert metrics <= ours


def test_vdc_one_task_has_no_vdcscore(tmp_path):
    benchmark, _, samples = load("vdc", tmp_path, split="detailed")
    judge = StandInJudge(lambda text: "not a verdict")
    tables = benchmark.score_judged(answer(benchmark, samples, ["x", "y"]), judge)
    assert not any(name.startswith("VDCscore") for name in lines(tables))
    counted = {row["name"]: row["value"] for row in tables["counts"]}
    assert counted["n_judge_unparsed"] == sum(len(sample.extra["qa"]) for sample in samples)


def test_tempcompass_captioning_is_judged_by_the_fact_that_the_caption_agrees_with(tmp_path):
    benchmark, _, samples = load("tempcompass", tmp_path)
    rows = answer(benchmark, samples, [right_reply(sample) for sample in samples])
    for letter, value in (("A", 100.0), ("B", 75.0), ("hard to say", 75.0)):
        tables = benchmark.score_judged(rows, StandInJudge(lambda text, letter=letter: letter))
        overall = lines(tables)
        assert overall["average (stand-in)"]["value"] == pytest.approx(value)
    assert lines(benchmark.score(rows))["average"]["value"] == pytest.approx(100.0)
    assert get("tempcompass").needs_judge
