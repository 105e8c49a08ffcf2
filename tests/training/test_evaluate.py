"""Scores: intervals, overlaps, captions, processes, and what a model can be credited with."""

import json
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.table import Table

from tests.helpers import tiny_vlm
from tests.training.worker_tasks import open_double, open_fail
from timevlm.agreement import overlap_seconds
from timevlm.errors import InputError
from timevlm.results import Answer, Span
from timevlm.synth.items import Question
from timevlm.synth.long import MIN_SECONDS
from timevlm.training.evaluate import (
    EvaluationConfig,
    evaluate,
    evidence_rows,
    grounding_rows,
    span_rows,
)
from timevlm.training.evaluate_captions import (
    caption_events,
    caption_rows,
    essential_words,
    is_repeated,
    match_events,
    phrases_in_any_order,
)
from timevlm.training.evaluate_clips import (
    CLIP_LABELS,
    Clip,
    ClipFindings,
    cut_scores,
    foreign_questions,
    light_change,
    load_clips,
    matched_cuts,
    summarize_findings,
)
from timevlm.training.evaluate_length import LengthConfig, WorldFrames, evaluate_lengths, long_video
from timevlm.training.evaluate_scores import (
    Row,
    calibration,
    chance_of_overlap,
    summarize,
    tables_of,
)
from timevlm.training.evaluate_tables import as_markdown, calibration_table, score_table
from timevlm.training.evaluate_workers import Ledger, map_items


