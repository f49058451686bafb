"""Lists and ranks from scores. This module alone decides what equal scores mean.

Lists: scores fall, equal scores are in the order of their item index.
Ranks: conservative, so a target that ties with others is ranked behind all of them. A model
whose scores have collapsed to one value therefore gets a metric of 0, not of 1.
"""

import torch
from torch import Tensor

NEVER = float("-inf")  # the score of an item that may not be shown
UNRANKED = 2**31 - 1  # the rank of a target outside the catalogue: a miss at every K
LEAST_ROWS = 16  # that are scored together, because each part reads the vectors of all items


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` best items of each row, in falling score, equal scores by item index.

    Scriptable.

    Args:
        scores: (B, N) float32, -inf where an item may not be shown.
        k: length of a list.

    Returns:
        Scores, float32, and item indices, int64, both (B, min(k, N)). Entries that score -inf come
        last; the caller drops them.
    """
    items = scores.size(1)
    taken = min(k, items)
    wide = min(taken + 1, items)
    best, index = largest(scores, wide)
    if wide > taken:
        tied = torch.nonzero(best[:, taken] == best[:, taken - 1]).flatten()
        for at in range(tied.numel()):
            # equal scores stand on both sides of the cut: torch picks any of them, we the first
            row = int(tied[at])
            last = best[row, taken - 1]
            above = torch.nonzero(scores[row] > last).flatten()
            equal = torch.nonzero(scores[row] == last).flatten()[: taken - above.numel()]
            index[row, :taken] = torch.cat([above, equal])
    index, _ = torch.sort(index[:, :taken], dim=1)
    best, order = torch.sort(torch.gather(scores, 1, index), dim=1, descending=True, stable=True)
    return best, torch.gather(index, 1, order)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest entries of each row, in no order. Scriptable.

    The result is that of `torch.topk`, from one quick pass over many items and a slow one over few:
    the k largest items are all in the k groups with the largest maxima.

    Args:
        scores: (B, N) of any number type.
        k: at most N.

    Returns:
        Scores and their item indices, int64, both (B, k).
    """
    items = scores.size(1)
    groups = 2048 if items < 300_000 else 8192
    if items < 16_384 or k > groups:
        return torch.topk(scores, k, dim=1)
    rows, per_group = scores.size(0), items // groups
    scores = scores.contiguous()
    maxima = scores.as_strided((rows, per_group, groups), (items, groups, 1)).amax(1)
    chosen = torch.topk(maxima, k, dim=1)[1]
    offsets = torch.arange(per_group, device=scores.device) * groups
    candidates = (chosen.unsqueeze(2) + offsets).flatten(1)
    rest = torch.arange(per_group * groups, items, device=scores.device)  # items without a group
    candidates = torch.cat([candidates, rest.expand(rows, rest.size(0))], dim=1)
    best, at = torch.topk(scores.gather(1, candidates), k, dim=1)
    return best, candidates.gather(1, at)


def rows_at_once(items: int, scores: int) -> int:
    """Return how many rows to score together, for about so many scores of N = `items`."""
    return max(scores // items, LEAST_ROWS)


def target_ranks(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank of each row's target among all items.

    Args:
        scores: (B, N) float32.
        targets: (B,) int64 item indices, -1 where the catalogue lacks the target.

    Returns:
        Conservative and standard ranks, both (B,) int64, 1 for the best item and `UNRANKED` for a
        target of -1. Conservative ranks count items with an equal score as better, standard ranks
        as worse.
    """
    known = targets >= 0
    target_scores = torch.gather(scores, 1, targets.clamp(min=0).unsqueeze(1))
    # in 32 bits: torch takes ten times as long to count in 64
    greater = (scores > target_scores).sum(dim=1, dtype=torch.int32).long()
    at_least = (scores >= target_scores).sum(dim=1, dtype=torch.int32).long()
    missed = torch.full_like(greater, UNRANKED)
    return torch.where(known, at_least, missed), torch.where(known, greater + 1, missed)
