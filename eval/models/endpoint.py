"""Any endpoint that speaks the OpenAI chat protocol, with the frames in the request.

Options: `base_url` (else the environment's OPENAI_BASE_URL), `api_key_env` (name of the variable
that holds the key, default OPENAI_API_KEY; a key is never an argument, so it never reaches a
result folder), `frames_as` ("images": JPEG data URLs in time order; "video_url": the file itself
as one data URL, sampled by the server, as vLLM and SGLang accept), `timeout_seconds`, `retries`,
`max_side` (longest side of a JPEG in pixels), `timestamps` (a text with the time before each
frame).

A request that is refused for good (4xx) fails its sample; what may pass (429, 5xx, time-outs,
broken replies) is tried again, each time after a longer wait or as long as the server asks.
"""

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.models.base import ModelSettings, Session, VideoModel, VideoRequest, digest
from eval.models.frames import Clip, no_frames, read_clip, video_span
from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from timevlm import InputError, ModelError

DEFAULT_FRAMES = 16
MAX_VIDEO_BYTES = 256 * 2**20
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_MIME = {".webm": "video/webm", ".mkv": "video/x-matroska", ".mov": "video/quicktime"}


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointOptions:
    """Where the endpoint is and how it is talked to. Raises InputError."""

    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    frames_as: str = "images"
    timeout_seconds: float = 120.0
    retries: int = 5
    max_side: int = 768
    timestamps: bool = True
    first_wait_seconds: float = _FIRST_WAIT_SECONDS

    def __post_init__(self) -> None:
        url = self.base_url or os.environ.get("OPENAI_BASE_URL", "")
        if not url.startswith(("http://", "https://")):
            raise InputError(
                f"endpoint address {url!r} is not an http(s) URL; give --base-url "
                "http://localhost:8000/v1 or set OPENAI_BASE_URL"
            )
        object.__setattr__(self, "base_url", url.rstrip("/"))
        if self.frames_as not in ("images", "video_url"):
            raise InputError(f"frames_as is {self.frames_as!r}; use images or video_url")
        if self.timeout_seconds <= 0 or self.retries < 0 or self.max_side < 16:
            raise InputError("timeout_seconds must be above 0, retries from 0, max_side from 16")


class EndpointModel(VideoModel):
    """A served model. Every question sends its frames anew: the protocol keeps nothing."""

    def __init__(self, settings: ModelSettings, model: str) -> None:
        try:
            self.options = EndpointOptions(**settings.option_values())
        except TypeError:
            known = ", ".join(EndpointOptions.__dataclass_fields__)
            raise InputError(
                f"unknown endpoint options in {sorted(settings.option_values())}; known are {known}"
            ) from None
        self.model = model
        self.name = settings.name
        self.gen_kwargs = {
            "temperature": 0,
            "max_tokens": settings.max_new_tokens,
            "seed": settings.seed,
            "frames_as": self.options.frames_as,
            "max_side": self.options.max_side,
            "timestamps": self.options.timestamps,
        }
        # The weights behind an address are not ours to see.
        self.fingerprint = digest({"endpoint": self.options.base_url, "model": model})
        self.default_sampling = Sampling(mode="uniform_mid", frames=DEFAULT_FRAMES)

    def decode(self, request: VideoRequest) -> "_Material":
        """Frames as JPEG, or the file as it is."""
        if self.options.frames_as == "video_url":
            return _file_material(request)
        clip = read_clip(request)
        started = time.perf_counter()
        jpegs = [_data_url("image/jpeg", _jpeg(p, self.options.max_side)) for p in clip.pixels]
        return _Material(jpegs, None, clip, time.perf_counter() - started)

    def watch(self, decoded: "_Material") -> Session:
        """A session that sends the material with every question."""
        return _EndpointSession(self, decoded)

    def watch_nothing(self, duration_seconds: float) -> Session:
        """A session without frames."""
        empty = no_frames(duration_seconds)
        return _EndpointSession(self, _Material([], None, empty, 0.0))

    def complete(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """The endpoint's reply as JSON. Raises ModelError when it stays away or refuses."""
        names = ("temperature", "max_tokens", "seed")
        body = {"model": self.model, "messages": messages}
        body |= {name: self.gen_kwargs[name] for name in names}
        data = json.dumps(body).encode()
        wait, problem = self.options.first_wait_seconds, ""
        for attempt in range(self.options.retries + 1):
            if attempt:
                time.sleep(wait)
            try:
                return _check_reply(self._post(data))
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}: {_body_text(error)}"
                if error.code not in (408, 409, 425, 429) and error.code < 500:
                    raise ModelError(f"{self.options.base_url} refuses: {problem}") from error
                wait = _asked_wait(error) or wait * 2
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = str(error) or type(error).__name__
                wait *= 2
            wait = min(wait, _LONGEST_WAIT_SECONDS)
        tries = self.options.retries + 1
        raise ModelError(f"{self.options.base_url} gave no answer in {tries} tries: {problem}")

    def _post(self, data: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.options.api_key_env)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.options.base_url}/chat/completions"
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=self.options.timeout_seconds) as response:
            return json.loads(response.read())


