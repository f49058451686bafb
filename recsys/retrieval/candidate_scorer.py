"""Scores of the candidates of a list, and whether an item that is no candidate may be in it.

The scores are those of the model in float32, then the bonuses of the repeat term and the votes of
session neighbours. An item that was not found has neither, so its score is at most the lowest score
of the model that a search went down to. A list is complete if it ends above that.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import NEVER
from recsys.model.repeats import temperature_of
from recsys.ragged import ScoredRaggedArray
from recsys.retrieval.candidates import Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK, shown_items
from recsys.retrieval.new_items import ItemVectors, PlacedItems

VECTORS_AT_ONCE = 32_768  # copied together to be scored, 16 MB of 128 numbers


@dataclass(frozen=True, slots=True)
class CandidateSearch:
    """Items whose best were searched: every item outside the candidates scores lower.

    `depth` counts the best by the score of the model, before bonuses and boosts.
    """

    depth: int  # sys.maxsize where all items of the set are candidates
    allowed: AllowedItems | None = None  # the set; None for all items
    boost: float = 0.0  # added to the scores of the set, at most


@dataclass(frozen=True, slots=True)
class RankingBatch:
    """Queries that are answered together."""

    vectors: NDArray[np.float32]  # (B, H)
    clicks: Windows
    queries: Sequence[RankingQuery]
    bonuses: Sequence[Mapping[int, float]]  # of the items of each window
    demoted: Sequence[Sequence[int]]  # the items of each window whose bonus is negative
    votes: ScoredRaggedArray | None  # of the neighbours of each window; None without a blend

    def depth(self, row: int) -> int:
        """Return how many of the best items the list of a row may reach down to."""
        query = self.queries[row]
        return query.k + len(query.excluded) + len(self.demoted[row])

    def only(self, rows: Sequence[int]) -> "RankingBatch":
        """Return some of the rows."""
        if len(rows) == len(self.queries):
            return self
        return RankingBatch(
            self.vectors[rows],
            [self.clicks[row] for row in rows],
            [self.queries[row] for row in rows],
            [self.bonuses[row] for row in rows],
            [self.demoted[row] for row in rows],
            None if self.votes is None else self.votes.only(rows),
        )


class CandidateScorer:
    """Scorer of the candidates of one scan: the items that its lists hold, in their order."""

    def __init__(self, exact: ExactScan) -> None:
        """Score as this scan of all items does."""
        self._new = exact.new
        self._vectors = ItemVectors(exact.matrix, exact.bias, exact.new)
        self._blend, self._temperature = exact.blend, temperature_of(exact.repeats)

    def lists(
        self,
        batch: RankingBatch,
        items: NDArray[np.int64],
        searches: Sequence[Sequence[CandidateSearch]],
    ) -> list[TopK | None]:
        """Return the best of the candidates; None where another item might be in a list.

        A row's scores are the same in any batch, so the size of the parts does not matter.

        Args:
            batch: B rows.
            items: (B, C) int64, -1 where there is no candidate.
            searches: what was searched for each row.
        """
        if self._new is not None:
            items = np.concatenate([items, self._new_items(self._new, batch, searches)], axis=1)
        rows = max(VECTORS_AT_ONCE // max(items.shape[1], 1), 1)
        if len(items) <= rows:
            return self._lists_of_part(batch, items, searches)
        parts = [range(at, min(at + rows, len(items))) for at in range(0, len(items), rows)]
        return [
            top_k
            for part in parts
            for top_k in self._lists_of_part(
                batch.only(part), items[part], searches[part.start : part.stop]
            )
        ]

    def _new_items(
        self,
        new: PlacedItems,
        batch: RankingBatch,
        searches: Sequence[Sequence[CandidateSearch]],
    ) -> NDArray[np.int64]:
        """Return the best of the new items, (B, C); with rules, all of them."""
        if any(query.rules is not None for query in batch.queries):
            depth = len(new)
        else:
            depth = max(search.depth for of_row in searches for search in of_row)
        return new.candidates(batch.vectors, [query.allowed for query in batch.queries], depth)

    def _lists_of_part(
        self,
        batch: RankingBatch,
        items: NDArray[np.int64],
        searches: Sequence[Sequence[CandidateSearch]],
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
        taken, biases = self._vectors.take(items)  # (B, C, H) and (B, C)
        scores = np.einsum("bch,bh->bc", taken, batch.vectors)  # no threads, which would only spin
        scores += biases
        if batch.votes is not None:
            self._normalize(scores, shown, batch.votes)
        total, allowed = len(self._vectors), shown
        if any(query.allowed is not None for query in queries):
            allowed = shown.copy()
            for row, query in enumerate(queries):
                if query.allowed is not None:
                    allowed[row] &= query.allowed.holds(items[row])
        floors = [
            NEVER
            if _suffices(done, query, batch.depth(row))
            else _floor(done, query, items[row], scores[row], shown[row], allowed[row], total)
            for row, (done, query) in enumerate(zip(searches, queries, strict=True))
        ]
        if len(entries.item):
            places, flat = entries.places(items, total), scores.ravel()
            with np.errstate(invalid="ignore"):  # a state of NaN
                voted = flat[places[:votes]]
                flat[places[:votes]] = np.logaddexp(voted, entries.value[:votes])
            flat[places[votes:]] += entries.value[votes:]
        for row, query in enumerate(queries):
            if query.excluded:
                allowed[row] &= ~np.isin(items[row], query.excluded)
        scores[~allowed | np.isnan(scores)] = NEVER
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
        shift += (votes.lengths > 0)[:, None] * np.float32(math.log1p(-settings.weight))
        scores += shift


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
        row, column = _places_of(lengths)
        items = np.fromiter(chain.from_iterable(rows), np.int64, len(row))
        values = chain.from_iterable(row.values() for row in rows)
        return cls(lengths, row, column, items, np.fromiter(values, np.float32, len(row)))

    @classmethod
    def of_rows(cls, rows: ScoredRaggedArray) -> "_Entries":
        """Return the entries of these rows."""
        lengths = rows.lengths
        row, column = _places_of(lengths)
        return cls(lengths, row, column, rows.items, rows.scores.astype(np.float32))

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


def _places_of(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of each entry of rows of these lengths, and its place in that row."""
    row = np.arange(len(lengths)).repeat(lengths)
    return row, np.arange(len(row)) - (lengths.cumsum() - lengths)[row]


