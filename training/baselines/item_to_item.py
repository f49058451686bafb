"""Item-to-item baselines: Markov chain, sequential rules, item-kNN.

All three are one table, last item → items with weights, and differ in which pairs of clicks count
and how much.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.ragged import ScoredRaggedArray, offsets_of, spread, windows_along
from training.baselines.newest import LONGEST_RULE
from training.evaluation.popularity_backoff import PopularityBackoff

DAMPING = 20.0  # λ of item-kNN: rare pairs count less

Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]  # items before, items after


class ItemToItem(PopularityBackoff):
    """Scorer by the table's row of the last known click; items outside the row are last."""

    def __init__(self, catalogue: Catalogue, table: csr_array) -> None:
        """Keep a table as arrays of its rows.

        Args:
            catalogue: The items, N of them.
            table: (N, N) float64, sparse, each entry once.
        """
        super().__init__(catalogue)
        self._after = table.indices.astype(np.int64)
        self._weight = table.data
        self._starts = table.indptr.astype(np.int64)
        smallest = float(self._weight.min()) if len(self._weight) else 1.0
        self._share = min(smallest, 1.0) / 2  # tells equal weights apart and no more

    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        known = windows_along(sessions).known()  # an unknown click changes nothing
        counts = np.zeros(len(known), dtype=np.int64)
        not_empty = np.flatnonzero(known.lengths)
        last = known.items[known.offsets[1:][not_empty] - 1]
        counts[not_empty] = self._starts[last + 1] - self._starts[last]
        at = spread(self._starts[last], counts[not_empty])
        return ScoredRaggedArray(offsets_of(counts), self._after[at], self._weight[at])

    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.full(len(rows), self._share)


def markov(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """Count the items clicked directly after each item: a first-order Markov chain.

    train: items as indices, -1 where unknown.
    """
    return ItemToItem(catalogue, _weighted_sum([_pairs_at(train, 1)], [1.0], len(catalogue)))


def sequential_rules(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """Add 1/d for an item clicked d ≤ 10 clicks after another.

    Kamehkhosh et al., RecTemp 2017 (sequential rules).
    """
    distances = range(1, LONGEST_RULE + 1)
    pairs = [_pairs_at(train, distance) for distance in distances]
    return ItemToItem(catalogue, _weighted_sum(pairs, [1 / d for d in distances], len(catalogue)))


def item_neighbours(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """Weigh items of the same sessions by damped cosine: together / (√(n_a·n_b) + λ), λ = 20.

    Hidasi et al., arXiv:1511.06939, section 4 (item-kNN).
    """
    incidence = _incidence(train, len(catalogue))
    together = (incidence.T @ incidence).tocsr()
    count = together.diagonal()
    together.setdiag(0.0)
    together.eliminate_zeros()
    a, b = together.tocoo().coords
    together.data /= np.sqrt(count[a] * count[b]) + DAMPING
    return ItemToItem(catalogue, together)


def _incidence(train: Sessions, items: int) -> csr_array:
    """Return (sessions, N) float64: 1 where the session holds the item."""
    known = train.items >= 0
    where = train.session_of_click[known], train.items[known]
    incidence = coo_array((np.ones(int(known.sum())), where), shape=(len(train), items)).tocsr()
    incidence.data[:] = 1.0  # an item clicked twice counts once
    return incidence


def _pairs_at(train: Sessions, distance: int) -> Pairs:
    """Return the pairs of known clicks of one session that are `distance` clicks apart."""
    sessions, items = train.session_of_click, train.items
    before, after = items[:-distance], items[distance:]
    both = (sessions[:-distance] == sessions[distance:]) & (before >= 0) & (after >= 0)
    return before[both], after[both]


def _weighted_sum(pairs: Sequence[Pairs], weights: Sequence[float], items: int) -> csr_array:
    """Return (N, N) float64: the weights of all pairs, summed over equal ones."""
    before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
    weight = np.repeat(weights, [len(items_before) for items_before, _ in pairs])
    return coo_array((weight, (before, after)), shape=(items, items)).tocsr()
