import base64
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from eval.models import ModelSettings, load_model
from eval.models.base import VideoRequest
from eval.models.baselines import BlindModel, ConstantModel
from eval.models.frames import read_clip
from eval.models.timevlm_model import TimeVLMModel
from eval.records import Prompt, Sample
from eval.runner import evaluate
from eval.sampling import Sampling
from eval.settings import read_result
from tests.eval.runs import make_toyworld, settings
from tests.eval.tiny_qwen import qwen_processor_for_pictures, save_llava, save_qwen
from tests.helpers import (
    save_tiny,
    write_mp4,
)
from timevlm import SamplingPlan, TimeVLM
from timevlm.errors import InputError, ModelError, PlanError, VideoError
from timevlm.video import DecodeLimits

FOUR = Sampling.parse("uniform_mid:4")
PROMPT = Prompt(text="Which colour?", system="Watch well.", answer_prefix="Best option: (")


def question(task: str = "choice", **changes: object) -> Sample:
    values = {
        "id": "b:t:1",
        "bench": "b",
        "task": task,
        "video": "v.mp4",
        "question": "What color is the first shape?",
        "cluster": "v",
        "options": ("red", "green", "blue") if task == "choice" else (),
    }
    return Sample(**{**values, **changes})


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mp4(tmp_path_factory.mktemp("video") / "v.mp4", 32)  # 8 s at 4 frames/s


# ---- timevlm --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> TimeVLMModel:
    return load_model(ModelSettings(name=str(tiny_folder)))


def test_timevlm_answers_what_its_own_api_answers(tiny: TimeVLMModel, video: Path) -> None:
    vlm = tiny.vlm
    plan = SamplingPlan(mode="uniform", max_frames=4, resolution=vlm.frame_size)
    memory = vlm.watch(video, plan=plan)
    sample = question()
    with tiny.open(video, FOUR) as session:
        choice = session.answer(sample, PROMPT)
        spans = session.answer(question("grounding"), PROMPT)
        captions = session.answer(question("dense_caption"), PROMPT)
        words = session.answer(question("open_answer"), PROMPT)
    assert words.raw == vlm.ask(memory, sample.question, max_new_tokens=256).text
    expected = vlm.ask(memory, sample.question, choices=sample.options)
    assert (choice.choice, choice.confidence) == (expected.choice, expected.confidence)
    assert choice.evidence == tuple((s.start, s.end) for s in expected.evidence)
    found = vlm.ground(memory, sample.question)
    assert set(spans.spans) == {(s.start, s.end) for s in found}
    assert captions.captions == tuple((c.start, c.end, c.text) for c in vlm.caption(memory))


def test_what_the_questions_share_is_reported_once(tiny: TimeVLMModel, video: Path) -> None:
    with tiny.open(video, FOUR) as session:
        first = session.answer(question(), PROMPT)
        second = session.answer(question(), PROMPT)
        assert session.duration_seconds == pytest.approx(8.0)
        assert session.shown(question(), PROMPT).text.endswith("red\ngreen\nblue")
    assert first.seconds_decode > 0
    assert first.seconds_encode > 0
    assert (second.seconds_decode, second.seconds_encode, second.seconds_prefill) == (0, 0, 0)
    assert second.seconds_generate > 0
    assert (first.num_frames, first.first_frame_seconds) == (4, 1.0)
    assert first.tokens_in > 4 * 2
    assert first.details["memory_bytes"] > 0
    assert "memory_bytes" not in second.details
    assert 0 < first.details["tokens_kept"] < first.tokens_in / 2
    assert first.choice == second.choice


def test_timevlm_in_words_reads_the_benchmarks_prompt(tiny_folder: Path, video: Path) -> None:
    model = load_model(ModelSettings(name=str(tiny_folder), native=False))
    with model.open(video, FOUR) as session:
        assert session.shown(question(), PROMPT) == PROMPT
        reply = session.answer(question(), PROMPT)
    assert reply.choice is None
    assert model.reads_prompts
    # The length limit is that of the run.
    short = load_model(ModelSettings(name=str(tiny_folder), native=False, max_new_tokens=1))
    assert short.gen_kwargs["max_new_tokens"] == 1
    with short.open(video, FOUR) as session:
        assert len(session.answer(question(), PROMPT).raw) < len(reply.raw)


def test_options_that_cannot_be_told_apart_do_not_fail(tiny: TimeVLMModel, video: Path) -> None:
    with tiny.open(video, FOUR) as session:
        assert session.answer(question(options=("red",)), PROMPT).choice == 0
        reply = session.answer(question(options=("Red.", "green", "red", "blue")), PROMPT)
    assert reply.choice in (0, 1, 3)
    assert "equal texts" in reply.warnings[-1]


