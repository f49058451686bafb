"""The loss of one batch: cross-entropy over the batch's own targets and the shared negatives.

Source: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (in-batch and extra negatives).
"""

import torch
from torch import Tensor
from torch.nn import functional

NEVER = float("-inf")


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
    accidental = columns[: len(rows)].unsqueeze(1) == columns.unsqueeze(0)
    accidental[rows, rows] = False
    corrected = corrected.masked_fill(accidental, NEVER)
    return functional.cross_entropy(corrected, rows, reduction="sum")
