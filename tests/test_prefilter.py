"""The pre-filter: focus plans, hysteresis, novelty, named classes, and one pass that chooses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from recognizers.minconv import MinConvClassifier, MinConvConfig
from recognizers.movinet import MoViNet
from tests.helpers import FRAME_SIDE, frames, random_pixels, tiny_vlm, write_mp4
from timevlm.errors import InputError, ModelError, PlanError
from timevlm.prefilter.detector import (
    Detector,
    DetectorState,
    Scores,
    above_usual,
    join_scores,
    resized,
)
from timevlm.prefilter.focus import FrameStore, Prefilter, load_prefilter
from timevlm.prefilter.names import prefilter_names, resolve_name
from timevlm.prefilter.novelty import NoveltyState, novelty_step
from timevlm.prefilter.questions import named_labels, stem
from timevlm.prefilter.segments import (
    Segment,
    SegmentRules,
    find_segments,
    hysteresis,
    with_labels,
)
from timevlm.prefilter.usage import Usage, load_usage
from timevlm.synth.full.palette import MOTIONS
from timevlm.training.recognizers import LABELS, _tiny_movinet
from timevlm.video.frames import FrameBatch
from timevlm.video.reader import open_video
from timevlm.video.sampling import SamplingPlan, divide_budget, spread
from timevlm.video.tensor_frames import TensorFrames

HOUR = np.arange(3600.0)


# ---- plans ------------------------------------------------------------------------------------


def test_focus_spends_three_quarters_of_the_budget_in_its_spans():
    plan = SamplingPlan(fps=1.0, max_frames=64, focus=((100, 130, 1.0), (2000, 2030, 1.0)))
    chosen = plan.select(HOUR, end_seconds=3600.0)
    inside = [int(((chosen >= s) & (chosen < e)).sum()) for s, e, _ in plan.focus]
    assert inside == [24, 24]
    assert chosen.size == 64
    outside = np.setdiff1d(chosen, [*range(100, 130), *range(2000, 2030)])
    assert np.diff(outside).max() < 3 * 3600 / 16  # a thin rest over the whole hour
    assert "48 in 2 focus spans (60.0 s), 16 over the rest (max_frames=64)" in plan.describe(HOUR)


def test_short_spans_are_watched_whole_and_leave_their_share_to_the_rest():
    plan = SamplingPlan(max_frames=64, focus=((10, 14, 1.0), (500, 505, 1.0)))
    chosen = plan.select(HOUR)
    assert set(range(10, 14)) | set(range(500, 505)) <= set(chosen.tolist())
    assert chosen.size == 64


def test_focus_that_is_not_needed_or_not_there_changes_nothing():
    focus = ((100, 130, 1.0),)
    all_fits = SamplingPlan(fps=1.0, max_frames=4000)
    assert SamplingPlan(fps=1.0, max_frames=4000, focus=focus).select(HOUR).tolist() == (
        all_fits.select(HOUR).tolist()
    )
    early = SamplingPlan(end=50.0, fps=1.0, max_frames=8)
    late_focus = SamplingPlan(end=50.0, fps=1.0, max_frames=8, focus=focus)
    assert late_focus.select(HOUR).tolist() == early.select(HOUR).tolist()


def test_every_combination_with_a_focus_is_legal_sorted_and_capped():
    modes = ("auto", "uniform", "fps", "fps_head", "fps_then_uniform")
    ranges = ((None, None), (2.0, None), (None, 5.0), (2.0, 5.0))
    focuses = (((1.0, 1.5, 1.0),), ((0.0, 9.0, 2.0),), ((3.0, 3.2, 9.0), (4.0, 4.4, 0.1)))
    times = np.arange(250) / 25
    product = itertools.product(modes, ranges, (None, 4.0), (None, 1, 2, 5, 40, 10**6), focuses)
    for mode, (start, end), fps, cap, focus in product:
        plan = SamplingPlan(mode=mode, start=start, end=end, fps=fps, max_frames=cap, focus=focus)
        found = plan.resolve(times)
        assert np.all(np.diff(found.indices) > 0)
        assert 1 <= found.indices.size <= (cap or times.size)
        if cap is None or cap > 250:
            assert found.capped is None
        elif found.capped and "focus" in found.capped:
            assert found.indices.size == cap  # the budget is used up


def test_plan_with_a_focus_round_trips_and_without_one_keeps_its_old_form():
    plan = SamplingPlan(fps=1.0, max_frames=64, focus=[[5, 9, 2], [1, 2, 1]])
    assert plan.focus == ((1.0, 2.0, 1.0), (5.0, 9.0, 2.0))
    assert SamplingPlan.from_dict(plan.to_dict()) == plan
    assert plan.to_dict()["focus"] == [[1.0, 2.0, 1.0], [5.0, 9.0, 2.0]]
    assert "focus" not in SamplingPlan(fps=1.0).to_dict()
    assert hash(plan) == hash(SamplingPlan.from_dict(plan.to_dict()))


@pytest.mark.parametrize(
    ("focus", "message"),
    [
        (((5.0, 5.0, 1.0),), "end above start"),
        (((1.0, 2.0, 0.0),), "above 0"),
        (((1.0, float("inf"), 1.0),), "finite seconds"),
        (((1.0, 3.0, 1.0), (2.0, 4.0, 1.0)), "overlap"),
        (((1.0, 3.0),), "three numbers"),
    ],
)
def test_bad_focus_is_refused(focus, message):
    with pytest.raises(PlanError, match=message):
        SamplingPlan(focus=focus)


def test_divide_budget_is_exact_fair_and_starves_nobody():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 40, rng.integers(1, 9)).tolist()
        weights = rng.uniform(0.05, 5.0, len(sizes)).tolist()
        budget = int(rng.integers(0, 90))
        taken = divide_budget(sizes, weights, budget)
        assert sum(taken) == min(budget, sum(sizes))
        assert all(0 <= t <= s for t, s in zip(taken, sizes, strict=True))
        if budget >= sum(size > 0 for size in sizes):
            assert all(t >= 1 for t, s in zip(taken, sizes, strict=True) if s)
    assert divide_budget([100, 100], [3.0, 1.0], 40) == [30, 10]
    assert divide_budget([10, 100], [3.0, 1.0], 60) == [10, 50]


def test_spread_holds_both_ends():
    members = np.arange(10, 30)
    assert spread(members, 2).tolist() == [10, 29]
    assert spread(members, 20).tolist() == members.tolist()
    assert spread(members, 1).tolist() == [20]
    assert spread(members, 0).size == 0


# ---- segments ---------------------------------------------------------------------------------


def test_hysteresis_is_its_definition():
    rng = np.random.default_rng(1)
    for _ in range(100):
        scores = rng.random(rng.integers(1, 40))
        found = hysteresis(scores, enter=0.8, leave=0.4)
        inside = {i for a, b in found for i in range(a, b + 1)}
        for i, score in enumerate(scores):
            # A frame is in a segment if it and all between it and some peak are above `leave`.
            reached = any(
                peak >= 0.8 and scores[min(i, j) : max(i, j) + 1].min() >= 0.4
                for j, peak in enumerate(scores)
            )
            assert (i in inside) == reached, score


def test_segments_have_margins_closed_gaps_and_stay_inside():
    scores = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.6, 0.4, 0.2, 0.7, 0.1, 0.1])
    seconds = np.arange(12.0) + 3.0
    rules = SegmentRules(close_seconds=1.0, margin_seconds=1.5)
    found = find_segments(scores, seconds, rules, end_seconds=15.0)
    spans = [(s.start, s.end, s.peak, s.score) for s in found]
    assert spans == [(3.0, 5.5, 3.0, 0.9), (7.5, 14.5, 12.0, 0.7)]
    longer = find_segments(scores, seconds, SegmentRules(min_seconds=2.0, margin_seconds=0.0))
    assert [(s.start, s.end) for s in longer] == [(9.0, 13.0)]
    joined = find_segments(scores, seconds, SegmentRules(margin_seconds=3.0))
    assert [(s.start, s.end, s.score) for s in joined] == [(3.0, 15.0, 0.9)]
    assert find_segments(np.empty(0), np.empty(0), rules) == []
    assert find_segments(np.zeros(5), np.arange(5.0), rules) == []


def test_segment_rules_and_shapes_are_checked():
    with pytest.raises(InputError, match="no hysteresis"):
        SegmentRules(enter=0.3, leave=0.5)
    with pytest.raises(InputError, match="margin_seconds"):
        SegmentRules(margin_seconds=-1.0)
    with pytest.raises(InputError, match="one a frame"):
        find_segments(np.zeros(3), np.zeros(4), SegmentRules())


def test_labels_of_a_segment_are_its_likeliest_classes():
    seconds, probabilities = np.arange(4.0), np.array([[0, 1], [0.5, 0.1], [0.7, 0.1], [0, 1.0]])
    segment = Segment(start=1.0, end=3.0, peak=1.0, score=1.0)
    (labelled,) = with_labels([segment], seconds, probabilities, ("spin", "hop"), most=2)
    assert labelled.labels == (("spin", 0.6), ("hop", 0.1))
    assert labelled.to_dict()["labels"][0] == {"label": "spin", "score": 0.6}


# ---- what is new, and what a question names ---------------------------------------------------


def still_then_moving(count: int = 80, event: tuple[int, int] = (40, 48)) -> torch.Tensor:
    """A noisy still picture; in the event a bright square passes through it."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(60, 120, (1, 3, 32, 32), generator=generator)
    pixels = base + torch.randint(-3, 4, (count, 3, 32, 32), generator=generator)
    for i in range(*event):
        left = 3 * (i - event[0])
        pixels[i, :, 10:18, left : left + 8] = 255
    return pixels.clamp(0, 255).to(torch.uint8)


