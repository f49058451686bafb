"""Recall@K, MRR@K, NDCG@K and coverage from ranks.

With one relevant item per case: recall@K is the share of ranks ≤ K, MRR@K the mean of 1/rank
(0 beyond K), NDCG@K the mean of 1/log2(rank + 1) (0 beyond K; Järvelin and Kekäläinen 2002).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CUTOFFS = (1, 5, 10, 20)


def metrics_at(ranks: Tensor, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """`{"recall@20": …, "mrr@20": …, "ndcg@20": …}` for each cutoff.

    ranks: (cases,) int64, 1 for the best. No case at all is a mistake of the caller.
    """
    assert ranks.numel() > 0, "Metrics need at least one case."
    rank = ranks.to(torch.float64)
    found = {}
    for k in cutoffs:
        hit = (ranks <= k).to(torch.float64)
        found[f"recall@{k}"] = float(hit.mean())
        found[f"mrr@{k}"] = float((hit / rank).mean())
        found[f"ndcg@{k}"] = float((hit / torch.log2(rank + 1)).mean())
    return found


class Coverage:
    """The share of the catalogue that appears in at least one list of length K."""

    def __init__(self, items: int, k: int) -> None:
        self.k = k
        self._seen = torch.zeros(items, dtype=torch.bool)

    def add(self, lists: Tensor) -> None:
        """lists: (B, K) int64 item indices."""
        self._seen[lists.flatten()] = True

    def share(self) -> float:
        return float(self._seen.to(torch.float64).mean())
