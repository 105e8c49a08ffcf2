"""TimeVLM for VLMEvalKit, which has no plug-ins: `register` adds the model to its tables.

    from eval.plugins.vlmevalkit import register
    register("timevlm-nano", pretrained="nano")

VLMEvalKit's own `run.py` then knows `--model timevlm-nano`; docs/eval/vlmevalkit.md has the whole
recipe. Importing this module does not need VLMEvalKit, `register` does.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from eval.plugins.answering import Answerer, PluginSettings, read_visual
from timevlm import InputError

DEFAULT_FRAMES = 64
DEFAULT_FPS = 1.0


def register(name: str, **options: Any) -> type:
    """Add a model to VLMEvalKit's tables; `options` are the fields of `PluginSettings`.

    Returns the class, which is also an attribute of `vlmeval.vlm` for VLMEvalKit's JSON configs.
    Raises InputError for an unknown option, or a name that VLMEvalKit has already.
    """
    import vlmeval.vlm
    from vlmeval.config import supported_VLM

    if name in supported_VLM:
        raise InputError(f"VLMEvalKit already has a model {name!r}; register another name")
    PluginSettings.read(options)
    model_class = make_class(vlmeval.vlm.BaseModel)
    vlmeval.vlm.TimeVLM = model_class
    supported_VLM[name] = partial(model_class, **options)
    return model_class


def make_class(base: type) -> type:
    """The model class on top of VLMEvalKit's `BaseModel`."""

    class TimeVLM(base):
        """A TimeVLM that VLMEvalKit hands video files.

        The runner reads `nframe` and `fps` and sets them to the data set's value, or to None where
        the data set has none; both set at first means that both kinds of data sets are welcome.
        """

        INTERLEAVE = True
        VIDEO_LLM = True

        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.answerer = Answerer(PluginSettings.read(options))
            self.nframe: int | None = DEFAULT_FRAMES
            self.fps: float | None = DEFAULT_FPS

        def generate_inner(
            self, message: Sequence[Mapping[str, Any]], dataset: str | None = None
        ) -> str:
            """The reply to VLMEvalKit's list of texts, videos and pictures."""
            sampling = self.answerer.settings.sampling
            if sampling == "model" and self.nframe:
                sampling = f"uniform_mid:{int(self.nframe)}"
            elif sampling == "model" and self.fps:
                sampling = f"fps:{float(self.fps)}"
            visual = read_visual([m["value"] for m in message if m["type"] != "text"], sampling)
            is_native = self.answerer.settings.answers == "native"
            return self.answerer.answer(visual, prompt_text(message, is_native))

    return TimeVLM


def prompt_text(message: Sequence[Mapping[str, Any]], is_native: bool) -> str:
    """The texts of a message; in native answers only what the user says.

    The rest are instructions to models that write words, and beginnings of their answers.
    """
    left_out = {"system", "assistant"} if is_native else set()
    texts = [m["value"].strip() for m in message if m["type"] == "text"]
    roles = [m.get("role") for m in message if m["type"] == "text"]
    kept = [text for text, role in zip(texts, roles, strict=True) if role not in left_out]
    return "\n".join(text for text in kept if text)
