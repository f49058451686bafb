"""Scorers that know a few items of a case and leave all others in the order of their popularity.

Every baseline is one. Ranks and lists come from the few scored items alone: the place of all others
follows from how popular they are, so the cost does not grow with the catalogue.
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
    """score(item) = own score + share of the case · popularity(item), the latter at most 1.

    The share is so small that an item with a score of its own stands above all without one; it
    tells equal scores apart.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._popularity = catalogue.popularity.astype(np.float64)
        self._by_popularity = np.argsort(-self._popularity, kind="stable")
        self._place = np.empty_like(self._by_popularity)  # 0 for the most popular
        self._place[self._by_popularity] = np.arange(len(self._place))

    @abstractmethod
    def rows_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        """The scored items for each click but the last of every session."""

    @abstractmethod
    def behind(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        """Popularity's share in each case, above 0 and below every score: (cases,) float64."""

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """All items' scores, (cases, N) float64, for who needs every one of them."""
        rows = self.rows_along(sessions)
        scores = self.behind(rows)[:, None] * self._popularity
        scores[rows.row_of_entry, rows.items] += rows.scores
        return torch.from_numpy(scores)

    def ranked_along(
        self, sessions: Sequence[NDArray[np.int32]], targets: Tensor, k: int
    ) -> BackoffRanks:
        """What `target_ranks` and `top_k` say of `scores_along`; targets: -1 where unknown."""
        rows, wanted = self.rows_along(sessions), targets.numpy()
        behind, row = self.behind(rows), rows.row_of_entry
        total = rows.scores + behind[row] * self._popularity[rows.items]
        greater, equal = self._above(rows, total, np.maximum(wanted, 0))
        return BackoffRanks(
            torch.from_numpy(np.where(wanted < 0, UNRANKED, greater + equal)),
            torch.from_numpy(np.where(wanted < 0, UNRANKED, greater + 1)),
            self._listed(rows, total, behind, k),
        )

    def _above(
        self, rows: ScoredRaggedArray, total: NDArray[np.float64], targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many items score above each row's target, and how many the same, itself included."""
        row, items = rows.row_of_entry, len(self._place)
        scored, at = _find(rows, items, targets)
        own = np.zeros(len(rows))
        own[scored] = total[at[scored]]
        above = np.bincount(row[total > own[row]], minlength=len(rows))
        same = np.bincount(row[total == own[row]], minlength=len(rows))
        place = self._place[targets]
        ahead = self._place[rows.items] < place[row]  # counted in `place` and in the row
        unscored = rows.lengths + place - np.bincount(row[ahead], minlength=len(rows))
        return np.where(scored, above, unscored), np.where(scored, same, 1)

    def _listed(
        self,
        rows: ScoredRaggedArray,
        total: NDArray[np.float64],
        behind: NDArray[np.float64],
        k: int,
    ) -> Tensor:
        """The k best of each row: of the scored items and, behind them, the k most popular."""
        popular = np.sort(self._by_popularity[:k])
        lengths, width = rows.lengths, int(rows.lengths.max(initial=0))
        scores = np.full((len(rows), width + len(popular)), -np.inf)
        items = np.zeros(scores.shape, dtype=np.int64)
        column = spread(np.zeros(len(rows), dtype=np.int64), lengths)
        scores[rows.row_of_entry, column] = total
        items[rows.row_of_entry, column] = rows.items
        items[:, width:] = popular
        twice, _ = _find(rows, len(self._place), np.tile(popular, len(rows)), each=len(popular))
        fill = behind[:, None] * self._popularity[popular]
        scores[:, width:] = np.where(twice.reshape(fill.shape), -np.inf, fill)
        best, at = top_k(torch.from_numpy(scores), k)
        return torch.gather(torch.from_numpy(items), 1, at)[torch.isfinite(best)]


def _find(
    rows: ScoredRaggedArray, items: int, wanted: NDArray[np.int64], each: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether row r has the r-th (or `each` of them) wanted item, and at which entry."""
    if not len(rows.items):
        return np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted), dtype=np.int64)
    keys = rows.row_of_entry * items + rows.items
    key = np.repeat(np.arange(len(rows)), each) * items + wanted
    at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    return keys[at] == key, at


def rows_of_keys(
    keys: NDArray[np.int64], scores: NDArray[np.float64], rows: int, items: int
) -> ScoredRaggedArray:
    """keys: row·N + item, rising, none twice."""
    row, item = np.divmod(keys, items)
    return ScoredRaggedArray(offsets_of(np.bincount(row, minlength=rows)), item, scores)
