"""Metrics from ranks: recall@K, MRR@K, NDCG@K, and coverage@K from lists."""

from collections.abc import Sequence

import torch
from torch import Tensor

CUTOFFS = (1, 5, 10, 20)


def metrics_at(ranks: Tensor, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Return recall@K, MRR@K and NDCG@K, means over cases with one relevant item each.

    With r the rank of a case's target, a case adds to
        recall@K  1 where r ≤ K, else 0
        mrr@K     1/r where r ≤ K, else 0                (Voorhees, TREC-8 1999)
        ndcg@K    1/log2(r + 1) where r ≤ K, else 0      (Järvelin and Kekäläinen, TOIS 2002)

    The ideal gain of one relevant item is 1, so NDCG needs no further division. With one relevant
    item, recall@K is the hit rate, as in Hidasi et al., arXiv:1511.06939, section 4.

    Args:
        ranks: (cases,) int64, 1 for the best; at least one case.
        cutoffs: The values of K.

    Returns:
        `{"recall@1": …, "mrr@1": …, "ndcg@1": …, "recall@5": …}`, each from 0 to 1.

    Raises:
        AssertionError: There is no case.
    """
    assert ranks.numel() > 0, "Metrics need at least one case."
    rank = ranks.to(torch.float64)
    metrics = {}
    for k in cutoffs:
        hit = (ranks <= k).to(torch.float64)
        metrics[f"recall@{k}"] = float(hit.mean())
        metrics[f"mrr@{k}"] = float((hit / rank).mean())
        metrics[f"ndcg@{k}"] = float((hit / torch.log2(rank + 1)).mean())
    return metrics


class Coverage:
    """Coverage@K: |union of the lists of length K| / N, the share of items ever recommended.

    Ge et al., RecSys 2010 (catalogue coverage).
    """

    def __init__(self, items: int, k: int) -> None:
        """Start with no item seen.

        Args:
            items: Size of the catalogue, N.
            k: Length of the lists, K.
        """
        self.k = k
        self.seen = torch.zeros(items, dtype=torch.int64)  # above 0 for an item that was seen

    def add(self, lists: Tensor) -> None:
        """Mark the items of some lists as seen.

        Args:
            lists: (B, K) or flat, int64 item indices.
        """
        self.seen[lists.flatten()] = 1

    def share(self) -> float:
        """Return the share of items seen so far, from 0 to 1."""
        return float((self.seen > 0).to(torch.float64).mean())
