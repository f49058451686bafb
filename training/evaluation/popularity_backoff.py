"""Popularity backoff: score a few items of a case, leave the others in order of popularity.

Every baseline is such a scorer. Ranks and lists come from the few scored items alone: the place of
all others follows from their popularity, so the cost does not grow with the catalogue.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import UNRANKED, top_k
from recsys.ragged import ScoredRaggedArray, offsets_of, spread


@dataclass(frozen=True, slots=True)
class BackoffRanks:
    """Ranks of the targets, as `target_ranks` returns them, and the listed items."""

    conservative: Tensor  # (cases,) int64
    standard: Tensor  # (cases,) int64
    listed: Tensor  # items of all lists, flat, int64


class PopularityBackoff(ABC):
    """Scorer with score(item) = sparse score + weight of the case · popularity(item).

    Popularity is at most 1. The weight is so small that an item with a sparse score stands above
    all without one; it tells equal scores apart.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        """Sort the items of a catalogue by popularity."""
        self._popularity = catalogue.popularity.astype(np.float64)
        self._by_popularity = np.argsort(-self._popularity, kind="stable")
        self._place = np.empty_like(self._by_popularity)  # 0 for the most popular
        self._place[self._by_popularity] = np.arange(len(self._place))

    @abstractmethod
    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        """Return the scored items for each click but the last of every session."""

    @abstractmethod
    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        """Return the weight of each case, above 0 and below every score: (cases,) float64."""

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the scores of all items: (cases, N) float64."""
        rows = self.sparse_scores_along(sessions)
        scores = self.popularity_weight(rows)[:, None] * self._popularity
        scores[rows.row_of_entry, rows.items] += rows.scores
        return torch.from_numpy(scores)

    def ranked_along(
        self, sessions: Sequence[NDArray[np.int32]], targets: Tensor, k: int
    ) -> BackoffRanks:
        """Rank the targets and list the k best, as `target_ranks` and `top_k` of all scores do.

        Args:
            sessions: Item indices of each session, (clicks,) int32, -1 where unknown.
            targets: (cases,) int64 item indices, -1 where unknown.
            k: Length of the lists.
        """
        rows, target = self.sparse_scores_along(sessions), targets.numpy()
        weight, row = self.popularity_weight(rows), rows.row_of_entry
        total = rows.scores + weight[row] * self._popularity[rows.items]
        greater, equal = self._count_above(rows, total, np.maximum(target, 0))
        return BackoffRanks(
            torch.from_numpy(np.where(target < 0, UNRANKED, greater + equal)),
            torch.from_numpy(np.where(target < 0, UNRANKED, greater + 1)),
            self._listed(rows, total, weight, k),
        )

    def _count_above(
        self, rows: ScoredRaggedArray, total: NDArray[np.float64], targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count the items that score above each row's target, and those that score the same."""
        row, items = rows.row_of_entry, len(self._place)
        scored, at = _find(rows, items, targets)
        of_target = np.zeros(len(rows))
        of_target[scored] = total[at[scored]]
        above = np.bincount(row[total > of_target[row]], minlength=len(rows))
        same = np.bincount(row[total == of_target[row]], minlength=len(rows))
        place = self._place[targets]
        ahead = self._place[rows.items] < place[row]  # counted in `place` and in the row
        unscored = rows.lengths + place - np.bincount(row[ahead], minlength=len(rows))
        return np.where(scored, above, unscored), np.where(scored, same, 1)

    def _listed(
        self,
        rows: ScoredRaggedArray,
        total: NDArray[np.float64],
        weight: NDArray[np.float64],
        k: int,
    ) -> Tensor:
        """Return the k best of each row, from its scored items and the k most popular."""
        popular = np.sort(self._by_popularity[:k])
        lengths, width = rows.lengths, int(rows.lengths.max(initial=0))
        scores = np.full((len(rows), width + len(popular)), -np.inf)
        items = np.zeros(scores.shape, dtype=np.int64)
        column = spread(np.zeros(len(rows), dtype=np.int64), lengths)
        scores[rows.row_of_entry, column] = total
        items[rows.row_of_entry, column] = rows.items
        items[:, width:] = popular
        is_scored, _ = _find(rows, len(self._place), np.tile(popular, len(rows)), each=len(popular))
        fill = weight[:, None] * self._popularity[popular]
        scores[:, width:] = np.where(is_scored.reshape(fill.shape), -np.inf, fill)
        top_scores, at = top_k(torch.from_numpy(scores), k)
        return torch.gather(torch.from_numpy(items), 1, at)[torch.isfinite(top_scores)]


def _find(
    rows: ScoredRaggedArray, items: int, queries: NDArray[np.int64], each: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Find the queried items, `each` of them for a row: whether the row holds it, and its entry."""
    if not len(rows.items):
        return np.zeros(len(queries), dtype=bool), np.zeros(len(queries), dtype=np.int64)
    keys = rows.row_of_entry * items + rows.items
    key = np.repeat(np.arange(len(rows)), each) * items + queries
    at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    return keys[at] == key, at


def rows_of_keys(
    keys: NDArray[np.int64], scores: NDArray[np.float64], rows: int, items: int
) -> ScoredRaggedArray:
    """Build rows from keys row·N + item, which rise and are unique."""
    row, item = np.divmod(keys, items)
    return ScoredRaggedArray(offsets_of(np.bincount(row, minlength=rows)), item, scores)
