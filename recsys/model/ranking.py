"""From scores to lists and ranks; what equal scores mean is decided here and nowhere else.

Lists: scores fall, equal scores stand in the order of their item index.
Ranks: conservative, so a target that ties with others is ranked behind all of them; a model
whose scores have collapsed to one value therefore scores nothing instead of everything.
"""

import torch
from torch import Tensor

NEVER = float("-inf")  # the score of an item that may not be shown
UNRANKED = 2**31 - 1  # the rank of a target outside the catalogue: a miss at every K


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` best items of each row, in falling score, equal scores by item index.

    scores: (B, N) float32, -inf where an item may not be shown. Returns scores and item
    indices, both (B, min(k, N)); entries that score -inf come last and are for the caller to
    drop. Scriptable.
    """
    items = scores.size(1)
    taken = min(k, items)
    wide = min(taken + 1, items)
    best, index = largest(scores, wide)
    if wide > taken:
        torn = torch.nonzero(best[:, taken] == best[:, taken - 1]).flatten()
        for at in range(torn.numel()):
            # equal scores stand across the cut: torch picks any of them, we the first ones
            row = int(torn[at])
            last = best[row, taken - 1]
            above = torch.nonzero(scores[row] > last).flatten()
            equal = torch.nonzero(scores[row] == last).flatten()[: taken - above.numel()]
            index[row, :taken] = torch.cat([above, equal])
    index, _ = torch.sort(index[:, :taken], dim=1)
    best, order = torch.sort(torch.gather(scores, 1, index), dim=1, descending=True, stable=True)
    return best, torch.gather(index, 1, order)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `torch.topk`, in no order: in one quick pass over many items and a slow one over few.

    Items are dealt into groups: the `k` largest are all in the `k` groups of the largest maxima.
    """
    items = scores.size(1)
    groups = 2048 if items < 300_000 else 8192
    if items < 16_384 or k > groups:
        return torch.topk(scores, k, dim=1)
    rows, dealt = scores.size(0), items // groups
    scores = scores.contiguous()
    maxima = scores.as_strided((rows, dealt, groups), (items, groups, 1)).amax(1)
    chosen = torch.topk(maxima, k, dim=1)[1]
    round_of = torch.arange(dealt, device=scores.device) * groups
    candidates = (chosen.unsqueeze(2) + round_of).flatten(1)
    rest = torch.arange(dealt * groups, items, device=scores.device)  # too few for a round
    candidates = torch.cat([candidates, rest.expand(rows, rest.size(0))], dim=1)
    best, at = torch.topk(scores.gather(1, candidates), k, dim=1)
    return best, candidates.gather(1, at)


def target_ranks(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of each row's target among all items: (conservative, standard), both (B,) int64.

    scores: (B, N); targets: (B,) int64, -1 where the target is not in the catalogue (its rank
    is `UNRANKED`). Conservative counts items that score equal as better, standard as worse.
    """
    known = targets >= 0
    own = torch.gather(scores, 1, targets.clamp(min=0).unsqueeze(1))
    greater = (scores > own).sum(dim=1)
    at_least = (scores >= own).sum(dim=1)
    missed = torch.full_like(greater, UNRANKED)
    return torch.where(known, at_least, missed), torch.where(known, greater + 1, missed)
