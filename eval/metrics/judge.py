"""A language model as a judge, behind any OpenAI-compatible endpoint.

A judged benchmark is tens of thousands of paid or slow calls, so none may be lost or made twice:
replies go to an append-only JSONL cache the moment they arrive, keyed by everything they depend
on, and a run that was cut off goes on from there. Calls run in parallel, wait and repeat where the
server is busy, stop at once where it says no, and never follow a redirect with the key in hand.
"""

import ast
import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from timevlm.errors import InputError, TimeVLMError

Messages = Sequence[dict[str, str]]

_RETRIED_STATUS = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_MAX_WAIT_SECONDS = 60.0
_MAX_REPLY_BYTES = 4_000_000


class JudgeError(TimeVLMError):
    """The judge cannot be asked: it refuses, or does not answer after all retries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeConfig:
    """Which judge to ask, and how patiently."""

    base_url: str
    """Up to and including the version, such as "http://localhost:30000/v1"."""
    model: str
    """The served name; it becomes part of every score's name."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; None for a server without keys."""
    temperature: float = 0.0
    max_tokens: int = 256
    timeout_seconds: float = 120.0
    """Limit for one whole call."""
    max_attempts: int = 6
    """Calls for one request, the first one included."""
    backoff_seconds: float = 1.0
    """Wait before the second attempt; doubles with each, up to a minute."""
    concurrency: int = 8
    cache: Path | None = None
    """JSONL file of replies; None: nothing is kept."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise InputError(
                f"judge base_url is {self.base_url!r}; it looks like http://localhost:30000/v1"
            )
        if not self.model:
            raise InputError("the judge has no model name; give the name under which it is served")
        for name in ("max_tokens", "max_attempts", "concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"judge {name} is {getattr(self, name)}; use 1 or more")
        if self.timeout_seconds <= 0 or self.backoff_seconds < 0 or self.temperature < 0:
            raise InputError("judge timeout, backoff and temperature must not be negative")
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise InputError(
                f"the judge's key is expected in the environment variable {self.api_key_env}, "
                "which is not set; export it"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeRequest:
    """One question to the judge."""

    messages: Messages
    prompt_version: str
    """Raised with every change of wording, so that no reply to an old one is reused."""


class ReplyCache:
    """Replies by key in an append-only JSONL file; torn and foreign lines are ignored.

    Lines are written with one call each, so that several processes can share the file.
    """

    def __init__(self, path: Path) -> None:
        self._replies: dict[str, str] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        self._file.seek(0)
        content = self._file.read()
        for line in content.splitlines():
            try:
                record = json.loads(line)
                self._replies[str(record["key"])] = str(record["reply"])
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: str) -> str | None:
        """The reply to a request, or None if it was never answered."""
        return self._replies.get(key)

    def put(self, key: str, reply: str, model: str) -> None:
        """Keep a reply; it is on the disk when this returns."""
        line = json.dumps({"key": key, "model": model, "reply": reply}) + "\n"
        with self._lock:
            self._replies[key] = reply
            self._file.write(line.encode())
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Judge:
    """Asks the endpoint of a config; `name` is what scores are labelled with.

    A server may call a model by its hub id: the owner before the slash is no part of the name.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self.name = config.model.rpartition("/")[2] or config.model
        self._opener = build_opener(_NoRedirect)

    def key(self, request: JudgeRequest) -> str:
        """SHA-256 of all that a reply depends on: model, prompt version, messages, decoding."""
        parts = {
            "model": self.config.model,
            "prompt_version": request.prompt_version,
            "messages": list(request.messages),
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def ask_all(
        self,
        requests: Sequence[JudgeRequest],
        *,
        accept: Callable[[str], bool] = bool,
        on_reply: Callable[[int, int], None] | None = None,
    ) -> list[str | None]:
        """The reply to each request, in order; None where no attempt gave one that `accept` takes.

        Equal requests are asked once. Accepted replies are cached, others are asked for anew by a
        later run. `on_reply(done, total)` is called after each. Raises JudgeError if the server
        refuses a request or stays out of reach; what was answered before is in the cache then.
        """
        keys = [self.key(request) for request in requests]
        cache = ReplyCache(self.config.cache) if self.config.cache is not None else None
        replies: dict[str, str | None] = {}
        todo: dict[str, JudgeRequest] = {}
        for key, request in zip(keys, requests, strict=True):
            known = cache.get(key) if cache is not None else None
            if known is not None and accept(known):
                replies[key] = known
            else:
                todo[key] = request
        try:
            replies.update(self._ask_new(todo, accept, cache, on_reply))
        finally:
            if cache is not None:
                cache.close()
        return [replies[key] for key in keys]

    def _ask_new(
        self,
        todo: dict[str, JudgeRequest],
        accept: Callable[[str], bool],
        cache: ReplyCache | None,
        on_reply: Callable[[int, int], None] | None,
    ) -> dict[str, str | None]:
        replies: dict[str, str | None] = {}
        stop = threading.Event()
        lock = threading.Lock()

        def ask_one(key: str, request: JudgeRequest) -> None:
            reply = self._ask(key, request, accept, stop)
            if reply is not None and cache is not None:
                cache.put(key, reply, self.config.model)
            with lock:
                replies[key] = reply
                if on_reply is not None:
                    on_reply(len(replies), len(todo))

        with ThreadPoolExecutor(max_workers=self.config.concurrency) as pool:
            futures = [pool.submit(ask_one, key, request) for key, request in todo.items()]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in done if future.exception()]
            finally:
                # After a refusal or an interrupt nobody waits for the rest, nor for a pause's end.
                pool.shutdown(wait=False, cancel_futures=True)
                stop.set()
            if failed:
                failed[0].result()
        return replies

    def _ask(
        self, key: str, request: JudgeRequest, accept: Callable[[str], bool], stop: threading.Event
    ) -> str | None:
        """One request with its retries; None if the last reply was not acceptable."""
        jitter = random.Random(key)  # spreads parallel retries, alike in every run
        problem: _BusyError | None = None
        for attempt in range(self.config.max_attempts):
            if problem:  # an unacceptable reply is asked for again at once
                pause = (
                    self.config.backoff_seconds * 2 ** (attempt - 1) * jitter.uniform(0.75, 1.25)
                )
                pause = min(_MAX_WAIT_SECONDS, max(pause, problem.retry_after or 0.0))
                if stop.wait(pause):
                    raise JudgeError("stopped, because another request was refused")
            try:
                reply = self._call(request.messages)
            except _BusyError as busy:
                problem = busy
                continue
            problem = None
            if reply.strip() and accept(reply):
                return reply
        if problem:
            raise JudgeError(
                f"the judge at {self.config.base_url} did not answer in "
                f"{self.config.max_attempts} attempts ({problem}); run again to go on"
            )
        return None

    def _call(self, messages: Messages) -> str:
        """The text of one reply. Raises _BusyError where a retry may help, else JudgeError."""
        url = self.config.base_url.rstrip("/") + "/chat/completions"
        body = {
            "model": self.config.model,
            "messages": list(messages),
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if self.config.api_key_env:
            headers["Authorization"] = f"Bearer {os.environ[self.config.api_key_env]}"
        request = Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")
        try:
            content = self._read(request)
        except HTTPError as error:
            with error:
                detail = " ".join(error.read(300).decode(errors="replace").split())
            if error.code in _RETRIED_STATUS:
                wanted = _retry_after(error.headers.get("Retry-After"))
                raise _BusyError(f"HTTP {error.code}", wanted) from error
            raise JudgeError(
                f"the judge at {url} refused with HTTP {error.code}: {detail or error.reason}; "
                "check base_url, model and key"
            ) from error
        except (URLError, HTTPException, OSError) as error:
            raise _BusyError(
                str(getattr(error, "reason", error) or type(error).__name__)
            ) from error
        return _reply_text(content)

    def _read(self, request: Request) -> bytes:
        """The response's body within the time limit: a socket's own limit is for one read only."""
        deadline = time.monotonic() + self.config.timeout_seconds
        content = b""
        with self._opener.open(request, timeout=self.config.timeout_seconds) as response:
            while chunk := response.read1(65536):
                content += chunk
                if len(content) > _MAX_REPLY_BYTES:
                    raise _BusyError(f"a reply of more than {_MAX_REPLY_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise _BusyError(f"no end of the reply in {self.config.timeout_seconds:g} s")
        return content


def reply_dictionary(text: str) -> dict[str, Any] | None:
    """The first JSON or Python dictionary in a judge's reply, keys in lower case; None if none."""
    match = re.search(r"\{[^{}]*\}", text)
    for read in (json.loads, ast.literal_eval) if match else ():
        try:
            value = read(match[0])
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return {str(key).lower(): item for key, item in value.items()}
    return None


class _BusyError(Exception):
    """A failure that may pass: worth another attempt."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class _NoRedirect(HTTPRedirectHandler):
    """Leaves a redirect an error: the request carries the key, and a POST would become a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reply_text(content: bytes) -> str:
    try:
        message = json.loads(content)["choices"][0]["message"]
        return str(message["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _BusyError("a reply that is no chat completion") from error


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None  # an HTTP date: our own pauses serve as well
