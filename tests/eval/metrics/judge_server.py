"""A judge in a thread: an OpenAI-compatible endpoint that can be told to misbehave."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Step:
    """What the server does with one call, in place of the ordinary reply."""

    status: int = 200
    body: bytes | None = None  # sent as it is
    headers: dict[str, str] = field(default_factory=dict)
    sleep_seconds: float = 0.0
    drop: bool = False  # close the connection without a word


@dataclass
class JudgeServer:
    """The server's address, its calls so far, and the script it follows before it behaves."""

    url: str
    script: list[Step] = field(default_factory=list)
    calls: list[dict] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def judge_server(reply: Callable[[list[dict]], str]) -> Iterator[JudgeServer]:
    """A running server whose ordinary reply to messages is `reply(messages)`."""
    lock = threading.Lock()
    busy = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal busy
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.calls.append(body)
                state.authorizations.append(self.headers.get("Authorization"))
                busy += 1
                state.most_at_once = max(state.most_at_once, busy)
                step = state.script.pop(0) if state.script else Step()
            time.sleep(step.sleep_seconds)
            with lock:
                busy -= 1
            if step.drop:
                self.close_connection = True
                return
            content = step.body
            if content is None:
                message = {"role": "assistant", "content": reply(body["messages"])}
                content = json.dumps({"choices": [{"message": message}]}).encode()
            try:
                self.send_response(step.status)
                for name, value in step.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up waiting

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = JudgeServer(url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
