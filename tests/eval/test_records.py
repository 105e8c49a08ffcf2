import json

import pytest

from eval.records import ROW_KEYS, Sample, check_row, scoring_row
from eval.sampling import Sampling, from_options
from timevlm.errors import InputError, PlanError
from timevlm.video import SamplingPlan


def choice(**changes: object) -> Sample:
    values = {
        "id": "b:test:1",
        "bench": "b",
        "task": "choice",
        "video": "v.mp4",
        "question": "Which?",
        "cluster": "v",
        "options": ("x", "y"),
        "gold": 1,
    }
    return Sample(**{**values, **changes})


@pytest.mark.parametrize(
    "sample",
    [
        choice(tags={"task": "t", "types": ["a", "b"]}, extra={"duration": 3.5}, clip=(1, 2)),
        choice(gold=None),
        choice(task="grounding", options=(), gold=((1.0, 2.5), (3.0, 4.0))),
        choice(task="dense_caption", options=(), gold=[(0.0, 1.0, "a red ball")]),
        choice(task="detailed_caption", options=(), gold="a long text", subtitle="s.srt"),
    ],
)
def test_a_sample_survives_json(sample: Sample) -> None:
    assert Sample.from_dict(json.loads(json.dumps(sample.to_dict()))) == sample


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "has no id"),
        ({"task": "guess"}, "it is one of choice, grounding"),
        ({"options": ()}, "without options"),
        ({"gold": 2}, "index into 2 options"),
        ({"gold": True}, "index into 2 options"),
        ({"clip": (2.0, 2.0)}, "in seconds"),
    ],
)
def test_samples_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choice(**changes)


def test_unknown_entries_of_a_sample_are_refused() -> None:
    with pytest.raises(InputError, match="unknown entries \\['colour'\\]"):
        Sample.from_dict({**choice().to_dict(), "colour": 1})


def test_a_scoring_row_is_the_row_and_its_sample() -> None:
    row = dict.fromkeys(ROW_KEYS) | {"id": "b:test:1", "raw": "B", "gold": [1]}
    joined = scoring_row(choice(), row)
    assert joined["raw"] == "B"
    assert joined["gold"] == 1
    assert set(joined) == set(ROW_KEYS) | set(choice().to_dict()) | {"span_unit"}
    assert joined["span_unit"] == "seconds"
    assert scoring_row(choice(), row, span_unit="normalized")["span_unit"] == "normalized"
    with pytest.raises(InputError, match="is not about sample"):
        scoring_row(choice(id="b:test:2"), row)


def test_rows_say_which_keys_they_lack() -> None:
    with pytest.raises(InputError, match="lacks \\['raw'\\]"):
        check_row({key: None for key in ROW_KEYS if key != "raw"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model", Sampling()),
        ("uniform_mid:64", Sampling(mode="uniform_mid", frames=64)),
        ("linspace:8", Sampling(mode="linspace", frames=8)),
        ("fps:0.5", Sampling(mode="fps", fps=0.5)),
        ("fps_head:1:256", Sampling(mode="fps_head", fps=1.0, frames=256)),
        ("fps_head:1:256:32", Sampling.parse("timeviper")),
        ("fps_then_uniform:2:128", Sampling(mode="fps_then_uniform", fps=2.0, frames=128)),
    ],
)
def test_a_sampling_is_written_in_one_word(text: str, expected: Sampling) -> None:
    assert Sampling.parse(text) == expected
    assert Sampling.parse(str(expected)) == expected
    assert Sampling(**expected.to_dict()) == expected


@pytest.mark.parametrize(
    "text", ["uniform:4", "fps", "fps:x", "uniform_mid:0", "linspace:1", "fps:-1", "fps:1:2", ""]
)
def test_impossible_samplings_are_refused(text: str) -> None:
    with pytest.raises(PlanError):
        Sampling.parse(text)


def test_options_of_the_command_line() -> None:
    assert from_options(None) == Sampling()
    assert from_options(None, fps=2.0) == Sampling.parse("fps:2")
    assert from_options(None, max_frames=16) == Sampling.parse("uniform_mid:16")
    assert from_options(None, fps=1.0, max_frames=16) == Sampling.parse("fps_then_uniform:1:16")
    with pytest.raises(PlanError, match="drop --fps"):
        from_options("fps:1", fps=1.0)


TIMES = [0.04 * k for k in range(500)]  # 25 frames/s, 20 s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uniform_mid:4", [2.5, 7.5, 12.5, 17.5]),
        ("linspace:5", [0.0, 4.99, 9.98, 14.97, 19.96]),
        ("fps:0.25", [0.0, 4.0, 8.0, 12.0, 16.0]),
        ("fps_head:1:3", [0.0, 1.0, 2.0]),
        ("fps_then_uniform:1:2", [5.0, 15.0]),
        ("fps_head:1:256:4", [float(k) for k in range(20)]),
        ("fps_head:0.1:256:4", [2.5, 7.5, 12.5, 17.5]),
    ],
)
def test_the_frames_that_a_sampling_chooses(text: str, expected: list[float]) -> None:
    plan = Sampling.parse(text).plan(frame_seconds=TIMES)
    chosen = plan.select(TIMES, end_seconds=20.0)
    # The frame on screen is at most a frame's time before its target.
    assert [TIMES[i] for i in chosen] == pytest.approx(expected, abs=0.0401)
    assert len(chosen) == len(expected)


def test_linspace_shows_the_first_and_the_last_frame_of_uneven_times() -> None:
    times = [0.0, 0.1, 1.0, 1.7, 5.0, 9.31]
    chosen = Sampling.parse("linspace:3").plan(frame_seconds=times).select(times)
    assert [times[i] for i in chosen] == [0.0, 1.7, 9.31]


def test_a_clip_bounds_every_sampling() -> None:
    for text in ("uniform_mid:4", "fps:2", "fps_head:2:3", "fps_then_uniform:9:3"):
        plan = Sampling.parse(text).plan(clip=(4.0, 6.0))
        assert isinstance(plan, SamplingPlan)
        seconds = [TIMES[i] for i in plan.select(TIMES, end_seconds=20.0)]
        assert min(seconds) >= 3.96
        assert max(seconds) < 6.0


def test_sampling_that_needs_times_says_so() -> None:
    assert Sampling.parse("linspace:4").needs_frame_times
    assert Sampling.parse("timeviper").needs_frame_times
    with pytest.raises(PlanError, match="needs the times"):
        Sampling.parse("timeviper").plan()
    with pytest.raises(PlanError, match="resolved"):
        Sampling().plan()
