"""lmms-eval's requests are plain tuples: all but its base class is tested without it."""

import json
import math
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from eval.plugins.answering import Answerer, PluginSettings, VideoPart
from eval.plugins.lmms import (
    in_given_order,
    in_video_order,
    losses,
    read_chat,
    read_likelihood,
    read_simple,
    replies,
)
from tests.helpers import save_tiny, tiny_vlm, write_mp4
from timevlm import InputError, VideoError

ROOT = Path(__file__).parents[3]
needs_lmms = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval not installed")

DOCUMENTS = {
    "t": {
        "test": [
            {"video": "a.mp4", "q": "What?", "answer": "red"},
            {"video": "b.mp4", "q": "Who?", "answer": "blue"},
            {"video": "a.mp4", "q": "Why?", "answer": "green"},
        ]
    }
}


def videos(document: dict) -> list[str]:
    return [document["video"]]


def simple(doc_id: int, **gen_kwargs: Any) -> tuple:
    question = DOCUMENTS["t"]["test"][doc_id]["q"]
    return (question, gen_kwargs, videos, doc_id, "t", "test")


class Scripted:
    """Stands for an Answerer: logs what it is asked."""

    def __init__(self, *, broken: str = "", **settings: Any) -> None:
        self.settings = PluginSettings(**settings)
        self.broken = broken
        self.asked: list[Any] = []

    def answer(self, visual: Any, prompt: str, **limits: Any) -> str:
        self.asked.append((visual, prompt, limits))
        if self.broken and visual.path == self.broken:
            raise VideoError(f"{self.broken} is broken")
        return f"{visual.path} {prompt}"

    def score(self, visual: Any, question: str, answers: list[str]) -> list[Any]:
        self.asked.append((visual, question, answers))
        return [
            SimpleNamespace(log_probability=-float(len(a)), is_greedy=a == "red") for a in answers
        ]


# ---- requests -------------------------------------------------------------------------------


def test_a_simple_request_is_read():
    question = read_simple(simple(1, max_new_tokens=5), DOCUMENTS, "fps:2")
    assert question.text == "Who?"
    assert question.options == {"max_new_tokens": 5}
    assert question.show() == question.key == VideoPart("b.mp4", sampling="fps:2")


def test_a_chat_request_is_read():
    def messages(document: dict) -> list[dict]:
        video = {"type": "video", "url": document["video"], "start_time": 1, "end_time": 2.5}
        text = {"type": "text", "text": document["q"]}
        return [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [video, text]},
        ]

    question = read_chat(("unused", messages, {"until": "x"}, 0, "t", "test"), DOCUMENTS, "model")
    assert question.text == "Be brief.\nWhat?"
    assert question.show() == VideoPart("a.mp4", 1.0, 2.5)
    assert question.options == {"until": "x"}


def test_a_chat_request_with_sound_is_refused():
    def messages(_: dict) -> list[dict]:
        return [{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}]

    with pytest.raises(InputError, match="a question has audio"):
        read_chat(("", messages, {}, 0, "t", "test"), DOCUMENTS, "model").show()


def test_pictures_are_read_when_they_are_needed():
    calls = []

    def pictures(document: dict) -> list[Image.Image]:
        calls.append(document["q"])
        return [Image.new("RGB", (2, 2))]

    question = read_simple(("Q?", {}, pictures, 2, "t", "test"), DOCUMENTS, "model")
    assert question.key == (2, "t", "test")
    assert [p.size for p in question.show()] == [(2, 2)]
    assert calls == ["Why?", "Why?"]


@pytest.mark.parametrize("target", [" red", lambda document: document["answer"]])
def test_a_likelihood_request_is_read(target: Any):
    question = read_likelihood(("What?", target, videos, 0, "t", "test"), DOCUMENTS, "model")
    assert question.continuation.strip() == "red"
    assert question.key == VideoPart("a.mp4")


def test_a_likelihood_without_a_video_is_refused():
    with pytest.raises(InputError, match="acc_mutual_info"):
        read_likelihood(("", "red"), DOCUMENTS, "model")


# ---- replies --------------------------------------------------------------------------------


def read_all(*requests: tuple) -> list:
    return [read_simple(request, DOCUMENTS, "model") for request in requests]


def test_questions_of_a_video_follow_each_other_and_replies_keep_their_places():
    questions = read_all(simple(0), simple(1), simple(2))
    answerer = Scripted()
    found = in_given_order(replies(answerer, questions), 3)
    assert found == ["a.mp4 What?", "b.mp4 Who?", "a.mp4 Why?"]
    assert [prompt for _, prompt, _ in answerer.asked] == ["What?", "Why?", "Who?"]
    assert in_video_order(questions) == [0, 2, 1]


