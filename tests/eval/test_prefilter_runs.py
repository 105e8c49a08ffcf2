"""Runs with a pre-filter: the frame budget goes where something happens, and the result says so."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from eval.models.base import ModelSettings
from eval.models.timevlm_model import TimeVLMModel
from eval.records import Prompt, Sample
from eval.runner import evaluate
from eval.sampling import Sampling
from eval.settings import RunSettings, read_result
from eval.sweep import cell_settings
from tests.eval.runs import make_toyworld
from tests.helpers import save_tiny
from timevlm import PlanError, SamplingPlan
from timevlm.errors import InputError

PROMPT = Prompt(text="Which colour?")
BUDGET = Sampling.parse("fps_then_uniform:4:12")
EVENT = (10.0, 13.0)


def write_event(path: Path) -> Path:
    """24 s at 4 frames/s: grey, and colours that change between 10 and 13 s."""
    colours = np.full((96, 3), 128, dtype=np.uint8)
    first, last = (int(4 * second) for second in EVENT)
    colours[first:last] = np.random.default_rng(0).integers(0, 256, (last - first, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for colour in colours:
            picture = np.broadcast_to(colour, (64, 64, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_event(tmp_path_factory.mktemp("video") / "v.mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, **options: object) -> TimeVLMModel:
    return TimeVLMModel(ModelSettings(name=str(folder), options=tuple(options.items())))


def question() -> Sample:
    return Sample(
        id="b:t:1",
        bench="b",
        task="choice",
        video="v.mp4",
        cluster="v",
        question="What colour is the first shape?",
        options=("red", "green"),
    )


def in_event(seconds: list[float]) -> int:
    return sum(EVENT[0] <= second < EVENT[1] for second in seconds)


def test_the_budget_goes_to_the_event_as_in_the_api(folder: Path, video: Path) -> None:
    plain, focused = load(folder), load(folder, prefilter="novelty")
    with plain.open(video, BUDGET) as even, focused.open(video, BUDGET) as session:
        assert len(even.frame_seconds) == len(session.frame_seconds) == 12
        assert in_event(session.frame_seconds) >= in_event(even.frame_seconds) + 2
        first, second = session.answer(question(), PROMPT), session.answer(question(), PROMPT)
    plan = SamplingPlan(mode="fps_then_uniform", fps=4.0, max_frames=12)
    memory = focused.vlm.watch(video, plan=plan, prefilter="novelty")
    assert memory.frame_seconds.tolist() == session.frame_seconds
    expected = focused.vlm.ask(memory, question().question, choices=question().options)
    assert (first.choice, first.confidence) == (expected.choice, expected.confidence)
    noted = first.details["prefilter"]
    start, end = noted["segments"][0]
    assert start < EVENT[0] < EVENT[1] < end
    assert 0 < noted["seconds"] < first.seconds_encode
    assert "prefilter" not in second.details


def test_the_questions_of_a_video_name_what_is_looked_for(folder: Path, video: Path) -> None:
    model = load(folder, prefilter="minconv")
    questions = ("Does the ball bounce?", "Which shape spins first?")
    with model.open(video, BUDGET, questions=questions) as session:
        noted = session.answer(question(), PROMPT).details["prefilter"]
    assert {"bounce", "spin"} <= set(noted["named"])


def test_a_clip_and_a_budget_that_holds_everything(folder: Path, video: Path) -> None:
    model = load(folder, prefilter="novelty")
    with model.open(video, Sampling.parse("uniform_mid:4"), clip=(8.0, 16.0)) as session:
        assert len(session.frame_seconds) == 4
        assert all(8.0 <= second < 16.0 for second in session.frame_seconds)
    with model.open(video, Sampling.parse("fps:1")) as session:
        assert list(session.frame_seconds) == [float(k) for k in range(24)]
        assert session.answer(question(), PROMPT).details["prefilter"]["segments"] == []


def test_what_a_prefilter_cannot_be(folder: Path) -> None:
    with pytest.raises(InputError, match="did you mean minconv"):
        load(folder, prefilter="mincnv")
    with pytest.raises(InputError, match="prefilter is 3"):
        load(folder, prefilter=3)
    load(folder).check_sampling(Sampling.parse("linspace:8"))
    with pytest.raises(PlanError, match="use uniform_mid:8"):
        load(folder, prefilter="novelty").check_sampling(Sampling.parse("linspace:8"))


def test_compression_as_trained_has_a_name(folder: Path) -> None:
    named = load(folder, transv="on")
    assert named.gen_kwargs == load(folder).gen_kwargs
    assert named.fingerprint == load(folder, transv="on", prefilter="off").fingerprint


def test_a_run_records_its_prefilter_and_off_is_none(folder: Path, tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=1, num_questions=2)
    write_event(data / "videos" / "000.mp4")
    base = RunSettings(
        bench="toyworld",
        data=str(data),
        split="choice",
        model=ModelSettings(name=str(folder)),
        sampling=Sampling.parse("uniform_mid:6"),
    )
    found = {}
    for name in (None, "off", "novelty"):
        cell = cell_settings(base, {"model.prefilter": name})
        outcome = evaluate(cell, root=tmp_path / "results")
        found[name] = read_result(outcome.folder)
    assert found[None].folder == found["off"].folder != found["novelty"].folder
    plain, focused = found[None].config, found["novelty"].config
    assert "prefilter" not in plain.gen_kwargs
    assert focused.gen_kwargs["prefilter"]["name"] == "novelty"
    assert (plain.frames_rule, focused.frames_rule) == (
        "uniform_mid:6",
        "uniform_mid:6, pre-filter novelty",
    )
    assert focused.settings.model.option_values() == {"prefilter": "novelty"}
    assert json.loads((found["novelty"].folder / "config.json").read_text())["key"] == focused.key
    rows = found["novelty"].rows
    assert [row["error"] for row in rows] == [None, None]
    assert [row["n_frames"] for row in rows] == [6, 6]
    assert rows[0]["details"]["prefilter"]["segments"]
    with pytest.raises(PlanError, match="leaves a pre-filter nothing"):
        evaluate(
            cell_settings(base, {"model.prefilter": "novelty", "sampling": "linspace:6"}),
            root=tmp_path / "results",
        )
