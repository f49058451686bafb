"""What followed the last click in training: Markov, sequential rules, item-to-item neighbours.

All three are one table, last item → items with weights, and differ in which pairs of clicks count
and how much. Sources: sequential rules, Kamehkhosh et al., RecTemp 2017; item neighbours by cosine
of the sessions they appear in, Hidasi et al., arXiv:1511.06939, section 4 (item-KNN, λ = 20).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.ragged import ScoredRaggedArray, offsets_of, spread, windows_along
from training.evaluation.popularity_backoff import PopularityBackoff

RULE_REACH = 10  # clicks between the two ends of a sequential rule, at most
DAMPING = 20.0  # item-KNN's λ: pairs seen seldom count less

Ends = tuple[NDArray[np.int32], NDArray[np.int32]]  # before, after


class ItemToItem(PopularityBackoff):
    """Scores of the last known click's row; what the row lacks stands behind, by popularity."""

    def __init__(self, catalogue: Catalogue, table: csr_array) -> None:
        """table: (N, N) float64, sparse, each entry once."""
        super().__init__(catalogue)
        self._after = table.indices.astype(np.int64)
        self._weight = table.data
        self._starts = table.indptr.astype(np.int64)
        smallest = float(self._weight.min()) if len(self._weight) else 1.0
        self._share = min(smallest, 1.0) / 2  # tells equal weights apart and no more

    def rows_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        known = windows_along(sessions).known()  # an unknown click moves nothing
        counts = np.zeros(len(known), dtype=np.int64)
        some = np.flatnonzero(known.lengths)
        last = known.items[known.offsets[1:][some] - 1]
        counts[some] = self._starts[last + 1] - self._starts[last]
        at = spread(self._starts[last], counts[some])
        return ScoredRaggedArray(offsets_of(counts), self._after[at], self._weight[at])

    def behind(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.full(len(rows), self._share)


def markov(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """Counts of what came directly after; train: items as indices, -1 where unknown."""
    return ItemToItem(catalogue, _added([_ends_at(train, 1)], [1.0], len(catalogue)))


def sequential_rules(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """What came up to ten clicks after, the d-th counting 1/d."""
    distances = range(1, RULE_REACH + 1)
    ends = [_ends_at(train, distance) for distance in distances]
    return ItemToItem(catalogue, _added(ends, [1 / d for d in distances], len(catalogue)))


def item_neighbours(catalogue: Catalogue, train: Sessions) -> ItemToItem:
    """Items in the same sessions, by damped cosine: together / (√(n_a·n_b) + λ)."""
    held = _holdings(train, len(catalogue))
    together = (held.T @ held).tocsr()
    count = together.diagonal()
    together.setdiag(0.0)
    together.eliminate_zeros()
    a, b = together.tocoo().coords
    together.data /= np.sqrt(count[a] * count[b]) + DAMPING
    return ItemToItem(catalogue, together)


def _holdings(train: Sessions, items: int) -> csr_array:
    """(sessions, N) float64: 1 where the session holds the item."""
    known = train.items >= 0
    where = train.session_of_click[known], train.items[known]
    held = coo_array((np.ones(int(known.sum())), where), shape=(len(train), items)).tocsr()
    held.data[:] = 1.0  # clicked twice is held once
    return held


def _ends_at(train: Sessions, distance: int) -> Ends:
    """Known clicks of one session that many clicks apart."""
    sessions, items = train.session_of_click, train.items
    before, after = items[:-distance], items[distance:]
    both = (sessions[:-distance] == sessions[distance:]) & (before >= 0) & (after >= 0)
    return before[both], after[both]


def _added(ends: Sequence[Ends], weights: Sequence[float], items: int) -> csr_array:
    """(N, N) float64: the weights of all pairs, summed over equal ones."""
    before, after = (np.concatenate(side) for side in zip(*ends, strict=True))
    weight = np.repeat(weights, [len(pair[0]) for pair in ends])
    return coo_array((weight, (before, after)), shape=(items, items)).tocsr()