def test_a_mean_is_of_values_and_its_interval_of_clusters():
    one_video = summarize([0.0, 1.0, 1.0, 0.0], [5, 5, 5, 5])
    assert one_video == {"mean": 0.5, "low": 0.5, "high": 0.5, "count": 4}
    rng = random.Random(0)
    values = [float(rng.random() < 0.7) for _ in range(400)]
    alone = summarize(values, range(400))
    assert alone["low"] < 0.7 < alone["high"]
    assert alone["high"] - alone["low"] == pytest.approx(2 * 1.96 * (0.21 / 400) ** 0.5, rel=0.1)
    # The same answers, ten times each, are no more evidence than once.
    tenfold = summarize(values * 10, [*range(400)] * 10)
    assert tenfold["high"] - tenfold["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.05)
    with pytest.raises(ValueError, match="no values"):
        summarize([], [])


def test_tables_keep_families_apart_and_rows_survive_json():
    rows = [
        Row(table="questions", family=f, video=v, model=m, chance=0.25, confidence=0.5)
        for f, v, m in (("shape", 0, 1.0), ("colour", 0, 0.0), ("shape", 1, 0.0))
    ]
    assert [Row(**json.loads(json.dumps(row.to_dict()))) for row in rows] == rows
    table = tables_of(rows)["questions"]
    assert list(table) == ["colour", "shape"]
    assert table["shape"]["model"]["mean"] == 0.5
    assert table["shape"]["blind"] is None
    assert table["shape"]["chance"] == 0.25
    assert score_table("t", table, baseline="blind").row_count == 2


def test_calibration_error_is_the_distance_of_confidence_from_share_right():
    perfect = calibration([0.75] * 4, [1, 1, 1, 0])
    assert perfect["ece"] == pytest.approx(0.0)
    assert calibration([1.0] * 4, [1, 0, 0, 0])["ece"] == pytest.approx(0.75)
    # 0.05 too sure in one bin and 0.05 too unsure in another do not cancel.
    both = calibration([0.65] * 10 + [0.35] * 10, [1] * 6 + [0] * 4 + [1] * 4 + [0] * 6)
    assert both["ece"] == pytest.approx(0.05)
    assert both["overconfidence"] == pytest.approx(0.0)
    assert calibration_table("t", both).row_count == 2


@pytest.mark.parametrize(
    ("told", "true"),
    [
        ([(0.0, 1.0)], [(4.0, 6.0)]),
        ([(8.0, 10.0)], [(0.0, 1.0), (9.5, 10.0)]),
        ([(0.0, 2.0), (5.0, 6.0)], [(3.0, 4.0), (7.0, 9.0)]),
        ([(0.0, 10.0)], [(3.0, 4.0)]),
        ([(1.0, 9.0)], [(0.0, 3.0)]),
    ],
)
def test_the_chance_of_an_overlap_is_that_of_random_shifts(told, true):
    def hits(shift: float) -> bool:
        moved = [(s + shift + turn, e + shift + turn) for s, e in told for turn in (-10, 0, 10)]
        return overlap_seconds(moved, true) > 1e-9

    counted = sum(hits(i / 100) for i in range(1000)) / 1000
    assert chance_of_overlap(told, true, 10.0) == pytest.approx(counted, abs=0.01)


def test_evidence_is_scored_against_what_the_answer_rests_on():
    question = Question(
        family="colour",
        kind="colour.of_shape",
        text="?",
        answer="red",
        choices=("red", "blue"),
        answer_spans=((2.0, 4.0),),
    )
    spans = (Span(start=3.0, end=5.0, score=0.6), Span(start=8.0, end=9.0, score=0.2))
    answer = Answer(question="?", text="red", confidence=0.5, evidence=spans)
    scores = {row.family: row for row in evidence_rows(answer, question, 0, 20.0)}
    assert scores["overlaps"].model == 1.0
    assert scores["points right"].model == 0.0  # its middle is the event's end
    assert scores["inside"].model == pytest.approx(1 / 3)
    assert scores["inside"].chance == pytest.approx(0.1)
    assert evidence_rows(answer, question, 0, 3.9) == []  # it rests on most of the video


def test_grounding_rows_compare_with_the_whole_video():
    rows = grounding_rows(0, "scene", ([(0.0, 5.0)], [(0.0, 20.0)]), [(0.0, 10.0)])
    scores = {row.family: (row.model, row.blind) for row in rows}
    assert scores["mIoU"] == (0.5, 0.5)
    assert scores["R@1 IoU>=0.5"] == (1.0, 1.0)
    assert scores["R@1 IoU>=0.7"] == (0.0, 0.0)


def test_a_span_is_right_where_a_true_one_has_half_of_it():
    found = [Span(start=0.0, end=4.0, score=0.9), Span(start=6.0, end=9.0, score=0.3)]
    rows = span_rows(0, "motion", found, [(1.0, 5.0), (8.0, 9.5)])
    assert [(row.model, row.confidence) for row in rows] == [(1.0, 0.9), (0.0, 0.3)]


TRUE = [
    (0.0, 9.0, "a small red circle moves left and a blue star that turns green blinks"),
    (9.0, 20.0, "a ring grows, the camera pans left and the text 47 appears"),
]


def means(rows: list[Row]) -> dict[str, float]:
    return {f: row["model"]["mean"] for f, row in tables_of(rows)["captions"].items()}


def test_captions_are_taken_apart_into_events():
    assert [text for _, _, text in caption_events(TRUE)] == [
        "a small red circle moves left",
        "a blue star that turns green blinks",
        "a ring grows",
        "the camera pans left",
        "the text 47 appears",
    ]
    assert essential_words("a small red striped circle moves left") == "red circle moves left"


def test_true_captions_score_one_and_others_what_they_found():
    perfect = means(caption_rows(0, TRUE, TRUE))
    assert {perfect.pop("repeated"), perfect.pop("out of order")} == {0.0}
    assert set(perfect.values()) == {1.0}
    told = [(0.0, 9.0, "a red circle moves left and a pink star blinks"), TRUE[1], TRUE[1]]
    scores = means(caption_rows(0, told, TRUE))
    assert scores["event recall"] == pytest.approx(4 / 5)
    assert scores["event recall, every word"] == pytest.approx(3 / 5)  # "small" is missing
    assert scores["event precision"] == pytest.approx(4 / 8)  # a repeated line finds nothing new
    assert scores["scene found"] == 1.0
    assert scores["scene exact"] == 0.5
    assert scores["repeated"] == pytest.approx(1 / 3)


def test_an_event_at_another_time_is_not_found():
    late = [(start + 30, end + 30, text) for start, end, text in TRUE]
    assert means(caption_rows(0, late, TRUE))["event recall"] == 0.0
    assert match_events([(0.0, 5.0, "x")], [(0.0, 9.9, "x")]) == [(0, 0)]
    order = [(0.0, 5.0, text) for text in ("a red star spins and a ring grows", "A ring grows.")]
    turned = [(0.0, 5.0, "a ring grows and a red star spins")]
    assert match_events(turned, order, phrases_in_any_order) == [(0, 0)]
    assert match_events(turned, order[1:], phrases_in_any_order) == []
    assert match_events([(0.0, 4.0, "x")], [(0.0, 9.9, "x")]) == []


def test_a_line_is_repeated_next_to_its_like_or_at_the_same_time():
    lines = [(0, 4, "a"), (4, 8, "a"), (8, 9, "b"), (9, 12, "a"), (10, 14, "c"), (11, 13, "a")]
    assert is_repeated(lines) == [False, True, False, False, False, True]
    rows = caption_rows(0, [(5.0, 6.0, "b"), (1.0, 2.0, "a")], TRUE)
    assert means(rows)["out of order"] == 0.5


def test_processes_do_every_item_once():
    done = dict(map_items(partial(open_double, 1), list(range(7)), 2))
    assert done == {item: 2 * item + 1 for item in range(7)}
    assert dict(map_items(partial(open_double, 0), [3], 4)) == {3: 6}
    assert list(map_items(partial(open_double, 0), [], 2)) == []
    with pytest.raises(InputError, match="0 processes"):
        list(map_items(partial(open_double, 0), [1], 0))


def test_a_dead_worker_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 1"):
        list(map_items(open_fail, [1, 2], 2))


def test_a_ledger_goes_on_after_a_torn_line_and_refuses_other_settings(tmp_path):
    path = tmp_path / "rows.jsonl"
    ledger = Ledger(path, {"fps": 1})
    ledger.add("0", [1])
    with path.open("a") as file:
        file.write('{"item": "1", "resu')
    again = Ledger(path, {"fps": 1})
    assert again.done == {"0": [1]}
    again.add("1", [2])
    assert Ledger(path, {"fps": 1}).done == {"0": [1], "1": [2]}
    with pytest.raises(InputError, match="another fps"):
        Ledger(path, {"fps": 2})


def test_a_report_can_be_stopped_and_gone_on_with(tmp_path):
    vlm = tiny_vlm()
    short = EvaluationConfig(num_videos=2, per_family=1, queries=1, captions=False, seed=3)
    rows = tmp_path / "rows.jsonl"
    whole = evaluate(vlm, short, rows_file=rows)
    kept = rows.read_text().splitlines()[:2]  # the settings and the first video
    rows.write_text("\n".join(kept) + "\n")
    calls = []
    assert evaluate(vlm, short, rows_file=rows, progress=lambda *a: calls.append(a)) == whole
    assert calls == [(2, 2)]
    questions = whole["tables"]["questions"]
    assert next(iter(questions)) == "all"
    counts = [row["model"]["count"] for row in questions.values()]
    assert counts[0] == sum(counts[1:]) == whole["calibration"]["count"]
    assert set(whole["tables"]["grounding"]) == {
        "mIoU",
        *(f"R@1 IoU>={x}" for x in (0.3, 0.5, 0.7)),
    }
    assert whole["span_calibration"]["count"] == whole["tables"]["spans"]["right"]["model"]["count"]
    assert json.loads(json.dumps(whole)) == whole


def test_a_video_of_the_full_world_is_scored_whole():
    vlm = tiny_vlm()
    settings = {"num_videos": 1, "per_family": 1, "queries": 1, "fps": 0.5, "blind": False}
    basic = evaluate(vlm, EvaluationConfig(**settings))
    assert "event recall" in basic["tables"]["captions"]
    full = evaluate(vlm, EvaluationConfig(level="full", split="compositional", **settings))
    assert set(basic["tables"]["questions"]) < set(full["tables"]["questions"])
    with pytest.raises(InputError, match="compositional"):
        EvaluationConfig(level="basic", split="compositional")


@pytest.mark.parametrize("length", [32, 64])
def test_a_long_video_has_as_many_frames_as_asked_for(length):
    spec, seconds = long_video(length, 0, LengthConfig())
    assert len(seconds) == length
    assert spec.duration_seconds == max(MIN_SECONDS, length)
    frames = WorldFrames(spec, seconds, (32, 32), torch.device("cpu"))
    batches = list(frames)
    assert torch.equal(torch.cat([b.seconds for b in batches]), frames.planned_seconds)
    assert max(len(b) for b in batches) <= 64


def test_lengths_are_reported_apart():
    config = LengthConfig(lengths=(16, 40), frames_per_length=1, min_videos=1, max_videos=1)
    report = evaluate_lengths(tiny_vlm(), config)
    assert list(report["by_length"]) == ["16", "40"]
    for part in report["by_length"].values():
        assert {"all", "needle", "order"} >= set(part["tables"]["questions"]) > {"all"}
        assert part["memory_bytes"] > 0
    assert LengthConfig().num_videos(10_000) == 2


def test_cuts_are_matched_one_to_one_within_half_a_second():
    assert matched_cuts([1.0, 1.2, 9.0], [1.4, 8.4]) == 1
    assert matched_cuts([1.0, 1.5], [1.2, 1.4]) == 2
    lines = [{"answer": [1.0, 5.0], "truth": [1.3]}, {"answer": [], "truth": [7.0]}]
    scores = cut_scores(lines)
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0.5


def test_light_changes_where_it_is_seen_to():
    seconds = torch.arange(5, dtype=torch.float64)

    def frames(*levels: int) -> torch.Tensor:
        return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 4, 4)

    assert light_change(frames(50, 50, 70, 90, 90), seconds) == "gets brighter"
    assert light_change(frames(90, 90, 70, 50, 50), seconds) == "gets darker"
    assert light_change(frames(90, 90, 70, 85, 85), seconds) == "stays the same"
    assert light_change(frames(8, 8, 9, 12, 12), seconds) == "stays the same"