def test_a_clip_is_all_that_is_watched(tiny: TimeVLMModel, video: Path) -> None:
    with tiny.open(video, FOUR, clip=(2.0, 4.0)) as session:
        assert list(session.frame_seconds) == pytest.approx([2.25, 2.75, 3.25, 3.75], abs=0.26)
        assert session.duration_seconds == pytest.approx(2.0)
    with pytest.raises(PlanError, match="no frames in the asked range"):
        tiny.open(video, FOUR, clip=(20.0, 30.0))


@pytest.mark.parametrize("text", ["linspace:3", "timeviper", "fps:1", "fps_head:1:3"])
def test_every_sampling_reaches_the_decoder(tiny: TimeVLMModel, video: Path, text: str) -> None:
    with tiny.open(video, Sampling.parse(text)) as session:
        times = list(session.frame_seconds)
    expected = {
        "linspace:3": [0.0, 3.75, 7.75],
        "timeviper": [0.25 * k for k in range(32)],
        "fps:1": [float(k) for k in range(8)],
        "fps_head:1:3": [0.0, 1.0, 2.0],
    }
    assert times == pytest.approx(expected[text], abs=0.01)


def test_bad_videos_are_errors_of_the_video(tiny: TimeVLMModel, tmp_path: Path) -> None:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"no video" * 100)
    for path in (junk, tmp_path / "absent.mp4", tmp_path):
        with pytest.raises(VideoError):
            tiny.open(path, FOUR)


def test_a_file_that_takes_too_long_is_given_up(tiny: TimeVLMModel, video: Path) -> None:
    with pytest.raises(VideoError, match="took more than"):
        tiny.open(video, FOUR, limits=DecodeLimits(wall_seconds=0.001))


# ---- baselines ------------------------------------------------------------------------------


def test_baselines_look_at_no_frame(video: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.mp4"
    with load_model(ModelSettings(name="constant:c")).open(absent, FOUR) as session:
        assert session.answer(question(), PROMPT).choice == 2
        assert session.answer(question(options=("x", "y")), PROMPT).choice == 1
    with load_model(ModelSettings(name="blind")).open(absent, FOUR) as session:
        assert session.answer(question(options=("a", "long", "bb", "tall")), PROMPT).choice == 1
        known = question("grounding", extra={"duration": 8.0})
        assert session.answer(known, PROMPT).spans == ((2.0, 6.0),)
    with ConstantModel().open(video, FOUR) as session:
        assert session.answer(question("grounding"), PROMPT).spans[0] == pytest.approx((0.0, 8.0))
        (caption,) = session.answer(question("dense_caption"), PROMPT).captions
        assert caption[:2] == pytest.approx((0.0, 8.0))
        assert session.answer(question("detailed_caption"), PROMPT).raw


def test_any_model_can_be_blindfolded(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_model(ModelSettings(name=f"blind:{tiny_folder}"))
    seen = []
    for number in range(2):
        video = write_mp4(tmp_path / f"{number}.mp4", 8, seed=number)
        with model.open(video, FOUR) as session:
            reply = session.answer(question(), PROMPT)
            assert session.duration_seconds == pytest.approx(2.0)
        assert reply.num_frames == 0
        seen.append((reply.choice, reply.confidence))
    assert seen[0] == seen[1]
    with pytest.raises(InputError, match="cannot be asked without a video"):
        load_model(ModelSettings(name="blind:constant:A"))


def test_shuffled_frames_are_the_same_pictures_at_each_others_times(
    tiny_folder: Path, video: Path
) -> None:
    request = VideoRequest(path=video, sampling=Sampling.parse("uniform_mid:16"))
    plain, mixed = read_clip(request), read_clip(replace(request, shuffled=True))
    assert mixed.seconds == plain.seconds
    assert not torch.equal(mixed.pixels, plain.pixels)
    assert torch.equal(mixed.pixels, read_clip(replace(request, shuffled=True)).pixels)
    sums = [clip.pixels.flatten(1).sum(1).sort().values for clip in (plain, mixed)]
    assert torch.equal(*sums)
    model = load_model(ModelSettings(name=f"shuffled:{tiny_folder}"))
    inner = load_model(ModelSettings(name=str(tiny_folder)))
    replies = []
    for shown in (model, inner):
        with shown.open(video, request.sampling) as session:
            replies.append(session.answer(question(), PROMPT))
    assert replies[0].num_frames == replies[1].num_frames == 16
    assert replies[0].confidence != replies[1].confidence
    assert model.gen_kwargs["shuffled"]
    assert model.fingerprint != inner.fingerprint


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shuffled:blind", ()),
        ("shuffled:", ()),
        ("shuffled:nano", (("prefilter", "auto"),)),
        ("shuffled:openai:m", (("frames_as", "video_url"),)),
    ],
)
def test_what_has_no_frames_to_shuffle(name: str, options: tuple) -> None:
    with pytest.raises(InputError, match="shuffle"):
        load_model(ModelSettings(name=name, options=options))


