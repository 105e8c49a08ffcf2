from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.plugins.answering import Answerer, PluginSettings, VideoPart, read_visual
from tests.helpers import FRAME_SIDE, tiny_vlm, write_mp4
from timevlm import InputError, PlanError, TimeVLM, VideoError
from timevlm.video.tensor_frames import TensorFrames

CHOICE = "What color is the first shape?\nA. red\nB. green\nC. blue\nAnswer with a letter."
EVENT = "I give you the textual sentence: a red ball. Please return its start time and end time."


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mp4(tmp_path_factory.mktemp("video") / "v.mp4", 32)  # 8 s at 4 frames/s


@pytest.fixture(scope="module")
def vlm() -> TimeVLM:
    return tiny_vlm()


@pytest.fixture
def answerer(vlm: TimeVLM) -> Answerer:
    return Answerer(PluginSettings(), vlm)


def picture(grey: int) -> Image.Image:
    return Image.new("RGB", (FRAME_SIDE, FRAME_SIDE), (grey, grey, grey))


# ---- what is shown --------------------------------------------------------------------------


def test_one_video_in_any_form():
    assert read_visual(["a/b.mp4"], "fps:2") == VideoPart("a/b.mp4", sampling="fps:2")
    assert read_visual([Path("b.mkv")]) == VideoPart("b.mkv")
    assert read_visual([{"url": "file:///b.mp4", "start_time": 2}]) == VideoPart("/b.mp4", 2.0)
    assert read_visual([{"path": "b.mp4", "video_start": 1, "video_end": "2.5"}]) == VideoPart(
        "b.mp4", 1.0, 2.5
    )


def test_pictures_in_any_form(tmp_path: Path):
    picture(7).save(tmp_path / "p.png")
    opened, given = read_visual([str(tmp_path / "p.png"), picture(9)])
    assert opened.getpixel((0, 0)) == (7, 7, 7)
    assert given.getpixel((0, 0)) == (9, 9, 9)
    assert read_visual([]) == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a.mp4", "b.mp4"], "shows 2 videos and 0 pictures"),
        (["a.mp4", picture(0)], "shows 1 videos and 1 pictures"),
        ([{"audio": 1}], "names no video"),
        ([np.zeros(3)], "a visual is a ndarray"),
    ],
)
def test_what_cannot_be_shown_is_refused(items: list, message: str):
    with pytest.raises(InputError, match=message):
        read_visual(items)


# ---- settings -------------------------------------------------------------------------------


