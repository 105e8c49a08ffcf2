"""Training of recognizers: targets from the timeline, resumable runs, clips, scores, weights."""

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recognizers.base import WEIGHTS_FOLDER, StreamingRecognizer
from tests.conftest import PROJECT_ROOT
from timevlm.errors import InputError
from timevlm.prefilter.names import FAMILIES, WEIGHTS_PREFIX
from timevlm.prefilter.usage import load_usage
from timevlm.synth.export import write_video
from timevlm.synth.sparse import (
    event_spans,
    make_sparse_grounding,
    make_sparse_questions,
    sample_sparse_video,
)
from timevlm.synth.world import sample_video
from timevlm.training.clips import (
    ClipConfig,
    ClipSet,
    build_recognizer,
    decode_clip,
    draw_clips,
    mean_average_precision,
    read_clips,
    top_k_accuracy,
)
from timevlm.training.loop import PhaseConfig, read_log
from timevlm.training.recognizers import (
    LABELS,
    ClipPool,
    PoolConfig,
    average_precision,
    draw_batch,
    frame_loss,
    frame_targets,
    half_copy,
    measure,
    mirrored_targets,
    render_pool,
    small_recognizer,
    train_small,
)

MAX_BYTES = 3_000_000


# ---- the sparse world and its targets ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_sparse_video_is_gapless_quiet_and_its_events_are_short(seed):
    spec = sample_sparse_video(seed, 900, num_events=5)
    assert spec == sample_sparse_video(seed, 900, num_events=5)
    assert spec.scenes[0].start_seconds == 0.0
    assert spec.scenes[-1].end_seconds == spec.duration_seconds == 900.0
    for before, after in zip(spec.scenes[:-1], spec.scenes[1:], strict=True):
        assert before.end_seconds == after.start_seconds > before.start_seconds
    spans = event_spans(spec)
    assert len(spans) == 5
    assert all(2.99 <= end - start <= 10.01 for start, end in spans)
    assert all(b[0] - a[1] >= 7.9 for a, b in itertools.pairwise(spans))
    assert len({o.shape for s in spec.scenes for o in s.objects}) == 5
    for query in make_sparse_grounding(spec, seed):
        start, end = query.spans[0]
        assert any(s <= start < end <= e for s, e in spans)
    for question in make_sparse_questions(spec, seed):
        assert question.answer in question.choices


def test_sparse_video_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="do not fit"):
        sample_sparse_video(0, 60, num_events=6)
    with pytest.raises(InputError, match="1 to 8"):
        sample_sparse_video(0, 3600, num_events=9)


def test_frame_targets_follow_the_timeline():
    spec = sample_sparse_video(3, 600, num_events=4)
    seconds = torch.arange(0, 600, 0.5, dtype=torch.float64)
    targets = frame_targets(spec, seconds)
    inside = np.zeros(len(seconds), dtype=bool)
    for start, end in event_spans(spec):
        inside |= (seconds.numpy() >= start) & (seconds.numpy() < end)
    assert targets[:, 0].numpy().astype(bool)[inside].all()
    # A second of coming may follow a start; nothing else is an event.
    assert targets[:, 0].sum() <= inside.sum() + 2 * 4
    for scene in spec.scenes:
        for item in scene.objects:
            middle = (item.motion_start_seconds + item.motion_end_seconds) / 2
            row = int((seconds - middle).abs().argmin())
            assert targets[row, LABELS.index(item.motion)] == 1.0


def test_targets_of_busy_videos_of_both_levels():
    for level in ("basic", "full"):
        spec = sample_video(1, level=level)
        seconds = torch.arange(0, spec.duration_seconds, 1.0, dtype=torch.float64)
        targets = frame_targets(spec, seconds)
        assert targets.shape == (len(seconds), len(LABELS))
        assert targets[:, 0].mean() > 0.3


def test_a_mirror_swaps_left_and_right_alone():
    targets = torch.arange(float(len(LABELS)))
    mirrored = mirrored_targets(targets, LABELS)
    left, right = LABELS.index("left"), LABELS.index("right")
    assert (mirrored[left], mirrored[right]) == (right, left)
    others = [k for k in range(len(LABELS)) if k not in (left, right)]
    assert torch.equal(mirrored[others], targets[others])