@dataclass(frozen=True, slots=True)
class _Material:
    """What is sent: pictures as data URLs, or one video as a data URL."""

    pictures: list[str]
    video: str | None
    clip: Clip
    encode_seconds: float


class _EndpointSession(Session):
    def __init__(self, model: EndpointModel, material: _Material) -> None:
        self._model = model
        self._material = material
        self._is_first = True
        self.frame_seconds = material.clip.seconds
        self.duration_seconds = material.clip.duration_seconds

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        started = time.perf_counter()
        data = self._model.complete(self._messages(prompt))
        clip, times = self._material.clip, self.frame_seconds
        usage = data.get("usage") or {}
        first, self._is_first = self._is_first, False
        return Reply(
            raw=str(data["choices"][0]["message"]["content"] or "").strip(),
            seconds_decode=clip.decode_seconds if first else 0.0,
            seconds_encode=self._material.encode_seconds if first else 0.0,
            seconds_generate=time.perf_counter() - started,
            num_frames=len(times),
            first_frame_seconds=times[0] if times else None,
            last_frame_seconds=times[-1] if times else None,
            tokens_in=usage.get("prompt_tokens"),
            tokens_out=usage.get("completion_tokens"),
            warnings=clip.warnings,
        )

    def _messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        if self._material.video is not None:
            content.append({"type": "video_url", "video_url": {"url": self._material.video}})
        for seconds, url in zip(self.frame_seconds, self._material.pictures, strict=False):
            if self._model.options.timestamps:
                content.append({"type": "text", "text": f"<{seconds:.1f}s>"})
            content.append({"type": "image_url", "image_url": {"url": url}})
        text = prompt.text
        if prompt.answer_prefix:
            # The protocol cannot begin the model's own turn.
            text += f"\nBegin your reply with: {prompt.answer_prefix}"
        content.append({"type": "text", "text": text})
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return [*system, {"role": "user", "content": content}]


def _file_material(request: VideoRequest) -> _Material:
    if request.clip is not None:
        raise InputError(
            "frames_as=video_url sends whole files, but this question is about a clip; "
            "use frames_as=images"
        )
    size = request.path.stat().st_size
    if size > MAX_VIDEO_BYTES:
        raise InputError(
            f"{request.path} has {size} bytes, at most {MAX_VIDEO_BYTES} are sent; "
            "use frames_as=images"
        )
    start, end = video_span(request)
    started = time.perf_counter()
    mime = _MIME.get(request.path.suffix.lower(), "video/mp4")
    url = _data_url(mime, Path(request.path).read_bytes())
    clip = no_frames(end - start)
    return _Material([], url, clip, time.perf_counter() - started)


def _jpeg(pixels: Any, max_side: int) -> bytes:
    """JPEG bytes of uint8 pixels (3, H, W), scaled down to `max_side`."""
    from PIL import Image

    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _check_reply(data: Any) -> dict[str, Any]:
    try:
        data["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"the reply is no chat completion: {str(data)[:200]}") from None
    return data


def _body_text(error: urllib.error.HTTPError) -> str:
    try:
        return " ".join(error.read(2000).decode("utf-8", "replace").split())[:300]
    except OSError:
        return error.reason


def _asked_wait(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks to wait (Retry-After), if it says so in seconds."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return None
