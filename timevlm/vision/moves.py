"""How a picture moved, found by trying: the move after which two pictures are the least unlike.

Shared by what the whole picture does (`picture.py`) and what its patches do (`flows.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SURE = 0.25  # a move that takes away this share of the unlikeness counts in full,
_BY_CHANCE = 0.02  # after what the best of so many takes away by chance,
_FAINT = 0.1  # and if the unlikeness is well above this


def least_unlike(costs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best of moves that were tried: costs (N, M, M) -> how far right, down, its cost: (N,).

    Rows are moves down and columns moves to the right, in pixels, of which the middle one is rest.
    A parabola through the neighbours of the best gives parts of a pixel.
    """
    num_moves = costs.shape[-1]
    best, index = costs.flatten(1).min(dim=1)
    row, column = index // num_moves, index % num_moves
    around = F.pad(costs, (1, 1, 1, 1), value=float("nan"))
    each = torch.arange(len(costs), device=costs.device)

    def cost_at(row: Tensor, column: Tensor) -> Tensor:
        return around[each, row + 1, column + 1]

    down = row - num_moves // 2 + _vertex(cost_at(row - 1, column), best, cost_at(row + 1, column))
    right = (
        column - num_moves // 2 + _vertex(cost_at(row, column - 1), best, cost_at(row, column + 1))
    )
    return right, down, best


def sureness(best: Tensor, at_rest: Tensor) -> Tensor:
    """How far a move with cost `best` counts where rest costs `at_rest`: 0 to 1, of any shape.

    As far as it makes the pictures more alike, so that noise on an even wall is no move.
    """
    gain = (at_rest - best - _BY_CHANCE) / (at_rest + _FAINT)
    return (gain / _SURE).clamp(0.0, 1.0)


def _vertex(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """Where the parabola through three points at -1, 0 and 1 is lowest; 0 at an edge (NaN)."""
    bend = left - 2 * middle + right
    vertex = 0.5 * (left - right) / bend.clamp(min=1e-6)
    return vertex.nan_to_num(0.0).clamp(-0.5, 0.5)
