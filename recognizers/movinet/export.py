"""A MoViNet's step as an ONNX graph, its state among the inputs and outputs.

    export_step(model, "a0.onnx", num_frames=1, height=172, width=172)

Inputs: "frames" (B, T, 3, H, W) float32 in [0, 1] and every state entry under its name; outputs:
"logits" (B, T, K) and every state entry as "next." + name. The caller feeds one back as the other:
the graph itself keeps nothing. Shapes are those of the call, as mobile runtimes want them. Needs
the packages onnx and onnxscript; onnxruntime runs the file.
"""

import importlib.util
import os
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from recognizers.base import State, write_atomically
from recognizers.errors import RecognizerError
from recognizers.movinet.model import MoViNetRecognizer


class _Step(nn.Module):
    """The step with the state's leaves in a fixed order, as an exported graph has them."""

    def __init__(self, model: MoViNetRecognizer, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, frames: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        logits, state = self.model.step(frames, dict(zip(self.names, leaves, strict=True)))
        return logits, *(state[name] for name in self.names)


def export_step(
    model: MoViNetRecognizer,
    path: str | os.PathLike[str],
    *,
    num_frames: int = 1,
    height: int,
    width: int,
    batch_size: int = 1,
) -> Path:
    """Write the step of a streaming network, in eval mode, as ONNX; the path.

    Raises:
        RecognizerError: the exporter's packages are not installed.
        StateError: a base network has no step.
    """
    if missing := [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]:
        raise RecognizerError(
            f"exporting needs {' and '.join(missing)}: pip install onnx onnxscript onnxruntime"
        )
    path = Path(path)
    state = model.init_state(batch_size, height, width)
    names = list(state)
    frames = torch.zeros(
        batch_size, num_frames, 3, height, width, device=model.device, dtype=model.dtype
    )
    export = partial(
        torch.onnx.export,
        _Step(model, names).eval(),
        (frames, *state.values()),
        input_names=["frames", *names],
        output_names=["logits", *(f"next.{name}" for name in names)],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    write_atomically(path, export)
    return path


def onnx_inputs(frames: Tensor, state: State) -> dict[str, object]:
    """What onnxruntime's `run` takes for these frames and this state."""
    return {"frames": frames.numpy()} | {name: leaf.numpy() for name, leaf in state.items()}
