"""The models that can be evaluated, by name.

nano, a folder, a hub id        TimeVLM; other video-text models by folder or hub id go through
                                transformers (`hf:NAME` says so explicitly)
openai:MODEL                    an endpoint that speaks the OpenAI protocol
blind, blind:NAME, constant:A   baselines that do not look
shuffled:NAME                   a model that is shown the frames in a wrong order
"""

import json
from pathlib import Path

from eval.models.base import ModelSettings, Session, VideoModel

__all__ = ["ModelSettings", "Session", "VideoModel", "load_model"]


def load_model(settings: ModelSettings) -> VideoModel:
    """The model that `settings` names, ready to answer. Raises ModelError or InputError."""
    kind, colon, name = settings.name.partition(":")
    if kind in ("constant", "blind", "shuffled"):
        from eval.models.baselines import load_baseline

        return load_baseline(settings)
    if kind == "openai" and colon:
        from eval.models.endpoint import EndpointModel

        return EndpointModel(settings, name)
    if (kind == "hf" and colon) or _is_foreign_folder(settings.name):
        from eval.models.hf import HuggingFaceModel

        return HuggingFaceModel(settings, name if colon else settings.name)
    from eval.models.timevlm_model import TimeVLMModel

    return TimeVLMModel(settings)


def _is_foreign_folder(name: str) -> bool:
    """Whether `name` is a folder with a transformers model that is not a TimeVLM."""
    config = Path(name).expanduser() / "config.json"
    try:
        model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return model_type not in (None, "timevlm")
