"""Top-k retrieval by an index: take its candidates and score them again in float32.

The index finds candidates among all items. Where that is not enough, as for a narrow filter, a long
list or a rule, a scan of the allowed items in 8 bits finds them (`recsys/retrieval/item_scan.py`).
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

from recsys.allowed_items import AllowedItems
from recsys.model.gru4rec import MIN_LENGTH
from recsys.model.ranking import NEVER
from recsys.model.repeats import temperature_of
from recsys.ragged import ScoredRaggedArray, offsets_of, rows_of
from recsys.retrieval.candidates import CandidateIndex, Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK, shown_items
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rules import RankingRules

FEW_ALLOWED = 5_000  # so few allowed items are all scored, without index and scan
WIDE_SHARE = 0.25  # of the items: where so many are allowed, the index may find enough of them
COUNT_STEP = 10  # of the number of candidates
VECTORS_AT_ONCE = 32_768  # copied together to be scored, 16 MB of 128 numbers


@dataclass(frozen=True, slots=True)
class _Search:
    """Items whose best were searched: every item outside the candidates scores lower.

    `depth` counts the best by the score of the model, before bonuses and boosts.
    """

    depth: int  # sys.maxsize where all items of the set are candidates
    allowed: AllowedItems | None = None  # the set; None for all items
    boost: float = 0.0  # added to the scores of the set, at most


class Reranked:
    """Retrieval by the candidates of an index or of a scan, scored again in float32."""

    def __init__(
        self,
        index: CandidateIndex,
        exact: ExactScan,
        scale: float,
        scan: ItemScan | None = None,
        few_allowed: int = FEW_ALLOWED,
    ) -> None:
        """Join an index and scans.

        Args:
            index: finds candidates.
            exact: scan of the same items in float32, for lists that are not found otherwise.
            scale: scale of cosine scores, 0 for inner products.
            scan: scan of the same items in 8 bits, with the biases of the index; None for none.
            few_allowed: where a filter leaves at most so many items, all of them are scored.
        """
        self._index, self._exact, self._scan = index, exact, scan
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
        batch = self._batch(hidden, clicks, queries)
        lists = self._quick(batch)
        missing = [at for at, top_k in enumerate(lists) if top_k is None]
        if missing:
            for at, top_k in zip(missing, self._by_scan(batch.only(missing)), strict=True):
                lists[at] = top_k
        rest = [at for at in missing if lists[at] is None]
        exact: list[TopK] = []
        if rest:
            of_rest = [clicks[at] for at in rest], [queries[at] for at in rest]
            exact = self._exact.top_k(hidden[rest], *of_rest)
        others = iter(exact)
        return [next(others) if top_k is None else top_k for top_k in lists]

    def quick_top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """Return the lists that the index finds, None for the others."""
        return self._quick(self._batch(hidden, clicks, queries))

    def _batch(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> "_Batch":
        bonuses = [self._bonuses(window) for window in clicks]
        demoted = [[item for item, bonus in row.items() if bonus < 0] for row in bonuses]
        votes = None if self._blend is None else self._blend.votes(rows_of(clicks))
        vectors = query_vectors(hidden, self._scale)
        return _Batch(vectors, clicks, queries, bonuses, demoted, votes)

    def over(self, exact: ExactScan) -> "Reranked":
        """Return the same index with another scan of its items; see `Retrieval.over`."""
        return Reranked(self._index, exact, self._scale, self._scan, self._few_allowed)

    def _bonuses(self, window: Sequence[int]) -> Mapping[int, float]:
        repeats = self._exact.repeats
        return {} if repeats is None else repeats.bonuses(window)

    def _quick(self, batch: "_Batch") -> list[TopK | None]:
        """Return the lists whose items the index finds, or whose filter leaves few items."""
        lists: list[TopK | None] = [None] * len(batch.queries)
        for count, rows in self._rows_by_count(batch).items():
            some = batch.only(rows)
            items = self._of_index(some, count)
            search = _Search(min(self._index.max_k, count))
            for at, top_k in zip(rows, self._scored(some, items, [search]), strict=True):
                lists[at] = top_k
        for at, query in enumerate(batch.queries):
            few = query.allowed is not None and query.allowed.count <= self._few_allowed
            if few and query.rules is None:
                (lists[at],) = self._best_of(batch.only([at]), [_Search(query.k, query.allowed)])
        return lists

    def _rows_by_count(self, batch: "_Batch") -> dict[int, list[int]]:
        """Return candidate count → the rows whose lists the index may find from so many."""
        rows: dict[int, list[int]] = {}
        for at, (query, demoted) in enumerate(zip(batch.queries, batch.demoted, strict=True)):
            if query.rules is None and self._index_may_find(query.k, query.allowed):
                count = max(_count(query, demoted), self._least_count)
                rows.setdefault(count, []).append(at)
        return rows

    def _index_may_find(self, depth: int, allowed: AllowedItems | None) -> bool:
        """Return whether so many allowed items are likely among the best `max_k` of all items."""
        if allowed is None:
            return depth <= self._index.max_k
        return allowed.share >= WIDE_SHARE and depth <= allowed.share * self._index.max_k

    def _by_scan(self, batch: "_Batch") -> list[TopK | None]:
        """Return the lists from the best of the allowed items, None where that is not possible."""
        lists: list[TopK | None] = [None] * len(batch.queries)
        alike: dict[int, list[int]] = {}  # rows without rules whose allowed items are the same
        for at, query in enumerate(batch.queries):
            if query.rules is None:
                alike.setdefault(id(query.allowed), []).append(at)
            else:
                lists[at] = self._by_rules(batch.only([at]), query.rules)
        for rows in alike.values():
            some = batch.only(rows)
            depth = max(map(_places, some.queries, some.demoted))
            search = _Search(depth, some.queries[0].allowed)
            for at, top_k in zip(rows, self._best_of(some, [search]), strict=True):
                lists[at] = top_k
        return lists

    def _by_rules(self, row: "_Batch", rules: RankingRules) -> TopK | None:
        """Return the list of a batch of one; None where its items may be anywhere."""
        query = row.queries[0]
        sets, by_index = rules.sets(query.allowed), True
        for depth in rules.depths(_places(query, row.demoted[0])) if sets else ():
            searches = [_Search(depth, items, boost) for items, boost in sets]
            (top_k,) = self._best_of(row, searches, by_index)
            if top_k is not None:
                return top_k
            by_index = False
        return None

    def _best_of(
        self, batch: "_Batch", searches: Sequence[_Search], by_index: bool = False
    ) -> list[TopK | None]:
        """Return the lists from the best items of some searches; None where these do not do.

        by_index: the index may search instead of the scan, where it is likely to find enough.
        """
        parts, done = [], []
        for search in searches:
            found = self._candidates(batch, search, by_index)
            if found is None:
                return [None] * len(batch.queries)
            parts.append(found[0])
            done.append(found[1])
        rules = batch.queries[0].rules
        if rules is not None:
            parts.append(np.array([rules.pinned], dtype=np.int64))
        if self._blend is not None:  # its softmax is over the best of all items
            parts.append(self._of_index(batch, self._least_count))
        return self._scored(batch, np.concatenate(parts, axis=1), done)

    def _candidates(
        self, batch: "_Batch", search: _Search, by_index: bool
    ) -> tuple[NDArray[np.int64], _Search] | None:
        """Return candidates, (B, C), and what was searched for them."""
        allowed, index = search.allowed, self._index
        if allowed is not None and allowed.count <= max(self._few_allowed, search.depth):
            items = allowed.indices.astype(np.int64)[None].repeat(len(batch.queries), axis=0)
            return items, _Search(sys.maxsize, allowed)
        if by_index and self._index_may_find(search.depth, allowed):
            depth = min(index.max_k, _steps(search.depth, allowed))
            return self._of_index(batch, depth), _Search(depth, None, search.boost)
        if self._scan is None:
            return None
        scanned = self._scan.best(batch.vectors, search.depth, allowed)
        if scanned is None:
            return None
        return self._with_raised(batch, scanned, search.depth, allowed), search

    def _of_index(self, batch: "_Batch", count: int) -> NDArray[np.int64]:
        """Return the index's candidates and the best of the raised items, (B, C) int64."""
        items = self._index.candidates(batch.vectors, batch.clicks, count)
        return self._with_raised(batch, items, count)

    def _with_raised(
        self,
        batch: "_Batch",
        items: NDArray[np.int64],
        count: int,
        allowed: AllowedItems | None = None,
    ) -> NDArray[np.int64]:
        """Return candidates, (B, C), with the `count` best of the raised and allowed items."""
        if not len(self._raised):
            return items
        vectors = torch.from_numpy(batch.vectors)
        scores = torch.addmm(self._raised_bias, vectors, self._raised_matrix)
        if allowed is not None:
            scores[:, torch.from_numpy(~allowed.holds(self._raised))] = NEVER
        best = torch.topk(scores, min(count, len(self._raised)), sorted=False)[1].numpy()
        return np.concatenate([items, self._raised[best]], axis=1)

    def _scored(
        self, batch: "_Batch", items: NDArray[np.int64], searches: Sequence[_Search]
    ) -> list[TopK | None]:
        """Return the best of the candidates; None where another item might be in a list.

        A row's scores are the same in any batch, so the size of the parts does not matter.

        Args:
            batch: B rows.
            items: (B, C) int64, -1 where there is no candidate.
            searches: what was searched for them.
        """
        rows = max(VECTORS_AT_ONCE // max(items.shape[1], 1), 1)
        if len(items) <= rows:
            return self._scored_together(batch, items, searches)
        parts = [range(at, min(at + rows, len(items))) for at in range(0, len(items), rows)]
        return [
            top_k
            for part in parts
            for top_k in self._scored_together(batch.only(part), items[part], searches)
        ]

    def _scored_together(
        self, batch: "_Batch", items: NDArray[np.int64], searches: Sequence[_Search]
    ) -> list[TopK | None]:
        """Return the lists of one part."""
        queries = batch.queries
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
        if batch.votes is not None:
            self._normalize(scores, shown, batch.votes)
        floors = [
            NEVER
            if _suffices(searches, *row[:2])
            else _floor(searches, *row[2:], len(self._matrix))
            for row in zip(queries, batch.demoted, items, scores, shown, strict=True)
        ]
        places, flat = entries.places(items, len(self._matrix)), scores.ravel()
        if batch.votes is not None:
            with np.errstate(invalid="ignore"):  # a state of NaN
                voted = flat[places[:votes]]
                flat[places[:votes]] = np.logaddexp(voted, entries.value[:votes])
        flat[places[votes:]] += entries.value[votes:]
        for row, query in enumerate(queries):
            if query.excluded:
                shown[row] &= ~np.isin(items[row], query.excluded)
            if query.allowed is not None:
                shown[row] &= query.allowed.holds(items[row])
        scores[~shown | np.isnan(scores)] = NEVER
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(query.k for query in queries)]
        rows = np.arange(len(items))[:, None]
        best, falling = items[rows, order].tolist(), scores[rows, order].tolist()
        lists: list[TopK | None] = []
        for row, (query, floor) in enumerate(zip(queries, floors, strict=True)):
            if query.rules is not None:
                ruled = query.rules.best(torch.from_numpy(scores[row]), query.k, items[row], floor)
                lists.append(None if ruled is None else TopK(*ruled))
            else:
                top_k = shown_items(best[row], falling[row], query.k)
                full = len(top_k.items) == query.k and top_k.scores[-1] >= floor
                lists.append(top_k if full or floor == NEVER else None)
        return lists

    def _normalize(
        self,
        scores: NDArray[np.float32],
        distinct: NDArray[np.bool_],
        votes: ScoredRaggedArray,
    ) -> None:
        """Turn scores of the model into those of the blend before the votes, as `Blend.mix` does.

        Args:
            scores: (B, C) float32, overwritten.
            distinct: (B, C) bool, False where an item stands a second time.
            votes: as `Blend.votes` returns them.
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


def _places(query: RankingQuery, demoted: Sequence[int]) -> int:
    """Return how many of the best items a list may reach down to."""
    return query.k + len(query.excluded) + len(demoted)


def _count(query: RankingQuery, demoted: Sequence[int]) -> int:
    """Return the candidates that a list needs, in steps so that rows share a call.

    The count can change which items are found, so it depends on the row's own query alone.
    """
    return _steps(_places(query, demoted), query.allowed)


def _steps(places: int, allowed: AllowedItems | None) -> int:
    """Return at least so many; more, where only a part of them is allowed."""
    wanted = float(places) if allowed is None else 1.5 * places / allowed.share + COUNT_STEP
    return math.ceil(max(wanted, 1) / COUNT_STEP) * COUNT_STEP


def _suffices(searches: Sequence[_Search], query: RankingQuery, demoted: Sequence[int]) -> bool:
    """Return whether a list is complete, whatever the scores are."""
    plain = query.rules is None and query.allowed is None
    return plain and _places(query, demoted) <= searches[0].depth


def _floor(
    searches: Sequence[_Search],
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    distinct: NDArray[np.bool_],
    total: int,
) -> float:
    """Return the highest score that an item may have which is not among the candidates.

    Args:
        searches: what was searched for the candidates.
        items: (C,) int64, the candidates.
        scores: (C,) float32, their scores without bonuses and votes.
        distinct: (C,) bool, False where there is no candidate, or the same once more.
        total: N.
    """
    floor = NEVER
    for search in searches:
        held = distinct if search.allowed is None else distinct & search.allowed.holds(items)
        found, size = scores[held], total if search.allowed is None else search.allowed.count
        if len(found) < min(search.depth, size):
            return math.inf  # the index has not found so many
        if len(found) < size:
            lowest = float(np.partition(found, -search.depth)[-search.depth])
            floor = max(floor, lowest + search.boost)
    return floor


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
