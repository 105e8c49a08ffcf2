"""VideoMemory: what watching a video leaves behind, small, forkable and portable.

A memory holds the LLM's state after the last frame (recurrent states, keys and values of kept
vision tokens, keys and values of dropped ones, the residual stream that waits for a question),
the seconds that each waiting token stands for, and where all of it came from. It is saved as one
safetensors file with a versioned header; there is no pickle in it.
"""

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from timevlm.errors import InputError, MemoryFileError, VideoError
from timevlm.evidence import told_interval
from timevlm.llm.config import HybridConfig
from timevlm.llm.state import HybridState, fits_config, state_from_tensors, state_tensors
from timevlm.llm.transv import arriving_counts, kept_counts, uniform_mask
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor
from timevlm.results import Timings
from timevlm.video.frames import FrameBatch

FORMAT = "timevlm-memory"
FORMAT_VERSION = 2


class FrameStream(Protocol):
    """Frames in time order, with the times of all of them known before the first."""

    planned_seconds: object  # float64 (P,), array or tensor

    def __iter__(self) -> object:
        """Iterate over `FrameBatch`."""


@dataclass(frozen=True, kw_only=True)
class VideoMemory:
    """A watched video. Values only: asking forks the state and never changes the memory."""

    state: HybridState
    held_seconds: Tensor  # (T,) float64: when each vision token that waits for a question was seen
    frame_seconds: Tensor  # (N,) float64: presentation time of every frame that was watched
    video_end: float  # seconds at which the watched part ends
    model_name: str
    model_fingerprint: str
    plan: dict
    video_path: str = ""
    video_sha256: str = ""
    timings: Timings = field(default_factory=Timings)
    warnings: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames watched."""
        return self.frame_seconds.shape[0]

    @property
    def start_seconds(self) -> float:
        """Presentation time of the first frame."""
        return float(self.frame_seconds[0])

    @property
    def end_seconds(self) -> float:
        """Where the watched part ends: no answer lies beyond."""
        return self.video_end

    def told_interval(self, start_seconds: float, end_seconds: float) -> tuple[float, float]:
        """Exact seconds of a span told by rounded timestamps of its first and last frame."""
        frames = self.frame_seconds
        first = int((frames - start_seconds).abs().argmin())
        last = max(first, int((frames - end_seconds).abs().argmin()))
        return told_interval(first, last, frames.tolist(), self.end_seconds)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        tensors = state_tensors(self.state.consolidated()).values()
        return sum(t.numel() * t.element_size() for t in tensors)

    def fork(self) -> "VideoMemory":
        """An independent memory of the same video; nothing is copied, as nothing changes."""
        return replace(self)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically."""
        path = Path(path)
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "model_fingerprint": self.model_fingerprint,
            "video_path": self.video_path,
            "video_sha256": self.video_sha256,
            "video_end": self.video_end,
            "plan": self.plan,
            "timings": self.timings.to_dict(),
            "warnings": list(self.warnings),
            "pattern_layers": [type(s).__name__ for s in self.state.layers],
            "num_compressions": len(self.state.transferred),
        }
        tensors = {f"state.{k}": v for k, v in state_tensors(self.state.consolidated()).items()}
        tensors["held_seconds"] = self.held_seconds
        tensors["frame_seconds"] = self.frame_seconds
        tensors = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata={"header": json.dumps(header)})
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(
        cls,
        path: str | Path,
        expected_fingerprint: str | None = None,
        config: HybridConfig | None = None,
    ) -> "VideoMemory":
        """Read a saved memory.

        Raises `MemoryFileError` for a damaged file, another format version, or when the memory
        was made by a model other than `expected_fingerprint` or has not the layers of `config`.
        """
        header, tensors = _read_file(Path(path))
        try:
            _check_types(header)
            made_by = str(header["model_fingerprint"])
            if expected_fingerprint is not None and made_by != expected_fingerprint:
                raise MemoryFileError(
                    f"{path} was made by model {header['model_name']!r} ({made_by[:12]}), not by "
                    f"the model in use ({expected_fingerprint[:12]}); watch the video again with "
                    "this model"
                )
            held, frames = tensors.pop("held_seconds"), tensors.pop("frame_seconds")
            letters = {"MambaState": "M", "AttentionState": "*"}
            state = state_from_tensors(
                {k.removeprefix("state."): v for k, v in tensors.items()},
                "".join(letters.get(name, "-") for name in header["pattern_layers"]),
                header["num_compressions"],
            )
            if config is not None and not fits_config(state, config):
                raise MemoryFileError(
                    f"{path} is damaged: its layers are not the model's; watch the video again"
                )
            return cls(
                state=state,
                held_seconds=held,
                frame_seconds=frames,
                video_end=header["video_end"],
                model_name=header["model_name"],
                model_fingerprint=header["model_fingerprint"],
                plan=header["plan"],
                video_path=header["video_path"],
                video_sha256=header["video_sha256"],
                timings=Timings.from_dict(header["timings"]),
                warnings=tuple(header["warnings"]),
            )
        except KeyError as error:
            raise MemoryFileError(
                f"{path} is damaged: {error.args[0]!r} is missing; watch the video again"
            ) from error
        except (InputError, TypeError, ValueError) as error:
            raise MemoryFileError(
                f"{path} is damaged: its header cannot be read; watch the video again"
            ) from error