def test_settings_by_name():
    read = PluginSettings.read({"pretrained": "x", "device": None, "memories": 2})
    assert read == PluginSettings(pretrained="x", memories=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_frames": 32}, r"unknown model options \['max_num_frames'\]; known are"),
        ({"answers": "words"}, "answers is 'words'; it is one of native, text"),
        ({"broken_videos": "skip"}, "broken_videos is 'skip'"),
        ({"memories": 0}, "memories is 0"),
        ({"picture_fps": "fast"}, "picture_fps is 'fast'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        PluginSettings.read(options)


def test_an_unknown_sampling_is_refused_before_the_model_loads():
    with pytest.raises(PlanError, match="unknown sampling 'often'"):
        PluginSettings(sampling="often")


# ---- answers --------------------------------------------------------------------------------


def test_a_choice_is_the_letter_of_what_the_api_chooses(answerer: Answerer, video: Path):
    part = VideoPart(str(video))
    memory = answerer.vlm.watch(video, plan=answerer.vlm.make_plan())
    question, options = "What color is the first shape?", ["red", "green", "blue"]
    expected = answerer.vlm.ask(memory, question, choices=options)
    assert answerer.answer(part, CHOICE) == "ABC"[expected.choice]
    likeliest = max(answerer.score(part, question, options), key=lambda s: s.log_probability)
    assert answerer.score(part, question, [options[expected.choice]]) == [likeliest]


def test_options_with_equal_texts_share_a_letter(answerer: Answerer, video: Path):
    prompt = "Which?\nA. Red.\nB. red\nC. blue"
    assert answerer.answer(VideoPart(str(video)), prompt) in ("A", "C")
    assert answerer.answer(VideoPart(str(video)), "Which?\nA. red\nB. Red") == "A"


def test_an_event_is_answered_by_the_best_span(answerer: Answerer, video: Path):
    memory = answerer.vlm.watch(video, plan=answerer.vlm.make_plan())
    best = max(answerer.vlm.ground(memory, "a red ball"), key=lambda s: (s.score, -s.start))
    expected = f"The event happens in the {best.start:.2f} - {best.end:.2f} seconds."
    assert answerer.answer(VideoPart(str(video)), EVENT) == expected


def test_free_answers_end_where_the_harness_says(answerer: Answerer, video: Path):
    part = VideoPart(str(video))
    whole = answerer.answer(part, "What happens?")
    assert whole == answerer.vlm.ask(answerer.remember(part), "What happens?").text
    short = answerer.answer(part, "What happens?", max_new_tokens=3)
    assert whole.startswith(short)
    assert len(short) < len(whole)
    stop = whole[4:7]
    cut = answerer.answer(part, "What happens?", until=("", stop, "never said"))
    assert cut == whole[: whole.index(stop)].strip()


def test_in_words_the_whole_prompt_is_asked(vlm: TimeVLM, video: Path):
    part = VideoPart(str(video))
    speaker = Answerer(PluginSettings(answers="text"), vlm)
    assert speaker.answer(part, CHOICE) == vlm.ask(speaker.remember(part), CHOICE).text


# ---- memories -------------------------------------------------------------------------------


def test_a_video_is_watched_once_and_few_are_kept(vlm: TimeVLM, video: Path, tmp_path: Path):
    answerer = Answerer(PluginSettings(memories=2), vlm)
    first = VideoPart(str(video), sampling="uniform_mid:2")
    memory = answerer.remember(first)
    assert answerer.remember(replace(first)) is memory
    clip = answerer.remember(VideoPart(str(video), 2.0, 4.0, "uniform_mid:2"))
    assert clip.frame_seconds.tolist() != memory.frame_seconds.tolist()
    assert answerer.remember(first) is memory
    answerer.remember(VideoPart(str(video), sampling="uniform_mid:1"))
    assert answerer.remember(first) is memory  # used last, so the clip had to go
    again = answerer.remember(VideoPart(str(video), 2.0, 4.0, "uniform_mid:2"))
    assert again is not clip
    assert torch.equal(again.frame_seconds, clip.frame_seconds)


def test_a_sampling_that_needs_the_frames_times(answerer: Answerer, video: Path):
    memory = answerer.remember(VideoPart(str(video), sampling="linspace:3"))
    assert memory.frame_seconds.tolist() == [0.0, 3.75, 7.75]


def test_a_broken_video_is_named(answerer: Answerer, tmp_path: Path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        answerer.answer(VideoPart(str(tmp_path / "broken.mp4")), CHOICE)


def test_pictures_are_frames_at_a_steady_rate(vlm: TimeVLM):
    answerer = Answerer(PluginSettings(picture_fps=2.0), vlm)
    memory = answerer.remember([picture(0), picture(100), picture(200)])
    assert memory.frame_seconds.tolist() == [0.0, 0.5, 1.0]
    pixels = torch.tensor([0, 100, 200], dtype=torch.uint8)[:, None, None, None]
    pixels = pixels.expand(-1, 3, FRAME_SIDE, FRAME_SIDE)
    frames = TensorFrames(pixels, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    found, expected = (vlm.score(seen, "What?", ["red", "blue"]) for seen in (memory, frames))
    for score, other in zip(found, expected, strict=True):
        assert score.log_probability == pytest.approx(other.log_probability, abs=1e-4)


def test_without_a_visual_one_grey_picture_is_watched(answerer: Answerer):
    assert answerer.remember([]).num_frames == 1
    assert answerer.answer([], CHOICE) == answerer.answer([picture(128)], CHOICE)