@pytest.mark.parametrize("name", ["constant:AB", "constant:1"])
def test_constants_are_letters(name: str) -> None:
    with pytest.raises(InputError, match="is not a letter"):
        load_model(ModelSettings(name=name))


def test_fingerprints_tell_models_apart() -> None:
    models = [ConstantModel("A"), ConstantModel("B"), BlindModel()]
    assert len({model.fingerprint for model in models}) == 3


# ---- transformers ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_picture_family_is_shown_every_frame(tmp_path: Path, video: Path, prefix: str) -> None:
    folder = save_llava(tmp_path / "llava")
    model = load_model(ModelSettings(name=f"{prefix}{folder}", max_new_tokens=4))
    assert model.frames_as == "images"
    with model.open(video, FOUR) as session:
        reply = session.answer(question(), PROMPT)
        again = session.answer(question(), PROMPT)
    assert reply.raw == again.raw
    assert (reply.num_frames, reply.tokens_out) == (4, 4)
    with model.open(video, Sampling.parse("uniform_mid:2")) as session:
        fewer = session.answer(question(), PROMPT)
    # 28 x 28 pixels in patches of 14: four tokens a frame.
    assert reply.tokens_in - fewer.tokens_in == 2 * 4
    assert reply.seconds_prefill > 0
    assert again.seconds_decode == 0.0


def test_a_qwen2_vl_model_answers(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_qwen(tmp_path / "qwen")
    if find_spec("torchvision") is None:
        with pytest.raises(ModelError, match="pip install torchvision"):
            load_model(ModelSettings(name=str(folder)))
        pictures = qwen_processor_for_pictures(folder)
        monkeypatch.setattr("eval.models.hf.AutoProcessor.from_pretrained", lambda name: pictures)
    model = load_model(ModelSettings(name=str(folder), max_new_tokens=4))
    assert model.frames_as == ("images" if find_spec("torchvision") is None else "video")
    with model.open(video, FOUR) as session:
        reply = session.answer(question(), PROMPT)
        bare = session.answer(question(), replace(PROMPT, answer_prefix=""))
    # Bytes are tokens here, so the prefix begins the model's own turn in full.
    assert reply.tokens_in - bare.tokens_in == len(PROMPT.answer_prefix)
    with model.watch_nothing(8.0) as session:
        assert session.answer(question(), PROMPT).tokens_in < reply.tokens_in


def test_models_that_cannot_be_loaded_say_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(ModelSettings(name=str(tmp_path)))
    with pytest.raises(InputError, match="frames_as=video or images"):
        load_model(ModelSettings(name=str(tmp_path), options=(("colour", 1),)))


# ---- endpoints ------------------------------------------------------------------------------


class Endpoint:
    """A server whose replies are given: an int is an HTTP status, a str the words, bytes as is."""

    def __init__(self) -> None:
        self.replies: list[int | str | bytes] = []
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(json.loads(body))
                outer.headers.append({"path": self.path, **dict(self.headers)})
                reply = outer.replies.pop(0) if outer.replies else "B"
                status, data = 200, reply
                if isinstance(reply, int):
                    status, data = reply, b'{"error": "as told"}'
                elif isinstance(reply, str):
                    message = {"choices": [{"message": {"content": reply}}]}
                    usage = {"prompt_tokens": 11, "completion_tokens": 2}
                    data = json.dumps({**message, "usage": usage}).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "0.01")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, address: object) -> None:
                pass  # a client that gave up waiting

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def model(self, **options: object):
        values = {"base_url": self.url, "first_wait_seconds": 0.01, **options}
        return load_model(ModelSettings(name="openai:judge-1", options=tuple(values.items())))


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def test_an_endpoint_gets_frames_with_their_times(
    endpoint: Endpoint, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    model = endpoint.model(max_side=32)
    with model.open(video, FOUR) as session:
        reply = session.answer(question(), PROMPT)
    assert (reply.raw, reply.tokens_in, reply.tokens_out, reply.num_frames) == ("B", 11, 2, 4)
    (request,) = endpoint.requests
    assert (request["model"], request["temperature"]) == ("judge-1", 0)
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Watch well."}
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url"] * 4 + ["text"]
    assert user["content"][0]["text"] == "<1.0s>"
    url = user["content"][1]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))[:2] == b"\xff\xd8"
    assert user["content"][-1]["text"].startswith("Which colour?")
    assert endpoint.headers[0]["path"] == "/v1/chat/completions"
    assert endpoint.headers[0]["Authorization"] == "Bearer secret-1"
    assert "secret-1" not in json.dumps([model.gen_kwargs, model.fingerprint])