# ---- training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> ClipPool:
    return render_pool(PoolConfig(num_clips=4, num_frames=6, side=64, kinds=("sparse", "basic")))


def test_batches_depend_on_the_step_alone(pool):
    frames, targets = draw_batch(pool, 3, 2)
    again, _ = draw_batch(pool, 3, 2)
    assert torch.equal(frames, again)
    assert not torch.equal(frames, draw_batch(pool, 4, 2)[0])
    assert frames.shape == (2, 6, 3, 64, 64)
    assert frames.min() >= 0.0
    assert frames.max() <= 1.0
    assert targets.shape == (2, 6, len(LABELS))


@pytest.mark.parametrize("family", FAMILIES)
def test_small_recognizers_learn_and_fit_their_bytes(family, pool, tmp_path):
    torch.manual_seed(0)
    model, usage = small_recognizer(family)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        frames, targets = draw_batch(pool, 0, 2)
        logits, _ = model.step(frames, model.init_state(2, *usage.frame_size))
        loss = frame_loss(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    folder = half_copy(model.eval()).save_pretrained(tmp_path)
    assert (folder / "model.safetensors").stat().st_size < MAX_BYTES
    loaded = StreamingRecognizer.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    clip = pool.pixels[:1]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(clip), model(clip), atol=0.05, rtol=0.05)


def test_a_run_goes_on_where_it_stood(pool, tmp_path):
    first = PhaseConfig(name="train", minutes=1e-5, peak_rate=1e-3, log_every=1)
    train_small("minconv", pool, first, tmp_path, batch_size=1)
    (before,) = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
    longer = PhaseConfig(name="train", minutes=0.02, peak_rate=1e-3, log_every=1)
    model, usage = train_small("minconv", pool, longer, tmp_path, batch_size=1)
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
    assert steps == list(range(before, before + len(steps)))
    numbers = measure(model, usage, pool)
    assert all(0.0 <= value <= 1.0 for value in numbers.values())


def test_average_precision_is_its_definition():
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        scores = torch.randint(0, 6, (30,), generator=rng).double()  # with ties
        targets = (torch.rand(30, generator=rng) < 0.3).double()
        if not targets.any():
            continue
        expected = []
        for i in range(30):
            if targets[i]:
                ranked = scores >= scores[i]
                expected.append(float(targets[ranked].mean()))
        assert average_precision(scores, targets) == pytest.approx(np.mean(expected))
    assert average_precision(torch.zeros(4), torch.zeros(4)) == 0.0
    assert average_precision(torch.tensor([3.0, 2, 1]), torch.tensor([1.0, 1, 0])) == 1.0


def test_scores_of_clips():
    logits = torch.eye(7)[[0, 1, 2, 3]] + torch.arange(7.0) * 1e-3
    assert top_k_accuracy(logits, torch.tensor([0, 1, 2, 0])) == {"top1": 0.75, "top5": 0.75}
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.8, 0.0], [0.2, 0.9, 0.0]])
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert mean_average_precision(scores, targets) == pytest.approx((1.0 + 0.5) / 2)


# ---- labelled clips ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """Clips of two classes: something happens at once, or nothing does for long."""
    root = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        busy = sample_video(seed, split="train")
        write_video(_short(busy), root / "busy" / f"{seed}.mp4", fps=4, size=(32, 32))
        quiet = sample_sparse_video(seed, 120, num_events=1)
        first = event_spans(quiet)[0][0]
        scenes = tuple(s for s in quiet.scenes if s.start_seconds < min(4.0, first))
        write_video(_short(quiet, scenes), root / "quiet" / f"{seed}.mp4", fps=4, size=(32, 32))
    return root


def _short(spec, scenes=None):
    from dataclasses import replace

    return replace(spec, duration_seconds=3.0, scenes=scenes or spec.scenes)