def test_clips_are_read_from_their_index(tmp_path):
    slugs = list(CLIP_LABELS)[:4]
    entries = [
        {"slug": s, "file": f"{s}.mp4", "qa": [{"q": f"What {s}?", "a": f"answer {s}"}]}
        for s in slugs
    ]
    (tmp_path / "index.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="none of the clips"):
        load_clips(tmp_path)
    for slug in slugs:
        (tmp_path / f"{slug}.mp4").touch()
    clips = load_clips(tmp_path)
    assert [clip.slug for clip in clips] == slugs
    ((question, answer, choices),) = foreign_questions(clips[0], clips)
    assert question == f"What {slugs[0]}?"
    assert sorted(choices) == sorted(f"answer {slug}" for slug in slugs)
    assert answer in choices
    with pytest.raises(InputError, match=r"index\.json is missing"):
        load_clips(tmp_path / "nowhere")


def test_findings_are_summed_up_by_kind():
    findings = ClipFindings()
    clip = some_clip()
    for right, confidence in ((True, 0.9), (False, 0.5)):
        findings.add(clip, "colour", right=right, confidence=confidence, num_choices=4)
    findings.add(clip, "cuts", answer=[3.0], truth=[3.2], says_yes=False)
    report = summarize_findings(findings)
    assert report["colour"]["accuracy"] == 0.5
    assert report["colour"]["mean_confidence"] == pytest.approx(0.7)
    assert report["cuts"]["f1"] == 1.0
    assert report["cuts, where it says there are any"]["told"] == 0


def some_clip() -> Clip:
    slug = next(iter(CLIP_LABELS))
    return Clip(slug=slug, path=Path("a.mp4"), label=CLIP_LABELS[slug], questions=())


def test_a_table_as_markdown_has_its_title_rules_and_every_row():
    table = Table(title="cost")
    table.add_column("")
    table.add_column("s", justify="right")
    table.add_row("a", "1.5")
    table.add_row("b|c", "-")
    assert as_markdown(table) == "cost:\n\n|  | s |\n| --- | ---: |\n| a | 1.5 |\n| b\\|c | - |"
