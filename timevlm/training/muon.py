"""Muon: momentum whose update is made orthogonal, for weight matrices; Adam for everything else.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the update is
scaled to the root mean square of Adam's as in "Muon is Scalable for LLM Training" (arXiv
2502.16982, section 2.2), so that one learning rate and one decay serve both kinds of parameters.
`torch.optim.Muon` iterates in bfloat16, which is many times slower than float32 on a CPU without
units for it; here it runs in float32.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic of the paper's section on its iteration: not exact, but fast to anything near 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ADAM_RMS = 0.2


def orthogonalized(matrix: Tensor, num_steps: int = 5) -> Tensor:
    """The matrix with its singular values brought near 1 (0.7 to 1.2), by Newton-Schulz steps.

    matrix (m, n) of any rank and scale, or a batch of them (..., m, n); zero stays zero.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if is_tall else matrix
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    for _ in range(num_steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `is_matrix=True` (2-D parameters), AdamW for the others.

    Each group gives `lr`, `weight_decay` and `is_matrix`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": 0.0, "is_matrix": False}
        super().__init__(groups, defaults)
        self.momentum, self.betas, self.eps = momentum, betas, eps
        for group in self.param_groups:
            if group["is_matrix"] and any(p.dim() != 2 for p in group["params"]):
                raise ValueError("a group with is_matrix=True holds a parameter that is not 2-D")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update from the gradients at hand."""
        if closure is not None:
            raise ValueError("this optimizer does not evaluate a closure")
        for group in self.param_groups:
            update = self._matrix_update if group["is_matrix"] else self._adam_update
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update(parameter), alpha=group["lr"])

    def _matrix_update(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        velocity = state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
        ahead = parameter.grad.lerp(velocity, self.momentum)
        return orthogonalized(ahead) * (_ADAM_RMS * max(parameter.shape) ** 0.5)

    def _adam_update(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = self.betas
        mean = state["mean"].lerp_(parameter.grad, 1 - beta1)
        square = state["square"].lerp_(parameter.grad.square(), 1 - beta2)
        count = float(state["step"])
        denominator = (square / (1 - beta2**count)).sqrt_().add_(self.eps)
        return mean / (1 - beta1**count) / denominator
