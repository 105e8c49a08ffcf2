"""Any video-text model that transformers' `AutoModelForImageTextToText` and `AutoProcessor` load.

The processor's own chat template lays out the conversation, so every family gets its format. A
processor with a video part is given the frames as one video with their times; one without gets
them as images in order. Frames are chosen by our sampling, never by the processor's.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, StoppingCriteria

from eval.models.base import ModelSettings, Session, VideoModel, VideoRequest
from eval.models.frames import Clip, no_frames, read_clip
from eval.records import Prompt, Reply, Sample
from eval.sampling import Sampling
from timevlm import InputError, ModelError

DEFAULT_FRAMES = 32
_VALUES_PER_WEIGHT = 256


class HuggingFaceModel(VideoModel):
    """A model and its processor, by hub id or folder. Options: `frames_as` (video or images)."""

    def __init__(self, settings: ModelSettings, name: str) -> None:
        options = settings.option_values()
        unknown = sorted(set(options) - {"frames_as"})
        if unknown or options.get("frames_as") not in (None, "video", "images"):
            raise InputError(f"model options {options} are unknown; use frames_as=video or images")
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if settings.dtype == "auto" else settings.dtype
        try:
            self.processor = AutoProcessor.from_pretrained(name)
            model = AutoModelForImageTextToText.from_pretrained(
                name, dtype=dtype, use_safetensors=True
            )
            self.model = model.to(device).eval()
        except ImportError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"model {name!r} needs a library: {reason}; pip install torchvision"
            ) from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"model {name!r} cannot be loaded: {reason}") from error
        has_video = getattr(self.processor, "video_processor", None) is not None
        self.frames_as = options.get("frames_as") or ("video" if has_video else "images")
        self.name = settings.name
        self.seed = settings.seed
        self.max_new_tokens = settings.max_new_tokens
        self.fingerprint = _fingerprint(self.model)
        self.gen_kwargs = {
            "max_new_tokens": settings.max_new_tokens,
            "do_sample": False,
            "frames_as": self.frames_as,
        }
        self.default_sampling = Sampling(mode="uniform_mid", frames=DEFAULT_FRAMES)

    def decode(self, request: VideoRequest) -> Clip:
        """All frames as stored; the processor resizes them."""
        return read_clip(request)

    def watch(self, decoded: Clip) -> Session:
        """A session that shows the frames with every question."""
        return _HuggingFaceSession(self, decoded)

    def watch_nothing(self, duration_seconds: float) -> Session:
        """A session without frames."""
        return _HuggingFaceSession(self, no_frames(duration_seconds))


class _HuggingFaceSession(Session):
    def __init__(self, model: HuggingFaceModel, clip: Clip) -> None:
        self._model = model
        self._clip = clip
        self._is_first = True
        self.frame_seconds = clip.seconds
        self.duration_seconds = clip.duration_seconds

    @torch.inference_mode()
    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        started = time.perf_counter()
        model = self._model.model
        inputs = self._inputs(prompt).to(model.device, dtype=model.dtype)
        encoded = time.perf_counter()
        torch.manual_seed(self._model.seed)
        first_token = _FirstToken()
        output = model.generate(
            **inputs,
            max_new_tokens=self._model.max_new_tokens,
            do_sample=False,
            stopping_criteria=[first_token],
        )
        ended = time.perf_counter()
        num_prompt = inputs["input_ids"].shape[1]
        new_ids = output[0, num_prompt:].tolist()
        text = self._model.processor.tokenizer.decode(new_ids, skip_special_tokens=True)
        prefilled = first_token.seconds or ended
        times = self.frame_seconds
        reply = Reply(
            raw=text.strip(),
            seconds_decode=self._clip.decode_seconds if self._is_first else 0.0,
            seconds_encode=encoded - started,
            seconds_prefill=prefilled - encoded,
            seconds_generate=ended - prefilled,
            num_frames=len(times),
            first_frame_seconds=times[0] if times else None,
            last_frame_seconds=times[-1] if times else None,
            tokens_in=num_prompt,
            tokens_out=len(new_ids),
            warnings=self._clip.warnings,
        )
        self._is_first = False
        return reply

    def _inputs(self, prompt: Prompt) -> Any:
        """Token ids and pixels, as the processor makes them."""
        processor, pixels = self._model.processor, self._clip.pixels
        count, as_video = pixels.shape[0], self._model.frames_as == "video"
        kinds = ["video"] * bool(count) if as_video else ["image"] * count
        content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": prompt.text}]
        messages = [{"role": "user", "content": content}]
        if prompt.system:
            system = [{"type": "text", "text": prompt.system}]
            messages.insert(0, {"role": "system", "content": system})
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        text += prompt.answer_prefix
        if not count:
            return processor(text=[text], return_tensors="pt")
        if not as_video:
            return processor(text=[text], images=list(pixels), return_tensors="pt")
        return processor(
            text=[text],
            videos=[pixels],
            video_metadata=[_metadata(self.frame_seconds)],
            do_sample_frames=False,
            return_tensors="pt",
        )


class _FirstToken(StoppingCriteria):
    """Notes when the first token was there: until then it was prefill. Never stops anything."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        if self.seconds is None:
            if input_ids.is_cuda:
                torch.cuda.synchronize(input_ids.device)
            self.seconds = time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _metadata(seconds: Sequence[float]) -> dict[str, Any]:
    """What processors that write times into the prompt need: frame k is at k / fps after the
    first."""
    length = seconds[-1] - seconds[0]
    fps = (len(seconds) - 1) / length if length > 0 else 1.0
    return {
        "total_num_frames": len(seconds),
        "fps": fps,
        "duration": len(seconds) / fps,
        "frames_indices": list(range(len(seconds))),
    }


def _fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the configuration and a sample of every weight."""
    config = model.config.to_dict()
    config.pop("_name_or_path", None)
    config.pop("transformers_version", None)
    found = hashlib.sha256(repr(sorted(config.items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        values = flat[:: max(1, flat.numel() // _VALUES_PER_WEIGHT)].float().cpu().contiguous()
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(values.numpy().tobytes())
    return found.hexdigest()