def _suffices(searches: Sequence[CandidateSearch], query: RankingQuery, depth: int) -> bool:
    """Return whether a list that reaches down to `depth` is complete, whatever the scores are."""
    plain = query.rules is None and query.allowed is None
    return plain and depth <= searches[0].depth


def _floor(
    searches: Sequence[CandidateSearch],
    query: RankingQuery,
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    distinct: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    total: int,
) -> float:
    """Return the highest score that an item may have which is not among the candidates.

    Args:
        searches: what was searched for the candidates.
        query: the query.
        items: (C,) int64, the candidates.
        scores: (C,) float32, their scores without bonuses and votes.
        distinct: (C,) bool, False where there is no candidate, or the same once more.
        allowed: (C,) bool, those of the distinct ones that the query allows.
        total: N.
    """
    floor = NEVER
    for search in searches:
        if search.depth == sys.maxsize:
            continue
        if search.allowed is query.allowed:
            held = allowed
        else:
            held = distinct if search.allowed is None else distinct & search.allowed.holds(items)
        found, size = scores[held], total if search.allowed is None else search.allowed.count
        if len(found) < min(search.depth, size):
            return math.inf  # the index has not found so many
        if len(found) < size:
            lowest = float(np.partition(found, -search.depth)[-search.depth])
            floor = max(floor, lowest + search.boost)
    return floor