def test_novelty_finds_the_event_in_noise():
    pixels = still_then_moving()
    novelty, _ = novelty_step(pixels, np.arange(80.0), NoveltyState())
    assert novelty[41:48].min() > 0.9
    assert novelty[:40].max() < 0.1
    assert novelty[70:].max() < 0.1


@pytest.mark.parametrize("cuts", [[1, 7, 39], list(range(1, 80))])
def test_novelty_of_any_cut_of_a_stream_is_the_whole(cuts):
    pixels, seconds = still_then_moving(), np.arange(80.0)
    whole, _ = novelty_step(pixels, seconds, NoveltyState())
    state, parts = NoveltyState(), []
    for first, last in itertools.pairwise([0, *cuts, 80]):
        part, state = novelty_step(pixels[first:last], seconds[first:last], state)
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("When does the red ball bounce?", ("bounce",)),
        ("Is anything spinning or blinking?", ("blink", "spin")),
        ("Which shape moves left?", ("left",)),
        ("what is left of the table", ()),
        ("Is this right?", ()),
        ("the circle grows", ("grow",)),
        ("the square moves in a circle", ("circle",)),
        ("the blue square gets bigger while moving upwards", ("up", "grow")),
        ("What colour is the first shape?", ()),
    ],
)
def test_classes_that_a_question_names(question, named):
    assert named_labels(question, LABELS) == named