def test_folder_csv_and_charades_forms(clip_folder, tmp_path):
    data = read_clips(clip_folder)
    assert (len(data.clips), data.labels, data.multi_label) == (8, ("busy", "quiet"), False)
    table = clip_folder / "list.csv"
    rows = [["busy/0.mp4", "busy;left", "train"], ["quiet/1.mp4", "quiet", "val"]]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "labels", "split"], *rows])
    data = read_clips(table)
    assert data.labels == ("busy", "left", "quiet")
    assert data.multi_label
    assert data.target(data.clips[0]).tolist() == [1.0, 1.0, 0.0]
    assert [clip.split for clip in data.clips] == ["train", "val"]
    charades = clip_folder / "charades.csv"
    charades.write_text('id,actions\nbusy/0,c092 1.90 11.20;c147 0.00 12.60\nquiet/0,""\n')
    data = read_clips(charades)
    assert data.labels == ("c092", "c147")
    assert data.clips[1].labels == ()
    with pytest.raises(InputError, match="neither a folder nor a CSV"):
        read_clips(tmp_path / "none")
    with pytest.raises(InputError, match="holds no labelled clips"):
        read_clips(tmp_path)


def test_decoded_clips_are_cached_and_batches_reproducible(clip_folder, tmp_path):
    data = read_clips(clip_folder)
    _, usage, _ = build_recognizer("minconv", data)
    config = ClipConfig(usage=usage, num_frames=5, batch_size=3, cache=tmp_path)
    pixels = decode_clip(data.clips[0].path, config)
    assert torch.equal(pixels, decode_clip(data.clips[0].path, config))
    assert len(list(tmp_path.glob("*.npy"))) == 1
    frames, targets = draw_clips(data.clips, data, config, 7)
    assert torch.equal(frames, draw_clips(data.clips, data, config, 7)[0])
    assert frames.shape == (3, 5, 3, *usage.frame_size)
    assert targets.sum(dim=1).tolist() == [1.0, 1.0, 1.0]


def test_fine_tuning_takes_over_all_but_the_classifier(clip_folder, tmp_path):
    model, usage = small_recognizer("minconv")
    model.save_pretrained(tmp_path)
    usage.save(tmp_path)
    tuned, tuned_usage, fresh = build_recognizer(str(tmp_path), read_clips(clip_folder))
    assert tuned.labels == ("busy", "quiet")
    assert fresh == ["head.bias", "head.weight"]
    assert not tuned_usage.multi_label
    assert torch.equal(tuned.stem[0].weight, model.stem[0].weight)


@pytest.mark.slow
def test_the_script_trains_scores_and_goes_on(clip_folder, tmp_path):
    script = PROJECT_ROOT / "scripts" / "train_recognizer.py"
    flags = ["--model", "minconv", "--out", str(tmp_path), "--size", "32", "--batch-size", "4"]
    flags += ["--frames", "6", "--threads", "1", "--fps", "2"]
    for minutes in ("0.05", "0.15"):
        command = [sys.executable, str(script), str(clip_folder), *flags, "--minutes", minutes]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["scores"]["train"]["top1"] >= 0.5
    assert report["scores"]["train"]["top5"] == 1.0
    assert load_usage(tmp_path).frame_size == (32, 32)
    assert StreamingRecognizer.from_pretrained(tmp_path).labels == ("busy", "quiet")


def test_of_split_and_empty_training(clip_folder):
    data = read_clips(clip_folder)
    both = data.of_split("train") + data.of_split("val")
    assert sorted(c.path for c in both) == sorted(c.path for c in data.clips)
    assert ClipSet(clips=(), labels=("a", "b"), multi_label=False).of_split("train") == []


# ---- what ships -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_weights_are_small_half_precision_and_described(family):
    folder = WEIGHTS_FOLDER / f"{WEIGHTS_PREFIX}{family}"
    assert (folder / "model.safetensors").stat().st_size <= MAX_BYTES
    model = StreamingRecognizer.from_pretrained(folder)
    assert (model.family, model.labels) == (family, LABELS)
    assert load_usage(folder).multi_label
    card = (folder / "README.md").read_text()
    assert "average precision of events" in card
    assert "train_prefilter.py" in card
