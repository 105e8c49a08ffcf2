import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from eval.metrics.grounding import (
    baselines,
    centre_spans,
    clip_spans,
    full_video_spans,
    grounding_scores,
    interval_iou,
    interval_ious,
    iou_matrix,
    score_spans,
)
from timevlm.errors import InputError

# Official annotation files, for those who have them: charades/charades_sta_test.txt,
# charades/Charades_v1_test.csv, activitynet/val_1.json, activitynet/val_2.json.
DATA = Path(os.environ.get("TIMEVLM_EVAL_DATA", "no-such-folder"))


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ((0, 10), (0, 10), 1.0),
        ((0, 5), (0, 10), 0.5),
        ((0, 10), (5, 15), 1 / 3),
        ((2, 4), (0, 10), 0.2),
        ((0, 5), (5, 10), 0.0),
        ((0, 1), (5, 10), 0.0),
        ((5, 5), (0, 10), 0.0),
        ((5, 5), (5, 5), 0.0),
        ((20, 10), (10, 20), 0.0),
        (None, (0, 10), 0.0),
    ],
)
def test_iou(predicted, gold, expected):
    assert interval_iou(predicted, gold) == pytest.approx(expected)


def test_iou_is_symmetric_bounded_and_free_of_scale_and_origin():
    generator = np.random.default_rng(0)
    spans = np.sort(generator.uniform(0, 100, size=(200, 2)))
    golds = np.sort(generator.uniform(0, 100, size=(200, 2)))
    one_by_one = [interval_iou(a, b) for a, b in zip(spans, golds, strict=True)]
    assert interval_ious(spans.tolist(), golds.tolist()) == pytest.approx(one_by_one)
    assert interval_ious(golds.tolist(), spans.tolist()) == pytest.approx(one_by_one)
    assert interval_ious((3 * spans + 7).tolist(), (3 * golds + 7).tolist()) == pytest.approx(
        one_by_one
    )
    assert 0 <= min(one_by_one) <= max(one_by_one) <= 1
    assert interval_ious(golds.tolist(), golds.tolist()) == pytest.approx(1)
    matrix = iou_matrix(spans[:3].tolist(), golds[:4].tolist())
    assert matrix.shape == (3, 4)
    assert matrix[1, 2] == pytest.approx(interval_iou(spans[1], golds[2]))
    assert iou_matrix([], golds[:4].tolist()).shape == (0, 4)


def test_exactly_half_counts_with_at_least_and_not_with_more():
    scores = grounding_scores([0.5, 0.5, 1.0, 0.0])
    assert scores["mIoU"] == 50.0
    assert scores["R@1,IoU>=0.5"] == 75.0
    assert scores["R@1,IoU>0.5"] == 25.0
    assert scores["R@1,IoU>=0.3"] == 75.0
    assert scores["R@1,IoU>0.7"] == 25.0
    assert list(scores)[:4] == ["mIoU", "R@1,IoU>=0.3", "R@1,IoU>=0.5", "R@1,IoU>=0.7"]


def test_half_of_a_video_is_exactly_half():
    for duration in np.linspace(3.7, 240.1, 500):
        half = (0.25 * duration, 0.75 * duration)
        assert interval_iou((0, duration), half) == (half[1] - half[0]) / duration
        assert interval_iou(half, (0, duration)) == (half[1] - half[0]) / duration


def test_unparsed_queries_stay_in_the_mean():
    result = score_spans([(0, 10), None], [(0, 10), (0, 10)], [20, 20])
    assert result["scores"]["mIoU"] == 50.0
    assert result["ious"] == [1.0, 0.0]


def test_baselines_answer_without_looking():
    found = baselines([(0, 10), (5, 15)], [20, 20])
    assert found["full video"]["mIoU"] == 50.0
    assert found["full video"]["R@1,IoU>=0.5"] == 100.0
    assert found["full video"]["R@1,IoU>0.5"] == 0.0
    assert found["centre 50%"]["mIoU"] == pytest.approx(100 * (1 / 3 + 1) / 2)
    assert full_video_spans([3]) == [(0.0, 3.0)]
    assert centre_spans([8], width=0.25) == [(3.0, 5.0)]


def test_clipped_golds_change_the_score_and_are_counted():
    golds, durations, predicted = [(0, 12), (0, 5)], [10, 10], [(0, 10), (0, 5)]
    plain = score_spans(predicted, golds, durations)
    clipped = score_spans(predicted, golds, durations, clip_gold=True)
    assert plain["n_gold_beyond_video"] == clipped["n_gold_beyond_video"] == 1
    assert plain["ious"][0] == pytest.approx(10 / 12)
    assert clipped["ious"][0] == 1.0
    assert clip_spans([(-1, 3), (11, 12)], [10, 10]) == [(0.0, 3), (10, 10)]


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InputError, match="got 1 spans for 2 golds"):
        interval_ious([(0, 1)], [(0, 1), (1, 2)])
    with pytest.raises(InputError, match="no queries"):
        grounding_scores([])
    with pytest.raises(InputError, match="got 1 durations for 2 golds"):
        score_spans([None, None], [(0, 1), (1, 2)], [3])
    with pytest.raises(InputError, match=r"width is 0\.0"):
        centre_spans([1], width=0.0)


def charades(folder):
    with (folder / "Charades_v1_test.csv").open(newline="") as file:
        durations = {row["id"]: float(row["length"]) for row in csv.DictReader(file)}
    for line in (folder / "charades_sta_test.txt").read_text().splitlines():
        video, start, end = line.split("##")[0].split()
        yield (float(start), float(end)), durations[video]


def activitynet(path):
    for video in json.loads(path.read_text()).values():
        for span in video["timestamps"]:
            yield tuple(span), video["duration"]


# (name, mIoU, R@0.3, R@0.5, R@0.7) of the full-video answer
PUBLISHED_FULL_VIDEO = [
    ("charades", 26.99, 34.30, 0.43, 0.00),
    ("val_2", 34.57, 48.02, 21.21, 12.41),
    ("val_1", 32.29, 42.87, 22.74, 11.39),
]


@pytest.mark.parametrize(("name", "miou", "at_3", "at_5", "at_7"), PUBLISHED_FULL_VIDEO)
def test_full_video_baseline_of_the_official_files(name, miou, at_3, at_5, at_7):
    if name == "charades":
        needed, read = DATA / "charades", charades
    else:
        needed, read = DATA / "activitynet" / f"{name}.json", activitynet
    if not needed.exists():
        pytest.skip(f"no {needed}; set TIMEVLM_EVAL_DATA")
    golds, durations = zip(*read(needed), strict=True)
    found = baselines(golds, durations)["full video"]
    keys = ("mIoU", "R@1,IoU>=0.3", "R@1,IoU>=0.5", "R@1,IoU>=0.7")
    assert [round(found[key], 2) for key in keys] == [miou, at_3, at_5, at_7]
