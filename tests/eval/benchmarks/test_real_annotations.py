"""The real annotation files, where they are at hand: counts and baselines that must come out.

TIMEVLM_BENCHMARKS_DIR names a folder with one data folder for each benchmark, under its name; only
annotations are read. None of this data may be passed on, so none is in the repository.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from eval.benchmarks import get
from eval.metrics.grounding import baselines

ROOT = os.environ.get("TIMEVLM_BENCHMARKS_DIR")


def load(name: str, split: str):
    folder = Path(ROOT or ".") / name
    if ROOT is None or not folder.is_dir():
        pytest.skip(f"no {name} below TIMEVLM_BENCHMARKS_DIR ({ROOT})")
    return list(get(name).samples(folder, split))


def test_sizes():
    found = {}
    for name in ("videomme", "longvideobench", "mlvu", "mvbench", "charades", "tempcompass"):
        if ROOT is not None and (Path(ROOT) / name).is_dir():
            split = get(name).splits[0]
            found[name] = len(load(name, split))
            assert found[name] == get(name).num_questions[split], name
    if not found:
        pytest.skip(f"nothing below TIMEVLM_BENCHMARKS_DIR ({ROOT})")


def test_videomme():
    samples = load("videomme", "test")
    assert Counter("ABCD"[s.gold] for s in samples) == {"A": 677, "B": 735, "C": 684, "D": 604}
    assert sum(len(set(sample.options)) < 4 for sample in samples) == 10
    assert len({s.cluster for s in samples if s.cluster.startswith("-")}) == 13
    assert Counter(s.tags["duration"] for s in samples) == dict.fromkeys(
        ("short", "medium", "long"), 900
    )


def test_longvideobench():
    samples = load("longvideobench", "val")
    assert Counter(len(s.options) for s in samples) == {5: 983, 4: 353, 3: 1}
    groups = Counter(s.tags["duration_group"] for s in samples)
    assert groups == {"15": 189, "60": 172, "600": 412, "3600": 564}
    assert sum(s.extra["subtitle_offset"] != 0 for s in samples) == 250


def test_mlvu():
    samples = load("mlvu", "dev")
    assert sorted(Counter(s.tags["task"] for s in samples).values()) == sorted(
        (539, 355, 352, 206, 259, 200, 264)
    )
    assert all(sample.gold is not None for sample in samples)
    assert sum(len(set(s.options)) < len(s.options) for s in samples) == 16


def test_mvbench():
    samples = load("mvbench", "test")
    assert set(Counter(s.tags["task"] for s in samples).values()) == {200}
    single = Counter(s.tags["task"] for s in samples if len(s.options) == 1)
    assert single == {"counterfactual_inference": 5}
    assert len({s.tags["task"] for s in samples if s.clip}) == 5
    assert all(sample.gold is not None for sample in samples)


@pytest.mark.parametrize(
    ("name", "split", "miou", "recalls"),
    [
        ("charades", "test", 26.99, (34.30, 0.43, 0.00)),
        ("activitynet", "val_2", 34.57, (48.02, 21.21, 12.41)),
        ("activitynet", "val_1", 32.29, (42.87, 22.74, 11.39)),
    ],
)
def test_full_video_baselines(name, split, miou, recalls):
    samples = load(name, split)
    golds = [sample.gold[0] for sample in samples]
    scores = baselines(golds, [sample.extra["duration"] for sample in samples])["full video"]
    assert scores["mIoU"] == pytest.approx(miou, abs=0.005)
    for threshold, recall in zip((0.3, 0.5, 0.7), recalls, strict=True):
        assert scores[f"R@1,IoU>={threshold}"] == pytest.approx(recall, abs=0.005)


def test_charades_golds_beyond_the_video():
    samples = load("charades", "test")
    over = [sample.gold[0][1] - sample.extra["duration"] for sample in samples]
    assert sum(seconds > 0 for seconds in over) == 562
    assert sum(seconds > 1 for seconds in over) == 228
