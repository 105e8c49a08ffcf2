"""The command line with a fake model: what is parsed, printed, written, cached and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from timevlm import cli
from timevlm.cache import MemoryCache
from timevlm.cli import session
from timevlm.cli.options import spread_choices
from timevlm.errors import MemoryFileError, ModelError
from timevlm.results import Answer, Caption, Span, Timings
from timevlm.video.identity import file_sha256
from timevlm.video.sampling import SamplingPlan


@dataclass(frozen=True)
class FakeMemory:
    video_path: str
    video_sha256: str
    plan: dict = field(
        default_factory=lambda: {"fps": 1.0, "end": None, "start": 2.5, "resolution": [64, 128]}
    )
    timings: Timings = field(default_factory=lambda: Timings(decode=3.0))
    warnings: tuple[str, ...] = ("2 broken frames skipped",)
    model_name: str = "fake"
    num_frames: int = 8
    start_seconds: float = 0.0
    end_seconds: float = 8.0

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps({"video": self.video_path, "sha": self.video_sha256}))


class FakeTimeVLM:
    """Counts what it is asked to do."""

    fingerprint = "f" * 64
    name = "fake"
    trained_on = "colored shapes."

    def __init__(self) -> None:
        self.watched: list[dict] = []
        self.asked: list[tuple] = []
        self.error: BaseException | None = None
        self.confidence = 0.875

    def make_plan(self, *, fps=None, start=None, end=None, max_frames=None) -> SamplingPlan:
        return SamplingPlan(fps=fps or 1.0, start=start, end=end, max_frames=max_frames)

    def watch(self, source: Path, **options: object) -> FakeMemory:
        self.watched.append(options)
        if self.error is not None:
            raise self.error
        return FakeMemory(str(source), file_sha256(source))

    def remember(self, path: Path) -> FakeMemory:
        try:
            data = json.loads(path.read_text())
        except ValueError as error:
            raise MemoryFileError(f"{path} is damaged") from error
        return FakeMemory(data["video"], data["sha"])

    def ask(self, memory, question, *, choices=None, seed=None) -> Answer:
        self.asked.append((question, choices, seed))
        return Answer(
            question=question,
            text=choices[0] if choices else "[red] circle",
            choice=0 if choices else None,
            choices=tuple(choices or ()),
            confidence=self.confidence,
            evidence=(Span(start=1.5, end=2.5, score=0.5),),
            timings=memory.timings,
            plan=memory.plan,
            warnings=memory.warnings,
            video=memory.video_path,
            model=memory.model_name,
        )

    def unknown_words_warnings(self, text: str) -> tuple[str, ...]:
        return ("fake was not taught the words: zebra",) if "zebra" in text else ()

    def ground(self, memory, query) -> list[Span]:
        if "unsure" in query:
            return [Span(start=4, end=6, score=0.3)]
        return [Span(start=4, end=6, score=0.9), Span(start=1, end=2, score=0.25)]

    def caption(self, memory) -> list[Caption]:
        return [Caption(start=0, end=4, text="a red circle moves")]

    def chat(self, memory) -> "FakeTimeVLM":
        self.memory = memory
        return self

    def send(self, text: str) -> Answer:
        if text == "bad":
            raise ModelError("too long a question; ask a shorter one")
        return self.ask(self.memory, text)


@pytest.fixture
def vlm(monkeypatch, tmp_path) -> FakeTimeVLM:
    model = FakeTimeVLM()
    monkeypatch.setattr(session, "load_model", lambda name, device: model)
    monkeypatch.setenv("TIMEVLM_CACHE_DIR", str(tmp_path / "cache"))
    return model


@pytest.fixture
def video(tmp_path) -> str:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video a")
    return str(path)


def run(*args: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_ask_prints_answer_evidence_plan_and_time(vlm, video):
    result = run("ask", video, "What is it?")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "[red] circle  (confidence 0.88)"
    assert lines[1].split(maxsplit=1)[1] == "0:00:01.500 - 0:00:02.500 (0.50)"
    assert lines[2].split(maxsplit=1)[1] == "from 0:00:02.500, 1 frames/s, 128x64 pixels"
    assert lines[3].split(maxsplit=1)[1].startswith("decode 3.00 s, encode 0.00 s")
    assert result.stderr == "warning: 2 broken frames skipped\n"


def test_ask_json_is_the_answer_and_nothing_else(vlm, video):
    result = run("ask", video, "What is it?", "--json")
    answer = Answer.from_json(result.stdout)
    assert answer.question == "What is it?"
    assert answer.to_dict() == json.loads(result.stdout)


@pytest.mark.parametrize(
    "flags",
    [
        ["--choices", "red", "dark blue", "-1"],
        ["--choice", "red", "--choice", "dark blue", "--choice=-1"],
        ["--choices", "red", "--seed", "3", "--choices", "dark blue", "-1"],
        ["--choices=red", "dark blue", "-1", "--json"],
    ],
)
def test_choices_in_any_spelling(vlm, video, flags):
    assert run("ask", video, "Which?", *flags).exit_code == 0
    question, choices, _ = vlm.asked[-1]
    assert question == "Which?"
    assert choices == ("red", "dark blue", "-1")


def test_choices_may_stand_first_when_an_option_ends_them(vlm, video):
    assert run("ask", "--choices", "red", "blue", "--quiet", video, "Which?").exit_code == 0
    assert vlm.asked == [("Which?", ("red", "blue"), None)]
    assert spread_choices(["--choices", "a", "--", "v", "--choices"]) == [
        "--choice",
        "a",
        "--",
        "v",
        "--choices",
    ]


def test_low_confidence_says_what_the_model_knows(vlm, video):
    vlm.confidence = 0.2
    result = run("ask", video, "Who won?", "--json")
    assert "1 of 1 answers with low confidence; fake was trained on: colored shapes\n" in (
        result.stderr
    )
    assert Answer.from_json(result.stdout).confidence == 0.2
    assert "confidence" not in run("ask", video, "Who won?", "--quiet").stderr


def test_ground_says_so_where_it_is_unsure(vlm, video):
    sure, unsure = run("ground", video, "a ring"), run("ground", video, "unsure about a zebra")
    assert "note:" not in sure.stderr
    assert "1 of 1 answers with low confidence; fake was trained on" in unsure.stderr
    assert "warning: fake was not taught the words: zebra\n" in unsure.stderr
    warnings = json.loads(run("ground", video, "a zebra", "--json").stdout)["warnings"]
    assert warnings == ["2 broken frames skipped", "fake was not taught the words: zebra"]


def test_question_file_is_answered_from_one_memory(vlm, video, tmp_path):
    questions = tmp_path / "questions.txt"
    questions.write_text("What?\n\n  When?  \n", encoding="utf-8")
    result = run("ask", video, "--question-file", questions, "--json", "--seed", "7")
    assert [item["question"] for item in json.loads(result.stdout)] == ["What?", "When?"]
    assert vlm.asked == [("What?", None, 7), ("When?", None, 7)]
    assert len(vlm.watched) == 1
    assert result.stderr.count("warning:") == 1
    from_stdin = run("ask", video, "--question-file", "-", stdin="What?\n")
    assert "[red] circle" in from_stdin.stdout


def test_options_reach_watch(vlm, video):
    run("ask", video, "q", "--fps", "2", "--start", "1:30", "--end", "0:02:00.5", "--max-frames", 9)
    options = vlm.watched[0]
    assert options["plan"] == SamplingPlan(fps=2.0, start=90.0, end=120.5, max_frames=9)
    assert options["isolate"] is True
    assert options["progress"] is None  # stderr is no terminal here


def test_second_question_watches_nothing(vlm, video, tmp_path):
    run("ask", video, "one")
    copied = tmp_path / "copy.mp4"
    copied.write_bytes(Path(video).read_bytes())
    result = run("ask", copied, "two", "--json")
    answer = Answer.from_json(result.stdout)
    assert len(vlm.watched) == 1
    assert answer.video == str(copied)
    assert answer.timings == Timings()
    assert "cached memory" in result.stderr
    assert "cached" not in run("ask", video, "three", "--quiet").stderr


def test_videos_plans_and_models_never_share_a_memory(vlm, video, tmp_path):
    other = tmp_path / "b.mp4"
    other.write_bytes(b"video b")
    run("ask", video, "q")
    result = run("ask", other, "q", "--json")
    assert Answer.from_json(result.stdout).video == str(other)
    run("ask", video, "q", "--fps", "2")
    run("ask", video, "q", "--end", "4")
    vlm.fingerprint = "0" * 64
    run("ask", video, "q")
    assert len(vlm.watched) == 5
    run("ask", video, "q", "--no-cache")
    assert len(vlm.watched) == 6


def test_cache_entry_that_holds_another_video_is_not_used(vlm, video):
    run("ask", video, "q")
    (entry,) = MemoryCache().entries()
    path = MemoryCache().folder / f"{entry.key}.tvm"
    path.write_text(json.dumps({"video": "b.mp4", "sha": "0"}))
    result = run("ask", video, "q", "--json")
    assert "holds another video" in result.stderr
    assert Answer.from_json(result.stdout).video == video
    assert len(vlm.watched) == 2


def test_ground_text_json_csv_vtt(vlm, video, tmp_path):
    assert run("ground", video, "it").stdout.startswith("0:00:04.000 - 0:00:06.000  score 0.90\n")
    data = json.loads(run("ground", video, "it", "--json").stdout)
    assert data["query"] == "it"
    assert [Span.from_dict(item).start for item in data["spans"]] == [4, 1]
    assert data["warnings"] == ["2 broken frames skipped"]
    assert run("ground", video, "it", "--csv").stdout.startswith("start,end,score,start_time")
    out = tmp_path / "spans.vtt"
    result = run("ground", video, "it", "-o", out)
    assert result.stdout == ""
    text = out.read_text()
    assert text.startswith("WEBVTT\n")
    assert text.index("00:00:01.000 -->") < text.index("00:00:04.000 -->")
    assert list(tmp_path.glob(".spans*")) == []


def test_caption_srt_and_text_file(vlm, video, tmp_path):
    srt = run("caption", video, "--srt").stdout
    assert srt == "1\n00:00:00,000 --> 00:00:04,000\na red circle moves\n"
    data = json.loads(run("caption", video, "--json").stdout)
    assert data["captions"][0]["text"] == "a red circle moves"
    out = tmp_path / "captions.txt"
    run("caption", video, "-o", out)
    assert out.read_text().splitlines()[0] == "0:00:00.000 - 0:00:04.000  a red circle moves"


def test_watch_saves_a_memory_that_ask_reads(vlm, video, tmp_path):
    out = tmp_path / "a.tvm"
    data = json.loads(run("watch", video, "-o", out, "--json").stdout)
    assert (data["num_frames"], data["num_bytes"]) == (8, out.stat().st_size)
    answer = Answer.from_json(run("ask", out, "q", "--json").stdout)
    assert answer.video == video
    assert len(vlm.watched) == 1
    assert "8 frames of 8.0 s" in run("watch", video, "-o", out).stdout


def test_chat_answers_line_by_line_and_survives_an_error(vlm, video):
    result = run("chat", video, stdin="one\nbad\n\ntwo\n")
    assert result.exit_code == 0
    assert result.stdout.count("[red] circle") == 2
    assert "error: too long a question" in result.stderr
    assert [question for question, _, _ in vlm.asked] == ["one", "two"]


def test_cache_list_clear_dir(vlm, video, tmp_path):
    assert "0 memories" in run("cache", "list").stdout
    run("ask", video, "q")
    listed = run("cache", "list").stdout
    assert "a.mp4" in listed
    assert "1 memories" in listed
    data = json.loads(run("cache", "list", "--json").stdout)
    assert data["entries"][0]["num_frames"] == 8
    assert run("cache", "dir").stdout == f"{tmp_path / 'cache'}\n"
    assert run("cache", "clear").stdout == "1 memories deleted\n"
    assert MemoryCache().entries() == []


def refusals() -> list:
    return [
        (["ask", "{absent}", "q"], "does not exist"),
        (["ask", "{folder}", "q"], "is a folder"),
        (["ask", "{empty}", "q"], "is empty"),
        (["ask", "{absent}.tvm", "q"], "is no file"),
        (["ask", "{garbage}", "q"], "is damaged"),
        (["ask", "{garbage}", "q", "--fps", "2"], "--fps cannot change the saved memory"),
        (["ask", "{video}", "q", "--start", "9", "--end", "3"], "end=3"),
        (["ask", "{video}", "q", "--start", "1:75"], "'1:75' is not a time"),
        (["ask", "{video}", "q", "--fps", "0"], "fps=0"),
        (["ask", "{video}", "q", "--max-frames", "0"], "max_frames=0"),
        (["ask", "{video}", "q", "--choice", "red"], "give two or more"),
        (["ask", "{video}", "q", "--choices"], "green blue; see: timevlm ask --help"),
        (["ask", "{video}", "q", "--choices", "red", "Red."], "same answer"),
        (["ask", "{video}", " "], "the question is empty"),
        (["ask", "{video}", "q", "--seed", str(2**64)], "'--seed'"),
        (["ask", "{video}", "q", "-o", "{folder}/x.csv"], "does not write csv"),
        (["ground", "{video}", ""], "the query is empty"),
        (["ask", "{video}"], "QUESTION or --question-file"),
        (["ask", "{video}", "q", "--question-file", "x"], "QUESTION or --question-file"),
        (["ask", "{video}", "--question-file", "{absent}"], "cannot be read"),
        (["ask", "{video}", "--question-file", "{empty}"], "holds no question"),
        (["ask", "{video}", "q", "-o", "{video}"], "is the input itself"),
        (["ask", "{video}", "q", "-o", "{folder}/none/x.json"], "folder that exists"),
        (["ground", "{video}", "q", "--csv", "--vtt"], "exclude each other"),
        (["watch", "{video}", "-o", "{folder}/memory.bin"], "end it in .tvm"),
        (["watch", "{video}"], "Missing option"),
        (["asks"], "No such command"),
        (["--bogus"], "No such option"),
    ]


@pytest.mark.parametrize(("args", "message"), refusals(), ids=lambda value: str(value)[-40:])
def test_refusals_are_one_line_and_status_2(vlm, video, tmp_path, args, message):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "garbage.tvm").write_bytes(b"\xff\x00 garbage")
    places = {
        "absent": tmp_path / "absent.mp4",
        "folder": tmp_path,
        "empty": tmp_path / "empty.mp4",
        "garbage": tmp_path / "garbage.tvm",
        "video": video,
    }
    result = run(*(arg.format(**places) for arg in args))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert Path(video).read_bytes() == b"video a"
    assert vlm.watched == []


def test_error_of_the_model_is_one_line_and_leaves_no_output(vlm, video, tmp_path):
    vlm.error = ModelError("out of\nmemory")
    out = tmp_path / "x.json"
    result = run("ask", video, "q", "-o", out)
    assert (result.exit_code, result.stderr) == (2, "error: out of memory\n")
    assert not out.exists()


def test_interrupt_is_one_line_and_status_130(vlm, video):
    vlm.error = KeyboardInterrupt()
    result = run("ask", video, "q")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert MemoryCache().entries() == []


def test_no_arguments_show_help():
    result = run()
    assert result.exit_code == 0
    assert "doctor" in result.stdout
    assert run("--version").stdout.startswith("timevlm ")
    assert (run("cache").exit_code, run("cache").stderr) == (0, "")
    assert "Delete every cached memory" in run("cache").stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from timevlm.cli import app\n"
        "for args in ([], ['ask'], ['cache', 'list'], ['doctor']):\n"
        "    app([*args, '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'av', 'numpy', 'rich'} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


PROGRAM = """
import signal, sys, time
# A suite in the background is started with interrupts ignored, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
from timevlm import cli
from timevlm.cli import session
sys.path.insert(0, {tests!r})
from tests.test_cli import FakeTimeVLM
class Slow(FakeTimeVLM):
    def watch(self, source, **options):
        print("watching", file=sys.stderr, flush=True)
        time.sleep({seconds})
        return FakeTimeVLM.watch(self, source, **options)
session.load_model = lambda name, device: Slow()
sys.argv = ["timevlm", "caption", {video!r}, "--no-cache", "--json"]
cli.main()
"""


def start(video: str, seconds: float, **options: object) -> subprocess.Popen:
    root = str(Path(__file__).resolve().parent.parent)
    code = PROGRAM.format(tests=root, video=video, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, **options)


def test_control_c_ends_the_program_with_one_line(video):
    process = start(video, 60, stdout=subprocess.PIPE)
    assert process.stderr.readline() == b"watching\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"interrupted\n")


def test_broken_pipe_is_silent(video):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(video, 0, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert err == b"watching\nwarning: 2 broken frames skipped\n"
