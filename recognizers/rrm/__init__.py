"""Recurrent Residual Module: a feed-forward network reads a video and computes what changed.

    from recognizers.rrm import RRMConfig, wrap
    network = wrap(cnn, RRMConfig(threshold=0.1))
    state = network.init_state(1, 224, 224)
    for frames in chunks:  # (1, T, 3, 224, 224), normalised as the network wants it
        outputs, state = network.step(frames, state)
    for row in network.report(state):
        print(row.layer, row.share_skipped)

`trace` reads the module, `stages` cuts it, `regions` is the geometry of boxes, `network` runs it,
`calibration` finds a threshold for a wanted error, `reference` is the published equation, and
`recognizer` is the family behind `recognizers.create("rrm-tiny")`.
"""

from recognizers.rrm.calibration import calibrate, plain_outputs, relative_errors
from recognizers.rrm.network import LayerReport, RRMConfig, StreamingNetwork, wrap
from recognizers.rrm.recognizer import RRMRecognizer, RRMRecognizerConfig
from recognizers.rrm.reference import DifferenceNetwork
from recognizers.rrm.trace import UnsupportedModuleError

__all__ = [
    "DifferenceNetwork",
    "LayerReport",
    "RRMConfig",
    "RRMRecognizer",
    "RRMRecognizerConfig",
    "StreamingNetwork",
    "UnsupportedModuleError",
    "calibrate",
    "plain_outputs",
    "relative_errors",
    "wrap",
]
