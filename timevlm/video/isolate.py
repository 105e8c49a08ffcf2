"""Decode in a child process that can be killed.

FFmpeg is native code fed with untrusted bytes: a call that never returns cannot be interrupted from
Python, and a crash takes its process along. Here it happens to a child, started with `python -m
timevlm.video.isolate`, which imports neither torch nor the caller's own program. Request and
results cross two pipes as JSON headers and raw arrays, never pickle, so that a child taken over by
a hostile file has no code path into its parent.

Message: 4 bytes length, JSON header, then as many payload bytes as the header's "num_bytes" says.
The child ends when its standard input closes, so it does not outlive its parent.
"""

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

import timevlm
from timevlm import errors
from timevlm.video.limits import DecodeLimits
from timevlm.video.sampling import SamplingPlan
from timevlm.video.session import ArrayBatch, DecodeSession, ReadRequest
from timevlm.video.source import VideoInfo

_LENGTH = struct.Struct("<I")
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_PAYLOAD_BYTES = 2**31


def start_child(request: ReadRequest) -> subprocess.Popen:
    """Start a decoding child and send it the request; its messages come on its standard output."""
    environment = dict(os.environ)
    root = str(Path(timevlm.__file__).resolve().parent.parent)
    known = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root if not known else root + os.pathsep + known
    child = subprocess.Popen(
        [sys.executable, "-m", "timevlm.video.isolate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    fields = asdict(request) | {"plan": request.plan.to_dict()}
    try:
        child.stdin.write(json.dumps(fields).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass  # the child is gone already: reading its output tells so
    return child


def read_messages(child: subprocess.Popen) -> Iterator[tuple[dict, bytearray]]:
    """(header, payload) until the child closes its output."""
    stream = child.stdout
    while (prefix := _read_exactly(stream, _LENGTH.size)) is not None:
        (length,) = _LENGTH.unpack(prefix)
        if length > _MAX_HEADER_BYTES:
            return
        text = _read_exactly(stream, length)
        if text is None:
            return
        header = json.loads(text)
        if not 0 <= header["num_bytes"] <= _MAX_PAYLOAD_BYTES:
            return
        payload = _read_exactly(stream, header["num_bytes"])
        if payload is None:
            return
        yield header, payload


def error_from(header: dict) -> errors.TimeVLMError:
    """The error that a child reported, as one of ours."""
    known = {"VideoError": errors.VideoError, "PlanError": errors.PlanError}
    return known.get(header["error"], errors.VideoError)(header["text"])


def opening_from(header: dict, payload: bytearray) -> tuple[VideoInfo, np.ndarray, str]:
    """(info, planned_seconds float64 (P,), plan in words) from the child's first message."""
    seconds = np.frombuffer(payload, dtype=np.float64)
    return VideoInfo.from_dict(header["info"]), seconds, header["plan_description"]


def batch_from(header: dict, payload: bytearray) -> ArrayBatch:
    """A batch message as arrays that share the payload's memory."""
    count = header["shape"][0]
    seconds = np.frombuffer(payload, dtype=np.float64, count=count)
    pixels = np.frombuffer(payload, dtype=np.uint8, offset=8 * count)
    return ArrayBatch(
        pixels.reshape(header["shape"]),
        seconds.copy(),
        header["frames_skipped"],
        header["decode_seconds"],
    )


def _read_exactly(stream: BinaryIO, count: int) -> bytearray | None:
    data = bytearray(count)
    view = memoryview(data)
    while len(view):
        got = stream.readinto(view)
        if not got:
            return None
        view = view[got:]
    return data


def _send(stream: BinaryIO, header: dict, *arrays: np.ndarray) -> None:
    total = sum(array.nbytes for array in arrays)
    text = json.dumps(header | {"num_bytes": total}).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        stream.write(memoryview(np.ascontiguousarray(array)).cast("B"))
    stream.flush()


def _parse_request(line: bytes) -> ReadRequest:
    fields = json.loads(line)
    plan = SamplingPlan.from_dict(fields.pop("plan"))
    return ReadRequest(plan=plan, limits=DecodeLimits(**fields.pop("limits")), **fields)


def _limit_cpu(wall_seconds: float) -> None:
    """A last resort on Unix, should both the parent and its pipe fail: the kernel ends the
    process."""
    try:
        import resource
    except ImportError:
        return
    allowed = int((wall_seconds + 60) * (os.cpu_count() or 1))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY or allowed < most:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, most))


def _end_with_parent(stream: BinaryIO) -> None:
    while stream.read(4096):
        pass
    os._exit(1)


def child_main() -> None:
    """The child's whole life: one request in, its opening, batches and end (or one error) out."""
    # Native libraries may print to descriptor 1; the messages keep a private copy of it.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = _parse_request(sys.stdin.buffer.readline())
    _limit_cpu(request.limits.wall_seconds)
    # An unbuffered descriptor: a reader that waits inside sys.stdin would hold up the interpreter's
    # exit.
    waiting = os.fdopen(os.dup(0), "rb", buffering=0)
    threading.Thread(target=_end_with_parent, args=(waiting,), daemon=True).start()
    try:
        session = DecodeSession(request)
        opening = {
            "kind": "opening",
            "info": session.info.to_dict(),
            "plan_description": session.plan_description,
            "warnings": session.report.warnings,
        }
        _send(output, opening, session.planned_seconds)
        for batch in session.batches():
            header = {
                "kind": "batch",
                "shape": batch.pixels.shape,
                "frames_skipped": batch.frames_skipped,
                "decode_seconds": batch.decode_seconds,
                "warnings": session.report.warnings,
            }
            _send(output, header, batch.seconds, batch.pixels)
        end = {"frames_skipped": session.frames_skipped, "warnings": session.report.warnings}
        _send(output, {"kind": "end"} | end)
    except errors.TimeVLMError as error:
        _send(output, {"kind": "error", "error": type(error).__name__, "text": str(error)})


if __name__ == "__main__":
    child_main()
