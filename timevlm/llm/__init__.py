"""The hybrid Mamba-2/Transformer language model with TransV."""

from timevlm.llm.config import HybridConfig, TransV
from timevlm.llm.hybrid import HybridLM, Spans, TextOutput
from timevlm.llm.state import HybridState, MambaState, TokenStore

__all__ = [
    "HybridConfig",
    "HybridLM",
    "HybridState",
    "MambaState",
    "Spans",
    "TextOutput",
    "TokenStore",
    "TransV",
]
