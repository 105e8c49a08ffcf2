"""Spend frames where something happens: recognizer scores become segments, segments a frame plan.

    prefilter = load_prefilter("auto").about("When does the ball bounce?")
    memory = vlm.watch("hour.mp4", max_frames=64, prefilter=prefilter)

`novelty` tells change without any training, `questions` which event a question names, `detector`
runs both over a stream, `segments` is the hysteresis, and `focus` keeps small copies of the frames
that the one decode pass hands out and picks among them. docs/recognizers/prefilter.md explains the
choices. The names load on first use: the command line's help needs none of them.
"""

from importlib import import_module

_HOMES = {
    "Detector": "detector",
    "Focus": "focus",
    "Prefilter": "focus",
    "Segment": "segments",
    "SegmentRules": "segments",
    "find_segments": "segments",
    "load_prefilter": "focus",
    "named_labels": "questions",
    "prefilter_names": "names",
}

__all__ = [  # noqa: PLE0604 - the names come from the table above
    *_HOMES
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
