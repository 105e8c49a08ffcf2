"""Groups of tensors that move to a device together."""

from typing import Self

import torch


class TensorFields:
    """A dataclass whose every field has `to(device)`: a tensor, or another such group."""

    def to(self, device: torch.device | str) -> Self:
        """The same group on a device."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})
