"""The map from vision features to the LLM's embedding space (TimeViper, section 3.2)."""

from torch import nn


class MLPProjector(nn.Sequential):
    """Linear, GELU, Linear: (..., vision_dim) -> (..., llm_dim).

    Parameters are `0.weight`, `0.bias`, `2.weight`, `2.bias`, as in published checkpoints.
    """

    def __init__(self, vision_dim: int, llm_dim: int) -> None:
        super().__init__(nn.Linear(vision_dim, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim))
