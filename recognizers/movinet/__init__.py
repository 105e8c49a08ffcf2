"""MoViNet, its ensembles, and the weights of the published releases.

model = recognizers.create("movinet-a0-stream")       # a0 to a5, base and stream; a6
model = load_published("modelA0_stream_statedict.pt") # the PyTorch port's, or TensorFlow's .npz
fast = fused(model)                                   # inference only, same logits, same state
"""

from recognizers.base import register
from recognizers.movinet.config import (
    ARCHITECTURES,
    PUBLISHED,
    BlockConfig,
    MoViNetConfig,
    architecture,
)
from recognizers.movinet.counting import Cost, count
from recognizers.movinet.ensemble import EnsembleConfig, MoViNetEnsemble, temporal_ensemble
from recognizers.movinet.export import export_step, onnx_inputs
from recognizers.movinet.fused import FusedMoViNet, fused
from recognizers.movinet.model import MoViNet, MoViNetRecognizer
from recognizers.movinet.training import backward_through_stream, subclips
from recognizers.movinet.weights import load_published, name_table, published_state


def _register_all() -> None:
    for kind in ("base", "stream"):
        configs = {name: architecture(name, stream=kind == "stream") for name in ARCHITECTURES}
        for name, config in configs.items():
            register(f"movinet-{name}-{kind}", MoViNet.family, config)
            register(
                f"movinet-{name}-{kind}-ensemble",
                MoViNetEnsemble.family,
                EnsembleConfig(members=(config, config), stride=2),
            )
        register(
            f"movinet-a6-{kind}",
            MoViNetEnsemble.family,
            EnsembleConfig(members=(configs["a4"], configs["a5"]), stride=1),
        )


_register_all()

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED",
    "BlockConfig",
    "Cost",
    "EnsembleConfig",
    "FusedMoViNet",
    "MoViNet",
    "MoViNetConfig",
    "MoViNetEnsemble",
    "MoViNetRecognizer",
    "architecture",
    "backward_through_stream",
    "count",
    "export_step",
    "fused",
    "load_published",
    "name_table",
    "onnx_inputs",
    "published_state",
    "subclips",
    "temporal_ensemble",
]
