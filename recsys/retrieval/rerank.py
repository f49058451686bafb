"""Top-k retrieval by an index: take its candidates and score them again in float32.

The items of the session are candidates, too, because a repeat term changes their scores.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.gru4rec import MIN_LENGTH
from recsys.model.ranking import NEVER
from recsys.ragged import spread
from recsys.retrieval.candidates import CandidateIndex, Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK, shown_items

FEW_ALLOWED = 20_000  # so few allowed items are all scored, without the index
COUNT_STEP = 10  # of the number of candidates
VECTORS_AT_ONCE = 32_768  # copied together to be scored, 16 MB of 128 numbers


class Reranked:
    """Retrieval by the candidates of an index, scored again in float32."""

    def __init__(
        self, index: CandidateIndex, exact: ExactScan, scale: float, few_allowed: int = FEW_ALLOWED
    ) -> None:
        """Join an index and an exact scan.

        Args:
            index: finds candidates.
            exact: scan of the same items, for lists that the index cannot find.
            scale: scale of cosine scores, 0 for inner products.
            few_allowed: where a filter leaves at most so many items, all of them are scored.
        """
        self._index, self._exact = index, exact
        self._scale, self._few_allowed = scale, few_allowed
        self._matrix, self._bias = exact.matrix.numpy(), exact.bias.numpy()

    def top_k(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> list[TopK]:
        """Return a list for each hidden state; see `Retrieval.top_k`."""
        quick = self.quick_top_k(hidden, clicks, queries)
        missing = [at for at, top_k in enumerate(quick) if top_k is None]
        exact: list[TopK] = []
        if missing:  # the index may overlook items of these lists
            hidden, clicks = hidden[missing], [clicks[at] for at in missing]
            exact = self._exact.top_k(hidden, clicks, [queries[at] for at in missing])
        rest = iter(exact)
        return [next(rest) if top_k is None else top_k for top_k in quick]

    def quick_top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """Return the lists that the index finds, None for the others."""
        vectors = query_vectors(hidden, self._scale)
        bonuses = [self._bonuses(window) for window in clicks]
        demoted = [[item for item, bonus in row.items() if bonus < 0] for row in bonuses]
        batch = _Batch(vectors, clicks, queries, bonuses, demoted)
        lists: dict[int, TopK | None] = {}
        for count, rows in _rows_by_count(batch).items():
            unfiltered = self._unfiltered(batch.only(rows), count)
            lists.update(zip(rows, unfiltered, strict=True))
        for at, query in enumerate(queries):
            if query.allowed is not None:
                lists[at] = self._filtered(batch.only([at]), query.allowed)
        return [lists[at] for at in range(len(queries))]

    def _bonuses(self, window: Sequence[int]) -> Mapping[int, float]:
        repeats = self._exact.repeats
        return {} if repeats is None else repeats.bonuses(window)

    def _unfiltered(self, batch: "_Batch", count: int) -> list[TopK | None]:
        """Return the lists; None where a list is longer than the index's `max_k`."""
        items = self._index.candidates(batch.vectors, batch.clicks, count)
        return self._scored(batch, items, self._index.max_k)

    def _filtered(self, batch: "_Batch", allowed: NDArray[np.bool_]) -> TopK | None:
        """Return the list of a batch of one; None where the index would overlook items."""
        if np.count_nonzero(allowed) <= self._few_allowed:
            items = np.flatnonzero(allowed)[None]
        elif self._index.settings.exhaustive:
            count = _count(batch.queries[0], batch.demoted[0])
            items = self._index.candidates(batch.vectors, batch.clicks, count, allowed)
        else:
            return None
        return self._scored(batch, items)[0]

    def _scored(
        self, batch: "_Batch", items: NDArray[np.int64], max_k: int = sys.maxsize
    ) -> list[TopK | None]:
        """Return the best of the candidates; None where a list ends beyond `max_k`.

        A row's scores are the same in any batch, so the size of the parts does not matter.

        Args:
            batch: B rows.
            items: (B, C) int64, -1 where there is no candidate.
            max_k: the longest list that the candidates were found for.
        """
        rows = max(VECTORS_AT_ONCE // max(items.shape[1], 1), 1)
        if len(items) <= rows:
            return self._scored_together(batch, items, max_k)
        parts = [range(at, min(at + rows, len(items))) for at in range(0, len(items), rows)]
        return [
            top_k
            for part in parts
            for top_k in self._scored_together(batch.only(part), items[part], max_k)
        ]

    def _scored_together(
        self, batch: "_Batch", items: NDArray[np.int64], max_k: int
    ) -> list[TopK | None]:
        """Return the lists of one part.

        An excluded candidate counts towards `max_k`, and so does one whose bonus is negative: each
        makes room for an item that the index may have overlooked.
        """
        queries = batch.queries
        beyond = [query.k > max_k for query in queries]
        for row, query in enumerate(queries):
            gone = [*query.excluded, *batch.demoted[row]]
            if gone and not beyond[row] and query.k + len(gone) > max_k:
                beyond[row] = query.k + len(set(gone).intersection(items[row].tolist())) > max_k
        if all(beyond):
            return [None] * len(queries)
        repeated = _Repeated.of(batch)
        items = np.sort(repeated.joined(items), axis=1)  # equal scores are in index order
        shown = items >= 0
        shown[:, 1:] &= items[:, 1:] != items[:, :-1]
        taken = self._matrix.take(items, axis=0, mode="clip")  # (B, C, H)
        scores = np.einsum("bch,bh->bc", taken, batch.vectors)  # no threads, which would only spin
        scores += self._bias.take(items, mode="clip")
        repeated.add_to(scores, items, len(self._matrix))
        for row, query in enumerate(queries):
            if query.excluded:
                shown[row] &= ~np.isin(items[row], query.excluded)
        scores[~shown | np.isnan(scores)] = NEVER
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(query.k for query in queries)]
        rows = np.arange(len(items))[:, None]
        best, falling = items[rows, order].tolist(), scores[rows, order].tolist()
        return [
            None if beyond[row] else shown_items(best[row], falling[row], query.k)
            for row, query in enumerate(queries)
        ]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Queries that are answered together."""

    vectors: NDArray[np.float32]  # (B, H)
    clicks: Windows
    queries: Sequence[RankingQuery]
    bonuses: Sequence[Mapping[int, float]]  # of the items of each window
    demoted: Sequence[Sequence[int]]  # the items of each window whose bonus is negative

    def only(self, rows: Sequence[int]) -> "_Batch":
        """Return some of the rows."""
        if len(rows) == len(self.queries):
            return self
        return _Batch(
            self.vectors[rows],
            [self.clicks[row] for row in rows],
            [self.queries[row] for row in rows],
            [self.bonuses[row] for row in rows],
            [self.demoted[row] for row in rows],
        )


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Allowed items of the windows of a batch, row after row, with their bonuses."""

    row: NDArray[np.int64]  # (entries,)
    column: NDArray[np.int64]  # (entries,) place within its row
    item: NDArray[np.int64]  # (entries,)
    bonus: NDArray[np.float32]  # (entries,)

    @classmethod
    def of(cls, batch: _Batch) -> "_Repeated":
        bonuses = [
            row if query.allowed is None else {i: b for i, b in row.items() if query.allowed[i]}
            for row, query in zip(batch.bonuses, batch.queries, strict=True)
        ]
        lengths = np.array([len(row) for row in bonuses], dtype=np.int64)
        entries = int(lengths.sum())
        return cls(
            np.repeat(np.arange(len(bonuses)), lengths),
            spread(np.zeros(len(bonuses), dtype=np.int64), lengths),
            np.fromiter(chain.from_iterable(bonuses), np.int64, entries),
            np.fromiter(chain.from_iterable(row.values() for row in bonuses), np.float32, entries),
        )

    def joined(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return candidates, (B, C) int64, with these items beside them; -1 fills a row."""
        if not len(self.item):
            return items
        beside = np.full((len(items), int(self.column.max()) + 1), -1, dtype=np.int64)
        beside[self.row, self.column] = self.item
        return np.concatenate([items, beside], axis=1)

    def add_to(self, scores: NDArray[np.float32], items: NDArray[np.int64], count: int) -> None:
        """Add the bonuses in place; of equal items of a row the first gets it.

        Args:
            scores: (B, C) float32.
            items: (B, C) int64, each row rising; it holds all these items.
            count: N.
        """
        if not len(self.item):
            return
        rows = np.arange(len(items)) * (count + 1)  # so that rows rise one after the other
        at = np.searchsorted((items + rows[:, None]).ravel(), self.item + rows[self.row])
        scores.ravel()[at] += self.bonus


def _rows_by_count(batch: _Batch) -> dict[int, list[int]]:
    """Return candidate count → the rows without a filter that need so many candidates."""
    rows: dict[int, list[int]] = {}
    for at, (query, demoted) in enumerate(zip(batch.queries, batch.demoted, strict=True)):
        if query.allowed is None:
            rows.setdefault(_count(query, demoted), []).append(at)
    return rows


def _count(query: RankingQuery, demoted: Sequence[int]) -> int:
    """Return the candidates that a list needs, in steps so that rows share a call.

    The count can change which items are found, so it depends on the row's own query alone.
    """
    wanted = query.k + len(query.excluded) + len(demoted)
    return math.ceil(max(wanted, 1) / COUNT_STEP) * COUNT_STEP


def query_vectors(hidden: Tensor, scale: float) -> NDArray[np.float32]:
    """Return the vectors that item vectors are multiplied with.

    The result is `hidden` for inner products and `scale` times its direction for cosine scores. It
    equals `recsys.model.gru4rec.unit` in a tenth of the time that torch takes for one row.

    Args:
        hidden: (B, H) float32, the top layer's outputs.
        scale: scale of cosine scores, 0 for inner products.

    Returns:
        (B, H) float32.
    """
    vectors: NDArray[np.float32] = hidden.numpy()
    if scale <= 0:
        return vectors
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    factors = np.where(lengths > MIN_LENGTH, scale / np.maximum(lengths, MIN_LENGTH), 0)
    return vectors * factors.astype(np.float32)[:, None]
