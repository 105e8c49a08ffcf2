"""Find and load a model: the embedded one by name, a folder, or a hub id."""

import difflib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from timevlm.configuration import TimeVLMConfig
from timevlm.errors import ModelError, TimeVLMError
from timevlm.model import TimeVLMForConditionalGeneration
from timevlm.processing import TimeVLMProcessor

WEIGHTS_FOLDER = Path(__file__).resolve().parent / "weights"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.parent.name for p in WEIGHTS_FOLDER.glob("*/config.json"))


def resolve_device(device: str) -> torch.device:
    """The device to use; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises `ModelError` for a device that this machine or this torch does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device {device!r} cannot be used here ({reason}); use auto, cpu, cuda or mps"
        ) from error
    return target


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype of the weights; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def load_model(
    name_or_path: str | Path, *, dtype: torch.dtype
) -> tuple[TimeVLMForConditionalGeneration, TimeVLMProcessor]:
    """Load weights (safetensors only) and the processor.

    Raises `ModelError` when the model is not found, or its files do not fit together.
    """
    source = _locate(str(name_or_path))
    try:
        model, report = TimeVLMForConditionalGeneration.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, with all else that does not fit
        )
        processor = TimeVLMProcessor.from_pretrained(source)
    except TimeVLMError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {str(name_or_path)!r} cannot be loaded: {reason}") from error
    misfits = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "of another shape": sorted(name for name, *_ in report["mismatched_keys"]),
    }
    if any(misfits.values()):
        counted = (f"{len(names)} {how} {names[:3]}" for how, names in misfits.items())
        raise ModelError(
            f"weights of {str(name_or_path)!r} do not fit its configuration: {', '.join(counted)}; "
            "convert published checkpoints with: python -m timevlm.convert SRC DST"
        )
    if processor.tokens_per_frame != model.config.tokens_per_frame:
        raise ModelError(
            f"model {str(name_or_path)!r} has {model.config.tokens_per_frame} tokens a frame, its "
            f"processor {processor.tokens_per_frame}; save both together"
        )
    return model, processor


def _locate(name: str) -> str:
    """The folder or hub id behind a name."""
    embedded = WEIGHTS_FOLDER / name
    if name in embedded_models():
        return str(embedded)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return str(folder)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name  # a hub id: transformers fetches it
    known = embedded_models()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"embedded: {', '.join(known) or 'none'}"
    raise ModelError(f"model {name!r} is no embedded model, folder or hub id; {hint}")


def _check_folder(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} has no config.json; give a folder written by save_pretrained")
    try:
        model_type = json.loads(config.read_text()).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{config} is no JSON; give a folder of save_pretrained") from error
    if model_type != TimeVLMConfig.model_type:
        raise ModelError(
            f"{folder} holds a {model_type!r} model, not a {TimeVLMConfig.model_type!r} one; "
            "convert published checkpoints with: python -m timevlm.convert SRC DST"
        )
