"""Ask, ground and caption long videos.

The public names load on first use, so that `import timevlm` and the command line start without
torch, transformers or FFmpeg. The transformers classes (`TimeVLMConfig`,
`TimeVLMForConditionalGeneration`, `TimeVLMProcessor`) register with the Auto classes when their
modules are imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from timevlm.api import TimeVLM
    from timevlm.configuration import TimeVLMConfig
    from timevlm.errors import (
        ChoiceError,
        InputError,
        MemoryFileError,
        ModelError,
        PlanError,
        TimeVLMError,
        VideoError,
    )
    from timevlm.memory import VideoMemory
    from timevlm.model import TimeVLMForConditionalGeneration
    from timevlm.processing import TimeVLMProcessor
    from timevlm.results import Answer, AnswerScore, Caption, Span, Timings
    from timevlm.video.sampling import SamplingPlan

    __version__: str

_HOME_OF = {
    "Answer": "timevlm.results",
    "AnswerScore": "timevlm.results",
    "Caption": "timevlm.results",
    "ChoiceError": "timevlm.errors",
    "InputError": "timevlm.errors",
    "MemoryFileError": "timevlm.errors",
    "ModelError": "timevlm.errors",
    "PlanError": "timevlm.errors",
    "SamplingPlan": "timevlm.video.sampling",
    "Span": "timevlm.results",
    "TimeVLM": "timevlm.api",
    "TimeVLMConfig": "timevlm.model",
    "TimeVLMError": "timevlm.errors",
    "TimeVLMForConditionalGeneration": "timevlm.model",
    "TimeVLMProcessor": "timevlm.processing",
    "Timings": "timevlm.results",
    "VideoError": "timevlm.errors",
    "VideoMemory": "timevlm.memory",
}

__all__ = [
    "Answer",
    "AnswerScore",
    "Caption",
    "ChoiceError",
    "InputError",
    "MemoryFileError",
    "ModelError",
    "PlanError",
    "SamplingPlan",
    "Span",
    "TimeVLM",
    "TimeVLMConfig",
    "TimeVLMError",
    "TimeVLMForConditionalGeneration",
    "TimeVLMProcessor",
    "Timings",
    "VideoError",
    "VideoMemory",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        # Imported here because reading package metadata costs more than the rest of this module.
        from importlib.metadata import version

        value: object = version("timevlm")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'timevlm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
