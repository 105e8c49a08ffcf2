"""MoViNet, its temporal ensembles, and the weights of the published releases.

model = recognizers.create("movinet-a0-stream")    # a0 to a5, base and stream
model = load_published("modelA0_stream.safetensors")  # the PyTorch port's or an .npz
fast = fused(model)                                # inference only, same logits and state
"""

from recognizers.base import register
from recognizers.movinet.config import (
    ARCHITECTURES,
    PUBLISHED,
    BlockConfig,
    MoViNetConfig,
    architecture,
)
from recognizers.movinet.fused import FusedMoViNet, fused
from recognizers.movinet.model import MoViNet
from recognizers.movinet.weights import load_published, name_table, published_state

for _name in ARCHITECTURES:
    register(f"movinet-{_name}-base", MoViNet.family, architecture(_name, stream=False))
    register(f"movinet-{_name}-stream", MoViNet.family, architecture(_name, stream=True))

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED",
    "BlockConfig",
    "FusedMoViNet",
    "MoViNet",
    "MoViNetConfig",
    "architecture",
    "fused",
    "load_published",
    "name_table",
    "published_state",
]