def test_an_endpoint_can_get_the_file_itself(endpoint: Endpoint, video: Path) -> None:
    model = endpoint.model(frames_as="video_url")
    with model.open(video, FOUR) as session:
        assert session.answer(question(), PROMPT).raw == "B"
    part = endpoint.requests[0]["messages"][1]["content"][0]
    data = part["video_url"]["url"].removeprefix("data:video/mp4;base64,")
    assert base64.b64decode(data) == video.read_bytes()
    with pytest.raises(InputError, match="frames_as=images"):
        model.open(video, FOUR, clip=(0.0, 1.0))


def test_what_may_pass_is_tried_again(endpoint: Endpoint, video: Path) -> None:
    endpoint.replies = [429, 500, b"no json", b'{"choices": []}', "C"]
    with endpoint.model().open(video, FOUR) as session:
        assert session.answer(question(), PROMPT).raw == "C"
    assert len(endpoint.requests) == 5


def test_refusals_and_dead_endpoints_are_errors(endpoint: Endpoint, video: Path) -> None:
    with endpoint.model(retries=1).open(video, FOUR) as session:
        endpoint.replies = [400]
        with pytest.raises(ModelError, match=r"refuses: HTTP 400: .*as told"):
            session.answer(question(), PROMPT)
        assert len(endpoint.requests) == 1
        endpoint.replies = [500, 503]
        with pytest.raises(ModelError, match="no answer in 2 tries: HTTP 503"):
            session.answer(question(), PROMPT)
        endpoint.server.shutdown()
        endpoint.server.server_close()
        with pytest.raises(ModelError, match="no answer in 2 tries"):
            session.answer(question(), PROMPT)


def test_a_slow_endpoint_is_given_up(video: Path, endpoint: Endpoint) -> None:
    release = threading.Event()
    model = endpoint.model(retries=0, timeout_seconds=0.1)
    handler = endpoint.server.RequestHandlerClass
    quick = handler.do_POST
    handler.do_POST = lambda self: release.wait(10) and quick(self)
    with model.open(video, FOUR) as session, pytest.raises(ModelError, match="timed out"):
        session.answer(question(), PROMPT)
    release.set()


def test_endpoint_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InputError, match="--base-url"):
        load_model(ModelSettings(name="openai:m"))
    url = ("base_url", "http://localhost:1/v1")
    with pytest.raises(InputError, match="unknown endpoint options"):
        load_model(ModelSettings(name="openai:m", options=(url, ("colour", 1))))
    with pytest.raises(InputError, match="use images or video_url"):
        load_model(ModelSettings(name="openai:m", options=(url, ("frames_as", "sound"))))


# ---- whole runs -----------------------------------------------------------------------------


def test_a_whole_run_with_videos_that_cannot_be_decoded(tiny: TimeVLMModel, tmp_path: Path) -> None:
    data = make_toyworld(tmp_path / "data", num_videos=3, num_questions=2)
    (data / "videos").mkdir()
    write_mp4(data / "videos" / "000.mp4", 16)
    (data / "videos" / "001.mp4").write_bytes(b"junk" * 100)
    given = settings(data, split="all", sampling=FOUR)
    outcome = evaluate(given, out=tmp_path / "out", model=tiny)
    assert outcome.missing == 0
    rows = read_result(outcome.folder).rows
    assert [row["error"] is None for row in rows] == [True] * 4 + [False] * 8
    assert "is not a video" in rows[4]["error"]
    assert "does not exist" in rows[-1]["error"]
    assert rows[0]["parse_rule"] == "native"
    assert rows[0]["frame_times"] == {"first": 0.5, "last": 3.5, "n": 4}
    assert rows[0]["sampling"] == "uniform_mid:4"


def test_nano_is_found_by_name() -> None:
    model = load_model(ModelSettings(name="nano"))
    assert isinstance(model.vlm, TimeVLM)
    assert model.default_sampling == Sampling.parse("fps:1")
    with pytest.raises(ModelError, match="did you mean 'nano'"):
        load_model(ModelSettings(name="nanoo"))
