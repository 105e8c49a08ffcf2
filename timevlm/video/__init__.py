"""Video in: a file becomes batches of frames, each with the second at which it was shown.

The names load on first use, so that importing the package costs nothing and the decoding child
process never imports torch.
"""

from importlib import import_module

_HOMES = {
    "DecodeLimits": "limits",
    "FrameBatch": "frames",
    "FrameReader": "reader",
    "SamplingPlan": "sampling",
    "VideoInfo": "source",
    "open_video": "reader",
    "probe": "source",
}

__all__ = [  # noqa: PLE0604 - the names come from the table above
    *_HOMES
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
