"""Streaming recognizers: small networks that watch every frame, with their state as a value.

Four families behind one interface: MoViNet, MinConv recurrent networks, LCR, and RRM around a
feed-forward network. The package needs torch, and safetensors for its files; reading a TensorFlow
archive and exporting to ONNX import what they need when they are called.

    from recognizers import create
    model = create("movinet-a0-stream")
"""

from recognizers.base import (
    FAMILIES,
    State,
    StreamingRecognizer,
    available,
    concat_rows,
    create,
    detach,
    load_state,
    num_bytes,
    register,
    save_state,
    select_rows,
    to_device,
)
from recognizers.errors import RecognizerError

__all__ = [
    "FAMILIES",
    "RecognizerError",
    "State",
    "StreamingRecognizer",
    "available",
    "concat_rows",
    "create",
    "detach",
    "load_state",
    "num_bytes",
    "register",
    "save_state",
    "select_rows",
    "to_device",
]