def test_every_motion_of_the_world_is_named_by_its_own_words():
    for name, words in MOTIONS.items():
        if name != "still":
            for text in (words.does, words.doing):
                assert name in named_labels(f"the star {text}", LABELS), text
    assert named_labels("someone opens a door", ("open door", "close door")) == ()
    assert named_labels("he is opening doors", ("open door", "close door")) == ("open door",)
    assert stem("bouncing") == stem("bounces") == stem("bounce")


# ---- the detector -----------------------------------------------------------------------------


def tiny_detector(family: str = "minconv", window: int | None = None) -> Detector:
    torch.manual_seed(0)
    usage = Usage(frame_size=(16, 16), fps=1.0, multi_label=True, window_frames=window)
    if family == "movinet":
        model = MoViNet(_tiny_movinet(len(LABELS)), LABELS)
    else:
        config = MinConvConfig(num_classes=len(LABELS), stem_channels=(4, 8), num_layers=1)
        model = MinConvClassifier(config, LABELS)
    return Detector("tiny", model.eval(), usage, "none")


@pytest.mark.parametrize("family", ["minconv", "movinet"])
@pytest.mark.parametrize("window", [None, 5, 8])
def test_detector_of_any_cut_of_a_stream_is_the_whole(family, window):
    detector, pixels, seconds = tiny_detector(family, window), random_pixels(23), np.arange(23.0)
    whole, _ = detector.step(pixels, seconds, DetectorState())
    assert whole.classes.shape == (23, len(LABELS))
    for cuts in ([4, 5, 6], [1, 2, 3, 16], list(range(1, 23))):
        state, parts = DetectorState(), []
        for first, last in itertools.pairwise([0, *cuts, 23]):
            part, state = detector.step(pixels[first:last], seconds[first:last], state)
            parts.append(part)
        joined = join_scores(parts)
        np.testing.assert_allclose(joined.classes, whole.classes, atol=1e-5)
        assert np.array_equal(joined.novelty, whole.novelty)