def _read_file(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise MemoryFileError(f"{path} is no file; make one with: timevlm watch VIDEO -o {path}")
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            # A tensor that points into the file is not aligned, and kernels round it differently.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise MemoryFileError(
            f"{path} is damaged or no video memory; watch the video again"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MemoryFileError(f"{path} is no video memory; watch the video again")
    if header.get("format_version") != FORMAT_VERSION:
        raise MemoryFileError(
            f"{path} has format version {header.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}; watch the video again"
        )
    return header, tensors


def _check_types(header: dict) -> None:
    """Raise TypeError if a field of a header is none of the types that `save` writes."""
    types = {"plan": dict, "timings": dict, "warnings": list, "pattern_layers": list}
    types |= {"video_end": int | float, "num_compressions": int}
    for name, kind in types.items():
        if not isinstance(header[name], kind):
            raise TypeError(f"{name} is {type(header[name]).__name__}")


class MemoryBuilder:
    """Feeds frames to a model batch by batch and gathers what they leave behind.

    `planned_seconds` fixes which vision tokens uniform dropping keeps before the first frame is
    seen, so peak memory does not depend on the video's length; frames that fail to decode later
    simply leave their places empty.
    """

    def __init__(
        self,
        model: TimeVLMForConditionalGeneration,
        processor: TimeVLMProcessor,
        planned_seconds: Tensor,
    ) -> None:
        self.model = model
        self.processor = processor
        device = model.device
        planned_ids, _ = processor.video_ids(planned_seconds.tolist())
        state = model.llm.init_state(torch.tensor([len(planned_ids)], device=device))
        prefix = torch.tensor([processor.prefix_ids()], device=device)
        self.state = model.llm.read_prefix(model.llm.embed(prefix), state)
        self.last_frame: Tensor | None = None
        self.frame_seconds: list[Tensor] = []
        self.token_seconds: list[Tensor] = []
        self.encode_seconds = 0.0
        self.prefill_seconds = 0.0

    def add(self, batch: FrameBatch) -> None:
        """Watch the next frames."""
        device = self.model.device
        started = time.perf_counter()
        features = self.model.encode_frames(
            batch.pixels.to(device), batch.seconds, previous=self.last_frame
        )
        _synchronize(device)
        encoded = time.perf_counter()
        ids, frame_index = self.processor.video_ids(batch.seconds.tolist())
        token_ids = torch.tensor([ids], device=device)
        x = self.model.embed_with_frames(token_ids[0], features)
        marks = self.model.time_marks(token_ids, batch.seconds)
        self.state = self.model.llm.read_video(x[None], self.state, marks=marks)
        _synchronize(device)
        self.encode_seconds += encoded - started
        self.prefill_seconds += time.perf_counter() - encoded
        if len(batch.pixels):
            self.last_frame = batch.pixels[-1]
        self.frame_seconds.append(batch.seconds)
        self.token_seconds.append(batch.seconds[torch.tensor(frame_index)])

    def finish(self) -> tuple[HybridState, Tensor, Tensor]:
        """(state, seconds of the vision tokens that wait for a question, seconds of frames)."""
        if not self.frame_seconds:
            raise VideoError("no frame of the video could be decoded; check the file")
        seconds = torch.cat(self.token_seconds)
        return self.state.consolidated(), self._held(seconds), torch.cat(self.frame_seconds)

    def _held(self, seconds: Tensor) -> Tensor:
        """Seconds of the tokens that uniform dropping kept, as `read_video` did."""
        config = self.model.llm.config
        original = self.state.num_video_total.cpu()
        for compression, arriving in zip(
            config.transv, arriving_counts(config.transv, original), strict=True
        ):
            if compression.layer >= config.split_layer:
                break
            kept = kept_counts(compression, original, arriving)
            zero = torch.zeros_like(kept)
            mask = uniform_mask(arriving, kept, zero, seconds.shape[0], None)
            seconds = seconds[mask[0]]
        return seconds


def model_fingerprint(model: TimeVLMForConditionalGeneration) -> str:
    """SHA-256 over the configuration and a sample of every weight (names, shapes, 4096 values).

    Sampling keeps it under a second for large models; any retraining changes it.
    """
    digest = hashlib.sha256()
    config = model.config
    described = config.to_dict() | {"dtype": str(model.dtype)}
    for name in ("_name_or_path", "architectures", "transformers_version"):
        described.pop(name, None)  # where a model lies does not change what it computes
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)].float().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def _synchronize(device: torch.device) -> None:
    """Wait for the device, so that the time split tells encoding from prefill."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