def test_limits_reach_the_model_and_sampling_does_not():
    questions = read_all(
        simple(0, max_new_tokens=7, until="\n", temperature=0, do_sample=False, num_beams=1),
        simple(1, until=["a", "b"], temperature=0.7, num_beams=4),
    )
    answerer = Scripted()
    with pytest.warns(UserWarning, match="replies are greedy; num_beams, temperature is ignored"):
        list(replies(answerer, questions))
    limits = [given for _, _, given in answerer.asked]
    assert limits == [{"max_new_tokens": 7, "until": ("\n",)}, {"until": ("a", "b")}]


def test_a_broken_video_ends_the_run_or_is_counted():
    questions = read_all(simple(0), simple(1), simple(2))
    with pytest.raises(VideoError, match=r"a\.mp4 is broken"):
        list(replies(Scripted(broken="a.mp4"), questions))
    answerer = Scripted(broken="a.mp4", broken_videos="empty")
    with pytest.warns(UserWarning, match=r'2 questions were answered by "": a\.mp4 is broken'):
        assert in_given_order(replies(answerer, questions), 3) == ["", "b.mp4 Who?", ""]
    assert len(answerer.asked) == 2  # the broken video is tried once


def test_losses_are_negative_log_likelihoods_and_share_a_prompt():
    answers = ["red", " green", "blue"]
    requests = [("What?", answer, videos, 0, "t", "test") for answer in answers]
    requests += [("Who?", "red", videos, 1, "t", "test")]
    questions = [read_likelihood(request, DOCUMENTS, "model") for request in requests]
    answerer = Scripted()
    found = in_given_order(losses(answerer, questions), 4)
    assert found == [(3.0, True), (6.0, False), (4.0, False), (3.0, True)]
    assert [asked for _, _, asked in answerer.asked] == [answers, ["red"]]


def test_a_missing_reply_is_not_filled_in():
    assert in_given_order([(1, "b"), (0, "a")], 2) == ["a", "b"]
    with pytest.raises(InputError, match="2 requests were made, but 1 were answered"):
        in_given_order([(1, "b")], 2)


def test_with_a_real_model_the_smallest_loss_is_the_letter_of_the_choice(tmp_path: Path):
    video = write_mp4(tmp_path / "v.mp4", 8)
    answerer = Answerer(PluginSettings(), tiny_vlm())
    documents = {"t": {"test": [{"video": str(video)}]}}
    options = ["red", "green", "blue", "yellow"]
    prompt = "Which?\n" + "\n".join(f"{k}. {v}" for k, v in zip("ABCD", options, strict=True))
    asked = read_simple((prompt, {}, videos, 0, "t", "test"), documents, "model")
    [letter] = in_given_order(replies(answerer, [asked]), 1)
    scored = [
        read_likelihood(("Which?", f" {option}", videos, 0, "t", "test"), documents, "model")
        for option in options
    ]
    values = [loss for loss, _ in in_given_order(losses(answerer, scored), 4)]
    assert letter == "ABCD"[values.index(min(values))]
    assert all(math.isfinite(value) and value > 0 for value in values)


# ---- what lmms-eval finds -------------------------------------------------------------------


def test_the_entry_point_names_what_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["timevlm"].partition(":")
    assert callable(getattr(import_module(module), name))


@needs_lmms
def test_lmms_eval_finds_both_interfaces():
    from lmms_eval.models import get_model

    assert get_model("timevlm").is_simple is False
    assert get_model("timevlm", force_simple=True).is_simple is True


@needs_lmms
def test_lmms_eval_runs_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    tasks = ROOT / "eval" / "plugins" / "lmms_tasks"
    (tmp_path / "toyworld").mkdir()
    write_mp4(tmp_path / "toyworld" / "v.mp4", 8)
    question = {"id": "q", "question": "Which colour?", "options": ["red", "blue"], "answer": 1}
    query = {"id": "g", "query": "a red ball", "spans": [[0.0, 2.0]]}
    content = {"videos": [{"video": "v.mp4", "questions": [question], "grounding": [query]}]}
    (tmp_path / "toyworld" / "annotations.json").write_text(json.dumps(content))
    model = save_tiny(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    scores = {}
    for name, metric, is_simple in (
        ("toyworld_choice", "accuracy", False),
        ("toyworld_likelihood", "acc", True),
        ("toyworld_when", "iou", False),
    ):
        found = simple_evaluate(
            "timevlm",
            model_args=f"pretrained={model},device=cpu",
            tasks=[name],
            task_manager=TaskManager("ERROR", include_path=str(tasks), model_name="timevlm"),
            force_simple=is_simple,
        )
        scores[name] = found["results"][name][f"{metric},none"]
    assert scores["toyworld_choice"] == scores["toyworld_likelihood"]
    assert 0.0 < scores["toyworld_when"] <= 1.0