def test_interest_is_the_most_of_event_novelty_and_named_class():
    scores, _ = tiny_detector().step(random_pixels(6), np.arange(6.0), DetectorState())
    spin = above_usual(scores.classes[:, LABELS.index("spin")])
    new = (1.0 - scores.trust()) * scores.novelty
    expected = np.maximum(np.maximum(above_usual(scores.event), new), spin)
    assert np.array_equal(scores.interest(("spin",)), expected)
    assert np.array_equal(scores.named(()), np.zeros(6))


def test_a_recognizer_that_says_the_same_all_the_time_says_nothing():
    flat = np.array([0.88, 0.9, 0.86, 0.93, 0.88] * 20)
    assert above_usual(flat).max() < 0.2
    mostly_quiet = np.array([0.02] * 90 + [0.9] * 10)
    np.testing.assert_allclose(above_usual(mostly_quiet)[90:], 0.9, atol=0.02)
    assert above_usual(np.empty(0)).size == 0


@pytest.mark.parametrize(
    ("event", "trust"),
    [
        ([0.0] * 90 + [0.9] * 10, 1.0),  # at home: quiet, and events
        ([0.9] * 100, 0.0),  # always the same
        ([0.02] * 100, 0.0),  # never sees anything
        ([0.25] * 90 + [0.9] * 10, 0.5),
    ],
)
def test_trust_in_a_recognizer(event, trust):
    event, novelty = np.array(event), np.full(100, 0.8)
    scores = Scores(
        seconds=np.arange(100.0),
        event=event,
        novelty=novelty,
        classes=event[:, None],
        labels=("event",),
    )
    assert scores.trust() == pytest.approx(trust)
    expected = np.maximum(above_usual(event), (1.0 - trust) * novelty)
    np.testing.assert_allclose(scores.interest(), expected)


def test_resized_averages_down_and_keeps_the_range():
    pixels = random_pixels(2)
    assert torch.equal(resized(pixels, (FRAME_SIDE, FRAME_SIDE)), pixels.float() / 255.0)
    small = resized(pixels, (8, 8))
    torch.testing.assert_close(small.mean(), pixels.float().mean() / 255.0)
    assert resized(pixels, (64, 64)).max() <= 1.0


def test_names_and_their_errors(tmp_path):
    assert resolve_name("auto") in prefilter_names()
    assert load_prefilter("novelty").detector.labels == ()
    with pytest.raises(InputError, match="did you mean minconv"):
        resolve_name("mincnv")
    with pytest.raises(ModelError, match=r"config\.json"):
        load_prefilter(str(tmp_path))
    Usage(frame_size=(16, 24), fps=2.0, window_frames=3).save(tmp_path)
    assert load_usage(tmp_path) == Usage(frame_size=(16, 24), fps=2.0, window_frames=3)
    (tmp_path / "usage.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be used"):
        load_usage(tmp_path)


# ---- one pass ---------------------------------------------------------------------------------


def novelty_prefilter(**changes: object) -> Prefilter:
    return Prefilter(detector=Detector.load("novelty"), **changes)


def test_focus_chooses_frames_of_the_event_from_one_pass():
    pixels = still_then_moving(200, (120, 128))
    seconds = torch.arange(200, dtype=torch.float64)
    stream = TensorFrames(pixels, seconds, batch_size=17)
    plan = SamplingPlan(max_frames=24)
    focus = novelty_prefilter().focus(stream, plan)
    (segment,) = [s for s in focus.segments if s.start < 124 < s.end]
    assert segment.start >= 115
    times = focus.planned_seconds.numpy()
    assert len(times) == 24
    # The event's margins share in the 18 frames of the focus.
    assert np.isin(np.arange(120, 128), times.astype(int)).sum() >= 6
    # The plan says all that is needed to choose the same frames again.
    again = focus.plan.select(seconds.numpy())
    assert again.tolist() == times.astype(int).tolist()
    assert torch.equal(torch.cat([b.pixels for b in focus]), pixels[again])
    assert novelty_prefilter().focus(stream, plan).plan == focus.plan


