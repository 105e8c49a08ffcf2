"""SODA_c: how well a list of timed captions tells the same story as the reference list.

Fujita et al., "SODA: Story Oriented Dense Video Captioning Evaluation Framework", ECCV 2020,
section 3: pairs of predicted and reference captions are matched one to one in temporal order so
that the sum of IoU x caption similarity is largest; precision divides that sum by the number of
predictions, recall by the number of references, and SODA_c is their F1. The paper's similarity is
METEOR; whatever scores it here is the caller's, who says so in the score's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class SodaScore:
    """SODA_c of one video, in [0, 1] for similarities in [0, 1]."""

    precision: float
    recall: float
    f1: float
    pairs: tuple[tuple[int, int], ...]
    """Matched (prediction, reference) indices in temporal order; only pairs that add something."""


def soda_c(
    similarity: np.ndarray,
    ious: np.ndarray,
    predicted: Sequence[tuple[float, float]],
    references: Sequence[tuple[float, float]],
) -> SodaScore:
    """SODA_c from the (P, R) caption similarities and IoUs of all pairs of one video.

    The spans give the temporal order (by start, then end); the lists may come in any. Without
    predictions or references everything is 0.
    """
    if not predicted or not references:
        return SodaScore(precision=0.0, recall=0.0, f1=0.0, pairs=())
    rows = sorted(range(len(predicted)), key=lambda index: tuple(predicted[index]))
    columns = sorted(range(len(references)), key=lambda index: tuple(references[index]))
    weights = np.nan_to_num(similarity * ious)[np.ix_(rows, columns)]
    total, pairs = ordered_assignment(weights)
    precision, recall = total / len(predicted), total / len(references)
    f1 = 2.0 * precision * recall / (precision + recall) if total > 0 else 0.0
    matched = tuple((rows[row], columns[column]) for row, column in pairs)
    return SodaScore(precision=precision, recall=recall, f1=f1, pairs=matched)


def ordered_assignment(weights: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """The order-preserving one-to-one matching of rows and columns with the largest total weight.

    Returns the total and its (row, column) pairs, ascending in both; pairs of weight 0 are left
    out. Dynamic programming over prefixes, row by row: best[i, j] is the largest total of the
    first i rows and j columns, max(best[i-1, j], best[i, j-1], best[i-1, j-1] + weight[i-1, j-1]).
    Memory and time O(rows x columns), no recursion.
    """
    num_rows, num_columns = weights.shape
    best = np.zeros((num_rows + 1, num_columns + 1))
    for row in range(num_rows):
        matched = np.maximum(best[row, 1:], best[row, :-1] + weights[row])
        best[row + 1, 1:] = np.maximum.accumulate(matched)  # the step from the left neighbour
    pairs = []
    row, column = num_rows, num_columns
    while row and column:
        if best[row, column] == best[row - 1, column]:
            row -= 1
        elif best[row, column] == best[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return float(best[num_rows, num_columns]), pairs[::-1]
