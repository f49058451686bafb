"""Top-k retrieval by an index: take its candidates and score them again in float32.

The items of the session and of its neighbours are candidates, too, because a repeat term and a
blend change their scores. So are the best of the raised items, whose biases are higher than in the
index. No item of the true list is missed by that: raised items only move up, so of the others, the
list has none that is not among the best of the index's biases.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.gru4rec import MIN_LENGTH
from recsys.model.ranking import NEVER
from recsys.model.repeats import temperature_of
from recsys.ragged import ScoredRaggedArray, offsets_of, rows_of
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
        self._blend, self._temperature = exact.blend, temperature_of(exact.repeats)
        self._least_count = 0 if exact.blend is None else exact.blend.settings.normalizing
        self._raised = exact.raised
        raised_rows = exact.matrix[torch.from_numpy(exact.raised)]
        self._raised_matrix = raised_rows.t().contiguous()  # (H, raised): a third of the time
        self._raised_bias = exact.bias[torch.from_numpy(exact.raised)]

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
        votes = None if self._blend is None else self._blend.votes(rows_of(clicks))
        batch = _Batch(vectors, clicks, queries, bonuses, demoted, votes)
        lists: dict[int, TopK | None] = {}
        for count, rows in _rows_by_count(batch, self._least_count).items():
            unfiltered = self._unfiltered(batch.only(rows), count)
            lists.update(zip(rows, unfiltered, strict=True))
        for at, query in enumerate(queries):
            if query.rules is not None:
                lists[at] = None
            elif query.allowed is not None:
                lists[at] = self._filtered(batch.only([at]), query.allowed)
        return [lists[at] for at in range(len(queries))]

    def over(self, exact: ExactScan) -> "Reranked":
        """Return the same index with another scan of its items; see `Retrieval.over`."""
        return Reranked(self._index, exact, self._scale, self._few_allowed)

    def _bonuses(self, window: Sequence[int]) -> Mapping[int, float]:
        repeats = self._exact.repeats
        return {} if repeats is None else repeats.bonuses(window)

    def _unfiltered(self, batch: "_Batch", count: int) -> list[TopK | None]:
        """Return the lists; None where a list is longer than the index's `max_k`."""
        items = self._candidates(batch, count)
        return self._scored(batch, items, self._index.max_k)

    def _candidates(
        self, batch: "_Batch", count: int, allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return the index's candidates and the best of the raised items, (B, C) int64."""
        items = self._index.candidates(batch.vectors, batch.clicks, count, allowed)
        if not len(self._raised):
            return items
        scores = torch.addmm(
            self._raised_bias, torch.from_numpy(batch.vectors), self._raised_matrix
        )
        if allowed is not None:
            scores[:, torch.from_numpy(~allowed[self._raised])] = NEVER
        best = torch.topk(scores, min(count, len(self._raised)), sorted=False)[1].numpy()
        return np.concatenate([items, self._raised[best]], axis=1)

    def _filtered(self, batch: "_Batch", allowed: NDArray[np.bool_]) -> TopK | None:
        """Return the list of a batch of one; None where the index would overlook items."""
        if np.count_nonzero(allowed) <= self._few_allowed:
            items = np.flatnonzero(allowed)[None]
        elif self._index.settings.exhaustive:
            count = _count(batch.queries[0], batch.demoted[0])
            items = self._candidates(batch, count, allowed)
        else:
            return None
        if self._blend is not None:  # its softmax is over the best of all items
            best = self._candidates(batch, self._least_count)
            items = np.concatenate([items, best], axis=1)
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
        entries, votes = _Entries.of(batch.bonuses), 0
        if batch.votes is not None:
            votes = len(batch.votes.items)
            entries = _Entries.of_rows(batch.votes).followed_by(entries)
        items = np.sort(entries.beside(items), axis=1)  # equal scores are in index order
        shown = items >= 0
        shown[:, 1:] &= items[:, 1:] != items[:, :-1]
        taken = self._matrix.take(items, axis=0, mode="clip")  # (B, C, H)
        scores = np.einsum("bch,bh->bc", taken, batch.vectors)  # no threads, which would only spin
        scores += self._bias.take(items, mode="clip")
        places = entries.places(items, len(self._matrix))
        if batch.votes is not None:
            scores = self._blended(scores, shown, batch.votes, places[:votes])
        scores.ravel()[places[votes:]] += entries.value[votes:]
        for row, query in enumerate(queries):
            if query.excluded:
                shown[row] &= ~np.isin(items[row], query.excluded)
            if query.allowed is not None:
                shown[row] &= query.allowed[items[row]]
        scores[~shown | np.isnan(scores)] = NEVER
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(query.k for query in queries)]
        rows = np.arange(len(items))[:, None]
        best, falling = items[rows, order].tolist(), scores[rows, order].tolist()
        return [
            None if beyond[row] else shown_items(best[row], falling[row], query.k)
            for row, query in enumerate(queries)
        ]

    def _blended(
        self,
        scores: NDArray[np.float32],
        distinct: NDArray[np.bool_],
        votes: ScoredRaggedArray,
        places: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the scores of the blend for scores of the model, as `Blend.mix` does.

        Args:
            scores: (B, C) float32.
            distinct: (B, C) bool, False where an item stands a second time.
            votes: as `Blend.votes` returns them.
            places: (entries,) int64 positions of their items in the scores.
        """
        assert self._blend is not None
        scores /= np.float32(self._temperature)
        best = np.where(distinct, scores, NEVER)
        settings = self._blend.settings
        if best.shape[1] > settings.normalizing > 0:
            best = np.partition(best, -settings.normalizing, axis=1)
            best = best[:, -settings.normalizing :]
        highest = best.max(axis=1, keepdims=True)
        shift = -highest - np.log(np.exp(best - highest).sum(axis=1, keepdims=True))
        shift[votes.lengths > 0] += np.float32(math.log1p(-settings.weight))
        scores += shift
        flat = scores.ravel()
        with np.errstate(invalid="ignore"):  # a state of NaN
            flat[places] = np.logaddexp(flat[places], votes.scores.astype(np.float32))
        return scores


@dataclass(frozen=True, slots=True)
class _Batch:
    """Queries that are answered together."""

    vectors: NDArray[np.float32]  # (B, H)
    clicks: Windows
    queries: Sequence[RankingQuery]
    bonuses: Sequence[Mapping[int, float]]  # of the items of each window
    demoted: Sequence[Sequence[int]]  # the items of each window whose bonus is negative
    votes: ScoredRaggedArray | None  # of the neighbours of each window; None without a blend

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
            None if self.votes is None else self.votes.only(rows),
        )


@dataclass(frozen=True, slots=True)
class _Entries:
    """Items of the rows of a batch that are scored in their own way, row after row."""

    lengths: NDArray[np.int64]  # (rows,)
    row: NDArray[np.int64]  # (entries,)
    column: NDArray[np.int64]  # (entries,) place within its row
    item: NDArray[np.int64]  # (entries,)
    value: NDArray[np.float32]  # (entries,)

    @classmethod
    def of(cls, rows: Sequence[Mapping[int, float]]) -> "_Entries":
        """Return the entries of these rows, item → value."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        entries = int(lengths.sum())
        return cls.of_rows(
            ScoredRaggedArray(
                offsets_of(lengths),
                np.fromiter(chain.from_iterable(rows), np.int64, entries),
                np.fromiter(chain.from_iterable(row.values() for row in rows), np.float64, entries),
            )
        )

    @classmethod
    def of_rows(cls, rows: ScoredRaggedArray) -> "_Entries":
        """Return the entries of these rows."""
        row = rows.row_of_entry
        column = np.arange(len(row)) - rows.offsets[row]
        return cls(rows.lengths, row, column, rows.items, rows.scores.astype(np.float32))

    def followed_by(self, others: "_Entries") -> "_Entries":
        """Return these entries and then the others, whose items stand behind those of a row."""
        return _Entries(
            self.lengths + others.lengths,
            np.concatenate([self.row, others.row]),
            np.concatenate([self.column, self.lengths[others.row] + others.column]),
            np.concatenate([self.item, others.item]),
            np.concatenate([self.value, others.value]),
        )

    def beside(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return candidates, (B, C) int64, with these items beside them; -1 fills a row."""
        if not len(self.item):
            return items
        joined = np.full((len(items), int(self.lengths.max())), -1, dtype=np.int64)
        joined[self.row, self.column] = self.item
        return np.concatenate([items, joined], axis=1)

    def places(self, items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the position of each of these items in the flat candidates, the first of equals.

        Args:
            items: (B, C) int64, each row rising; it holds all these items.
            count: N.
        """
        rows = np.arange(len(items)) * (count + 1)  # so that rows rise one after the other
        return np.searchsorted((items + rows[:, None]).ravel(), self.item + rows[self.row])


def _rows_by_count(batch: _Batch, least: int) -> dict[int, list[int]]:
    """Return candidate count, at least `least` → the rows that need so many.

    Rows with a filter or rules are left out.
    """
    rows: dict[int, list[int]] = {}
    for at, (query, demoted) in enumerate(zip(batch.queries, batch.demoted, strict=True)):
        if query.allowed is None and query.rules is None:
            rows.setdefault(max(_count(query, demoted), least), []).append(at)
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