def test_what_fits_the_budget_is_neither_scored_nor_copied():
    stream = frames(10)
    focus = novelty_prefilter().focus(stream, SamplingPlan(max_frames=10))
    assert focus.frames is stream
    assert (focus.segments, focus.scores) == ((), None)
    with pytest.raises(InputError, match="budget"):
        novelty_prefilter().focus(stream, SamplingPlan())


def test_store_keeps_within_its_bytes_and_drops_calm_frames_first():
    picture_bytes = 3 * 8 * 8
    store = FrameStore(20 * picture_bytes)
    busy_at = set(range(40, 46))
    for first in range(0, 100, 7):
        seconds = torch.arange(first, min(100, first + 7), dtype=torch.float64)
        batch = FrameBatch(torch.zeros((len(seconds), 3, 8, 8), dtype=torch.uint8), seconds)
        store.add(batch, np.array([int(s) in busy_at for s in seconds]))
    kept, pictures = store.contents()
    assert len(pictures) == len(kept) <= 20
    assert busy_at <= set(kept.astype(int).tolist())
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0.0


def test_watch_with_a_prefilter_reads_a_file_once_and_says_what_it_did(tmp_path):
    path = write_mp4(tmp_path / "video.mp4", 60, fps=4)
    vlm = tiny_vlm()
    memory = vlm.watch(path, fps=4.0, max_frames=12, prefilter=novelty_prefilter())
    assert memory.num_frames == 12
    plan = SamplingPlan.from_dict(memory.plan)
    assert plan.focus
    with open_video(path, plan) as reader:
        assert reader.planned_seconds.tolist() == memory.frame_seconds.tolist()
        direct = vlm.watch(path, plan=plan)
    # The kept copies are the very pictures that a second decode of the plan would give.
    a, b = vlm.ask(memory, "what?"), vlm.ask(direct, "what?")
    assert (a.text, a.confidence) == (b.text, b.confidence)
    assert memory.warnings == ()


def test_watch_without_a_cap_gets_one(tmp_path):
    path = write_mp4(tmp_path / "video.mp4", 6, fps=2)
    memory = tiny_vlm().watch(path, fps=2.0, prefilter="novelty")
    assert memory.num_frames == 6
    assert memory.plan["max_frames"] == 256


def test_identity_differs_wherever_frames_could():
    prefilter = Prefilter(detector=tiny_detector())
    others = (
        prefilter.about("does it spin?"),
        novelty_prefilter(),
        novelty_prefilter(rules=SegmentRules(margin_seconds=9.0)),
        novelty_prefilter(kept_bytes=1),
    )
    identities = [str(p.identity()) for p in (prefilter, *others)]
    assert len(set(identities)) == len(identities)
    assert prefilter.about("nothing here").identity() == prefilter.identity()


@pytest.mark.parametrize(
    "change", [{"frame_size": (8, 16)}, {"window_frames": 7}, {"multi_label": False}]
)
def test_identity_differs_where_the_same_weights_are_used_otherwise(change):
    detector = tiny_detector()
    usage = replace(detector.usage, **change)
    other = Detector(detector.name, detector.model, usage, detector.fingerprint)
    assert Prefilter(detector=other).identity() != Prefilter(detector=detector).identity()


def test_the_budget_stays_inside_a_range_that_ends_before_the_video(tmp_path):
    path = write_mp4(tmp_path / "calm.mp4", 60, fps=4)
    prefilter = novelty_prefilter(rules=SegmentRules(min_seconds=1000.0))
    memory = tiny_vlm().watch(path, fps=4.0, end=5.0, max_frames=10, prefilter=prefilter)
    # Without segments the frames are spread evenly, and over the asked five seconds alone.
    assert memory.num_frames == 10
    assert float(memory.frame_seconds[-1]) < 5.0
    assert memory.video_end == 5.0
