"""The decoding child: killed at its limit, ends with its parent, and never takes the caller
along."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.video.synthesis import Recipe, constant_rate, x264
from timevlm.errors import VideoError
from timevlm.video import DecodeLimits, SamplingPlan, isolate, open_video, reader

GOOD = Recipe(ticks=constant_rate(90), options=x264())


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int, seconds: float) -> bool:
    deadline = time.perf_counter() + seconds
    while is_alive(pid) and time.perf_counter() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def start_hanging_child(request: object) -> subprocess.Popen:
    code = "import time; time.sleep(600)"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_child_that_hangs_is_killed_at_the_limit(
    make_file: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = []

    def start(request: object) -> subprocess.Popen:
        children.append(start_hanging_child(request))
        return children[-1]

    monkeypatch.setattr(isolate, "start_child", start)
    started = time.perf_counter()
    with pytest.raises(VideoError, match=r"decoding took more than 0\.3 s while opening"):
        open_video(
            make_file("good", GOOD),
            SamplingPlan(),
            isolate=True,
            limits=DecodeLimits(wall_seconds=0.3),
        )
    assert time.perf_counter() - started < 3.0
    assert wait_until_gone(children[0].pid, 3.0)


def test_a_real_child_is_killed_at_a_tiny_limit(make_file: object) -> None:
    limits = DecodeLimits(wall_seconds=0.02)  # less than Python needs to start
    with pytest.raises(VideoError, match=r"decoding took more than 0\.02 s"):
        open_video(make_file("good", GOOD), SamplingPlan(), isolate=True, limits=limits)


def test_threads_that_hang_let_the_caller_go(
    make_file: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Hanging:
        def __init__(self, request: object) -> None:
            released.wait(30)
            raise VideoError("released")

    monkeypatch.setattr(reader, "DecodeSession", Hanging)
    monkeypatch.setattr(reader, "_JOIN_SECONDS", 0.2)
    with pytest.raises(VideoError, match=r"decoding took more than 0\.2 s while opening"):
        open_video(make_file("good", GOOD), SamplingPlan(), limits=DecodeLimits(wall_seconds=0.2))
    released.set()


def test_a_child_that_crashes_is_an_error(make_file: object) -> None:
    plan = SamplingPlan()
    with open_video(make_file("good", GOOD), plan, isolate=True, batch_size=1) as frames:
        next(frames)
        os.kill(frames._channel.child.pid, signal.SIGSEGV)
        with pytest.raises(VideoError, match=r"ended early \(exit status -11\)"):
            list(frames)


@pytest.mark.parametrize(
    "output",
    ["b'hello'", "b'\\x02\\0\\0\\0{}'", "b'\\xff' * 64", "b'\\x15\\0\\0\\0{\"num_bytes\":-5}   '"],
)
def test_a_child_that_talks_nonsense_is_an_error(
    make_file: object, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    def start(request: object) -> subprocess.Popen:
        code = f"import sys; sys.stdout.buffer.write({output})"
        return subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    monkeypatch.setattr(isolate, "start_child", start)
    with pytest.raises(VideoError, match="the decoding process ended early"):
        open_video(make_file("good", GOOD), SamplingPlan(), isolate=True)


def test_closing_early_ends_the_child_and_the_threads(make_file: object) -> None:
    path = make_file("good", GOOD)
    frames = open_video(path, SamplingPlan(), isolate=True, batch_size=1)
    pid = frames._channel.child.pid
    next(frames)
    frames.close()
    assert wait_until_gone(pid, 3.0)
    assert list(frames) == []
    before = threading.active_count()
    frames = open_video(path, SamplingPlan(), batch_size=1, workers=2)
    next(frames)
    frames.close()
    assert threading.active_count() <= before


def test_a_reader_that_is_forgotten_ends_its_child(make_file: object) -> None:
    frames = open_video(make_file("good", GOOD), SamplingPlan(), isolate=True, batch_size=1)
    pid = frames._channel.child.pid
    del frames
    assert wait_until_gone(pid, 3.0)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_the_child_dies_with_its_parent(make_file: object) -> None:
    code = (
        "import sys, time\n"
        "from timevlm.video import SamplingPlan, open_video\n"
        "frames = open_video(sys.argv[1], SamplingPlan(), isolate=True, batch_size=1)\n"
        "print(frames._channel.child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(make_file("good", GOOD))],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(pid, 5.0)


def test_the_child_does_not_import_torch() -> None:
    code = "import sys, timevlm.video.isolate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_slow_caller_is_not_charged(make_file: object) -> None:
    limits = DecodeLimits(wall_seconds=5.0)
    with open_video(
        make_file("good", GOOD), SamplingPlan(), limits=limits, batch_size=30
    ) as frames:
        frames._waited = 4.0
        for _ in frames:
            time.sleep(0.5)
    assert frames.frames_decoded == 90
    assert frames._waited < 5.0
