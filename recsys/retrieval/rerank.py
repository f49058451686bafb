"""Top-k retrieval by an index: take its candidates and score them again in float32."""

import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.gru4rec import MIN_LENGTH
from recsys.model.ranking import NEVER
from recsys.retrieval.candidates import MEASURED_K, CandidateIndex, Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK, shown_items

FEW_ALLOWED = 20_000  # so few allowed items are all scored, without the index
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
        lists: dict[int, TopK | None] = {}
        for count, rows in _rows_by_count(queries).items():
            unfiltered = self._unfiltered(vectors, clicks, queries, rows, count)
            lists.update(zip(rows, unfiltered, strict=True))
        for at, query in enumerate(queries):
            if query.allowed is not None:
                vector = vectors[at : at + 1]
                lists[at] = self._filtered(vector, clicks[at], query, query.allowed)
        return [lists[at] for at in range(len(queries))]

    def _unfiltered(
        self,
        vectors: NDArray[np.float32],
        clicks: Windows,
        queries: Sequence[RankingQuery],
        rows: Sequence[int],
        count: int,
    ) -> list[TopK | None]:
        """Return lists for some rows; None where a list is longer than the index's `max_k`."""
        own = vectors if len(rows) == len(vectors) else vectors[rows]
        items = self._index.candidates(own, [clicks[row] for row in rows], count)
        return self._scored(own, items, [queries[row] for row in rows], self._index.max_k)

    def _filtered(
        self,
        vector: NDArray[np.float32],
        clicks: Sequence[int],
        query: RankingQuery,
        allowed: NDArray[np.bool_],
    ) -> TopK | None:
        """Return the list for one vector, (1, H); None where the index would overlook items."""
        if np.count_nonzero(allowed) <= self._few_allowed:
            items = np.flatnonzero(allowed)[None]
        elif self._index.settings.exhaustive:
            items = self._index.candidates(vector, [clicks], _count(query), allowed)
        else:
            return None
        return self._scored(vector, items, [query])[0]

    def _scored(
        self,
        vectors: NDArray[np.float32],
        items: NDArray[np.int64],
        queries: Sequence[RankingQuery],
        max_k: int = sys.maxsize,
    ) -> list[TopK | None]:
        """Return the best of the candidates; None where a list ends beyond `max_k`.

        A row's scores are the same in any batch, so the size of the parts does not matter.

        Args:
            vectors: (B, H) float32.
            items: (B, C) int64, -1 where there is no candidate.
            queries: B queries.
            max_k: the longest list that the candidates were found for.
        """
        rows = max(VECTORS_AT_ONCE // max(items.shape[1], 1), 1)
        parts = [slice(at, at + rows) for at in range(0, len(items), rows)]
        return [
            top_k
            for part in parts
            for top_k in self._scored_together(vectors[part], items[part], queries[part], max_k)
        ]

    def _scored_together(
        self,
        vectors: NDArray[np.float32],
        items: NDArray[np.int64],
        queries: Sequence[RankingQuery],
        max_k: int,
    ) -> list[TopK | None]:
        """Return the lists of one part; an excluded candidate counts towards `max_k`."""
        items = np.sort(items, axis=1)  # equal scores are in the order of their index
        shown = items >= 0
        shown[:, 1:] &= items[:, 1:] != items[:, :-1]
        beyond = [query.k > max_k for query in queries]
        for row, query in enumerate(queries):
            if query.excluded:
                excluded = shown[row] & np.isin(items[row], query.excluded)
                shown[row] &= ~excluded
                beyond[row] = query.k + int(np.count_nonzero(excluded)) > max_k
        if all(beyond):
            return [None] * len(queries)
        taken = self._matrix.take(items, axis=0, mode="clip")  # (B, C, H)
        scores = np.einsum("bch,bh->bc", taken, vectors)  # no threads, which would only spin
        scores += self._bias.take(items, mode="clip")
        scores[~shown | np.isnan(scores)] = NEVER
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(query.k for query in queries)]
        rows = np.arange(len(items))[:, None]
        best, falling = items[rows, order].tolist(), scores[rows, order].tolist()
        return [
            None if beyond[row] else shown_items(best[row], falling[row], query.k)
            for row, query in enumerate(queries)
        ]


def _rows_by_count(queries: Sequence[RankingQuery]) -> dict[int, list[int]]:
    """Return candidate count → the rows without a filter that need so many candidates."""
    rows: dict[int, list[int]] = {}
    for at, query in enumerate(queries):
        if query.allowed is None:
            rows.setdefault(_count(query), []).append(at)
    return rows


def _count(query: RankingQuery) -> int:
    """Return the candidates that a list needs, in steps of `MEASURED_K` so that rows share a call.

    The count can change which items are found, so it depends on the row's own query alone.
    """
    return math.ceil(max(query.k + len(query.excluded), 1) / MEASURED_K) * MEASURED_K


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
