"""The loss of one batch, over the batch's own targets and the shared negatives.

Sources: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (cross-entropy over in-batch and extra
negatives, section 3.1; BPR-max with its score regulariser, section 3.3).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.recipe import Recipe

NEVER = float("-inf")
LOWEST = -1e9  # its exponential is 0 beside any score
SMALLEST = 1e-24  # keeps the logarithm finite where every negative wins

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (scores, columns, log_expected) → scalar


def loss_of(recipe: Recipe) -> Loss:
    """The recipe's loss; arguments as for the two functions below."""
    if recipe.loss == "bpr-max":
        return lambda scores, columns, _: bpr_max(scores, columns, recipe.bpreg, recipe.elu)
    return lambda scores, columns, expected: sampled_cross_entropy(
        scores, columns, expected, recipe.logq
    )


def sampled_cross_entropy(
    scores: Tensor, columns: Tensor, log_expected: Tensor, logq: float
) -> Tensor:
    """Cross-entropy of each row against its own diagonal column, summed over rows: a scalar.

    scores: (B, B+S) float32, column j of the first B is row j's target; columns: (B+S,) int64
    the item of each column; log_expected: (B+S,) float32, log of the expected number of times
    a column holds that item; logq: strength of the correction, 0 none, 1 full.

    Columns that hold a row's own target by accident count as nothing, not as negatives.
    """
    rows = torch.arange(scores.size(0), device=scores.device)
    corrected = scores - logq * log_expected
    accidental = _own_target(columns, rows)
    accidental[rows, rows] = False
    corrected = corrected.masked_fill(accidental, NEVER)
    return functional.cross_entropy(corrected, rows, reduction="sum")


def bpr_max(scores: Tensor, columns: Tensor, bpreg: float, elu: float) -> Tensor:
    """BPR-max, summed over rows: −log Σⱼ sⱼ·σ(r − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ².

    s: softmax of a row's scores over its negatives; r: the score of its target, rⱼ of a negative,
    through ELU(elu) where elu is above 0. Shapes as for cross-entropy; columns that hold a row's
    own target are no negatives of it.
    """
    rows = torch.arange(scores.size(0), device=scores.device)
    ranked = functional.elu(scores, elu) if elu > 0 else scores
    # finite, so that a row without any negative has weights too, and no gradient
    weights = ranked.masked_fill(_own_target(columns, rows), LOWEST).softmax(dim=1)
    target = ranked[rows, rows].unsqueeze(1)
    won = (weights * torch.sigmoid(target - ranked)).sum(dim=1)
    penalty = (weights * ranked.square()).sum(dim=1)
    return (bpreg * penalty - torch.log(won + SMALLEST)).sum()


def _own_target(columns: Tensor, rows: Tensor) -> Tensor:
    """(B, B+S) bool: the column holds the row's own target."""
    return columns[: len(rows)].unsqueeze(1) == columns.unsqueeze(0)
