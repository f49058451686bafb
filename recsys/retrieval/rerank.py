"""Top-k retrieval by an index: take its candidates and score them again in float32.

The index finds candidates among all items. Where that is not enough, as for a narrow filter, a long
list or a rule, a scan of the allowed items in 8 bits finds them (`recsys/retrieval/item_scan.py`).
The items of the session and of its neighbours are candidates, too, because a repeat term and a
blend change their scores. So are the best of the raised items, whose biases are higher than in the
index. No item of the true list is missed by that: raised items only move up, so of the others, the
list has none that is not among the best of the index's biases. The scores are computed in
`recsys/retrieval/candidate_scorer.py`.
"""

import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.gru4rec import MIN_LENGTH
from recsys.model.ranking import NEVER
from recsys.ragged import rows_of
from recsys.retrieval.candidate_scorer import CandidateScorer, CandidateSearch, RankingBatch
from recsys.retrieval.candidates import CandidateIndex, Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.new_items import trained_only
from recsys.retrieval.rules import RankingRules

FEW_ALLOWED = 5_000  # so few allowed items are all scored, without index and scan
WIDE_SHARE = 0.25  # of the items: where so many are allowed, the index may find enough of them
COUNT_STEP = 10  # of the number of candidates


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
        self._scorer, self._blend = CandidateScorer(exact), exact.blend
        self._least_count = 0 if exact.blend is None else exact.blend.settings.normalizing
        self._raised = exact.raised
        raised_rows = exact.matrix[torch.from_numpy(exact.raised)]
        self._raised_matrix = raised_rows.t().contiguous()  # (H, raised): a third of the time
        self._raised_bias = exact.bias[torch.from_numpy(exact.raised)]

    def top_k(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> list[TopK]:
        """Return a list for each hidden state; see `Retrieval.top_k`."""
        batch = self._batch(hidden, clicks, queries)
        lists = self._quick(batch)
        missing = [at for at, top_k in enumerate(lists) if top_k is None and batch.clicks[at]]
        if missing:
            for at, top_k in zip(missing, self._by_scan(batch.only(missing)), strict=True):
                lists[at] = top_k
        rest = [at for at, top_k in enumerate(lists) if top_k is None]
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

    def _batch(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> RankingBatch:
        bonuses = [self._bonuses(window) for window in clicks]
        demoted = [[item for item, bonus in row.items() if bonus < 0] for row in bonuses]
        known = trained_only(clicks, self._exact.new)
        votes = None if self._blend is None else self._blend.votes(rows_of(known))
        vectors = query_vectors(hidden, self._scale)
        return RankingBatch(vectors, self._readable(known), queries, bonuses, demoted, votes)

    def _readable(self, clicks: Windows) -> Windows:
        """Return windows that the index can read: without new items.

        A window that ends with one is empty: the last clicks say what an index of lists may find.
        """
        if self._exact.new is None:
            return clicks
        reads_clicks = self._index.settings.probes > 0
        return [
            [] if reads_clicks and window[-1] < 0 else [item for item in window if item >= 0]
            for window in clicks
        ]

    def over(self, exact: ExactScan) -> "Reranked":
        """Return the same index with another scan; see `Retrieval.over`.

        The new items of the scan are candidates beside those of the index.
        """
        return Reranked(self._index, exact, self._scale, self._scan, self._few_allowed)

    def _bonuses(self, window: Sequence[int]) -> Mapping[int, float]:
        repeats = self._exact.repeats
        return {} if repeats is None else repeats.bonuses(window)

    def _quick(self, batch: RankingBatch) -> list[TopK | None]:
        """Return the lists whose items the index finds, or whose filter leaves few items."""
        lists: list[TopK | None] = [None] * len(batch.queries)
        for count, rows in self._rows_by_count(batch).items():
            some = batch.only(rows)
            items = self._of_index(some, count)
            searches = [[CandidateSearch(min(self._index.max_k, count))]] * len(rows)
            for at, top_k in zip(rows, self._scorer.lists(some, items, searches), strict=True):
                lists[at] = top_k
        short = [
            at for at, found in enumerate(lists) if found is None and self._is_short(batch, at)
        ]
        if short:
            for at, top_k in zip(short, self._of_allowed(batch.only(short)), strict=True):
                lists[at] = top_k
        return lists

    def _is_short(self, batch: RankingBatch, at: int) -> bool:
        """Return whether the best of the allowed items of a row are soon found."""
        query = batch.queries[at]
        if query.allowed is None or query.rules is not None or not batch.clicks[at]:
            return False
        if query.allowed.count <= self._few_allowed:
            return True
        return self._scan is not None and self._scan.is_short(self._trained(query.allowed))

    def _trained(self, allowed: AllowedItems) -> AllowedItems:
        """Return the allowed items without new ones, which the scan does not have."""
        return allowed.first(len(self._exact.matrix))

    def _rows_by_count(self, batch: RankingBatch) -> dict[int, list[int]]:
        """Return candidate count → the rows whose lists the index may find from so many."""
        rows: dict[int, list[int]] = {}
        for at, query in enumerate(batch.queries):
            readable = bool(batch.clicks[at]) and self._index_may_find(query.k, query.allowed)
            if query.rules is None and readable:
                # the count can change which items are found: it depends on the own query alone
                count = max(_steps(batch.depth(at), query.allowed), self._least_count)
                rows.setdefault(count, []).append(at)
        return rows

    def _index_may_find(self, depth: int, allowed: AllowedItems | None) -> bool:
        """Return whether so many allowed items are likely among the best `max_k` of all items."""
        if allowed is None:
            return depth <= self._index.max_k
        return allowed.share >= WIDE_SHARE and depth <= allowed.share * self._index.max_k

    def _by_scan(self, batch: RankingBatch) -> list[TopK | None]:
        """Return the lists from the best of the allowed items, None where that is not possible."""
        lists: list[TopK | None] = [None] * len(batch.queries)
        plain = [at for at, query in enumerate(batch.queries) if query.rules is None]
        for at, top_k in zip(plain, self._of_allowed(batch.only(plain)), strict=True):
            lists[at] = top_k
        for at, query in enumerate(batch.queries):
            if query.rules is not None:
                lists[at] = self._by_rules(batch.only([at]), query.rules)
        return lists

    def _of_allowed(self, batch: RankingBatch) -> list[TopK | None]:
        """Return the lists without rules, from the best of the items that each allows."""
        searches = [
            [CandidateSearch(batch.depth(row), query.allowed)]
            for row, query in enumerate(batch.queries)
        ]
        return self._best_of(batch, searches)

    def _by_rules(self, row: RankingBatch, rules: RankingRules) -> TopK | None:
        """Return the list of a batch of one; None where its items may be anywhere."""
        query = row.queries[0]
        sets, by_index = rules.sets(query.allowed), True
        for depth in rules.depths(row.depth(0)) if sets else ():
            searches = [CandidateSearch(depth, items, boost) for items, boost in sets]
            (top_k,) = self._best_of(row, [searches], by_index)
            if top_k is not None:
                return top_k
            by_index = False
        return None

    def _best_of(
        self,
        batch: RankingBatch,
        searches: Sequence[Sequence[CandidateSearch]],
        by_index: bool = False,
    ) -> list[TopK | None]:
        """Return the lists from the best items of some searches; None where these do not do.

        Args:
            batch: B rows.
            searches: those of each row.
            by_index: the index may search instead of the scan, where it is likely to find enough.
        """
        if not searches:
            return []
        parts: list[list[NDArray[np.int64]]] = [[] for _ in searches]
        done: list[list[CandidateSearch]] = [[] for _ in searches]
        to_scan: list[tuple[int, CandidateSearch]] = []  # with the row
        for row, of_row in enumerate(searches):
            for search in of_row:
                found = self._without_scan(batch, row, search, by_index)
                if found is None:
                    to_scan.append((row, search))
                else:
                    parts[row].append(found[0])
                    done[row].append(found[1])
        failed = set()
        for (row, search), items in zip(to_scan, self._scanned(batch, to_scan), strict=True):
            if items is None:
                failed.add(row)
            else:
                parts[row].append(items)
                done[row].append(search)
        for part, query in zip(parts, batch.queries, strict=True):
            if query.rules is not None:
                part.append(np.array(query.rules.pinned, dtype=np.int64))
        if self._blend is not None:  # its softmax is over the best of all items
            for part, items in zip(parts, self._of_index(batch, self._least_count), strict=True):
                part.append(items)
        lists: list[TopK | None] = [None] * len(searches)
        joined = {row: np.concatenate(part) for row, part in enumerate(parts) if row not in failed}
        for rows in _alike_in_size(joined):
            items = _filled([joined[row] for row in rows])
            scored = self._scorer.lists(batch.only(rows), items, [done[row] for row in rows])
            for row, top_k in zip(rows, scored, strict=True):
                lists[row] = top_k
        return lists

    def _without_scan(
        self, batch: RankingBatch, row: int, search: CandidateSearch, by_index: bool
    ) -> tuple[NDArray[np.int64], CandidateSearch] | None:
        """Return candidates of a row, (C,), and what was searched; None where a scan has to."""
        allowed, index = search.allowed, self._index
        if allowed is not None and allowed.count <= max(self._few_allowed, search.depth):
            return allowed.indices.astype(np.int64), CandidateSearch(sys.maxsize, allowed)
        if by_index and self._index_may_find(search.depth, allowed):
            depth = min(index.max_k, _steps(search.depth, allowed))
            (items,) = self._of_index(batch.only([row]), depth)
            return items, CandidateSearch(depth, None, search.boost)
        return None

    def _scanned(
        self, batch: RankingBatch, searches: Sequence[tuple[int, CandidateSearch]]
    ) -> Sequence[NDArray[np.int64] | None]:
        """Return the candidates of a scan for searches of some rows, None where it gives up."""
        if self._scan is None or not searches:
            return [None] * len(searches)
        vectors = batch.vectors[[row for row, _ in searches]]
        depths = [search.depth for _, search in searches]
        sets = [search.allowed for _, search in searches]
        trained = [None if allowed is None else self._trained(allowed) for allowed in sets]
        scanned = self._scan.best(vectors, depths, trained)
        if not len(self._raised):
            return scanned
        return [
            None
            if items is None
            else np.append(items, self._best_raised(vectors[[at]], depths[at], sets[at])[0])
            for at, items in enumerate(scanned)
        ]

    def _of_index(self, batch: RankingBatch, count: int) -> NDArray[np.int64]:
        """Return the index's candidates and the best of the raised items, (B, C) int64."""
        items = self._index.candidates(batch.vectors, batch.clicks, count)
        if not len(self._raised):
            return items
        return np.concatenate([items, self._best_raised(batch.vectors, count)], axis=1)

    def _best_raised(
        self, vectors: NDArray[np.float32], count: int, allowed: AllowedItems | None = None
    ) -> NDArray[np.int64]:
        """Return the `count` best of the raised and allowed items, (B, C); vectors: (B, H)."""
        scores = torch.addmm(self._raised_bias, torch.from_numpy(vectors), self._raised_matrix)
        if allowed is not None:
            scores[:, torch.from_numpy(~allowed.holds(self._raised))] = NEVER
        best = torch.topk(scores, min(count, len(self._raised)), sorted=False)[1].numpy()
        raised: NDArray[np.int64] = self._raised[best]
        return raised


def _steps(places: int, allowed: AllowedItems | None) -> int:
    """Return the candidates for so many places, more where only a part of the items is allowed.

    They come in steps, so that rows share a call.
    """
    wanted = float(places) if allowed is None else 1.5 * places / allowed.share + COUNT_STEP
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


def _alike_in_size(parts: Mapping[int, NDArray[np.int64]]) -> list[list[int]]:
    """Return rows, in their order, together where one has at most twice as many items."""
    alike: dict[int, list[int]] = {}
    for row, items in parts.items():
        alike.setdefault(len(items).bit_length(), []).append(row)
    return list(alike.values())


def _filled(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return (B, C) int64, these rows filled up with -1."""
    filled = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for whole, row in zip(filled, rows, strict=True):
        whole[: len(row)] = row
    return filled
