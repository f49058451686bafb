"""What followed the last click in training: Markov, sequential rules, item-to-item neighbours.

All three are one table, last item → items with weights, and differ in which pairs of clicks count
and how much. Sources: sequential rules, Kamehkhosh et al., RecTemp 2017; item neighbours by cosine
of the sessions they appear in, Hidasi et al., arXiv:1511.06939, section 4 (item-KNN, λ = 20).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions
from recsys.catalogue import Catalogue
from recsys.ragged import ScoredRows, offsets_of, spread, windows_along
from training.above_popularity import AbovePopularity

RULE_REACH = 10  # clicks between the two ends of a sequential rule, at most
DAMPING = 20.0  # item-KNN's λ: pairs seen seldom count less

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]  # before, after, weight


class AfterLast(AbovePopularity):
    """Scores of the last known click's row; what the row lacks stands behind, by popularity."""

    def __init__(self, catalogue: Catalogue, pairs: Pairs) -> None:
        super().__init__(catalogue)
        before, after, weight = pairs
        items = len(catalogue)
        keys, place = np.unique(before * items + after, return_inverse=True)
        self._after = keys % items
        self._weight = np.asarray(np.bincount(place, weight, minlength=len(keys)), np.float64)
        self._starts = np.searchsorted(keys // items, np.arange(items + 1))
        smallest = float(self._weight.min()) if len(keys) else 1.0
        self._share = min(smallest, 1.0) / 2  # tells equal weights apart and no more

    def rows_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRows:
        known = windows_along(sessions).known()  # an unknown click moves nothing
        counts = np.zeros(len(known), dtype=np.int64)
        some = np.flatnonzero(known.lengths)
        last = known.items[known.offsets[1:][some] - 1]
        counts[some] = self._starts[last + 1] - self._starts[last]
        at = spread(self._starts[last], counts[some])
        return ScoredRows(offsets_of(counts), self._after[at], self._weight[at])

    def behind(self, rows: ScoredRows) -> NDArray[np.float64]:
        return np.full(len(rows), self._share)


def markov(catalogue: Catalogue, train: Sessions) -> AfterLast:
    """Counts of what came directly after; train: items as indices, -1 where unknown."""
    return AfterLast(catalogue, _joined(_pairs_at(train, [1])))


def sequential_rules(catalogue: Catalogue, train: Sessions) -> AfterLast:
    """What came up to ten clicks after, the d-th counting 1/d."""
    return AfterLast(catalogue, _joined(_pairs_at(train, range(1, RULE_REACH + 1))))


def item_neighbours(catalogue: Catalogue, train: Sessions) -> AfterLast:
    """Items in the same sessions, by damped cosine: together / (√(n_a·n_b) + λ)."""
    sessions, items = train.session_of_click, train.items.astype(np.int64)
    known = items >= 0
    once = np.unique(sessions[known] * len(catalogue) + items[known])
    session, item = np.divmod(once, len(catalogue))
    count = np.bincount(item, minlength=len(catalogue)).astype(np.float64)
    distinct = np.bincount(session, minlength=len(train))
    within = np.arange(len(item)) - np.repeat(np.cumsum(distinct) - distinct, distinct)
    before, after = [], []
    for distance in range(1, int(distinct.max())):
        first = np.flatnonzero(within[distance:] >= distance)
        before += [item[first], item[first + distance]]
        after += [item[first + distance], item[first]]
    a, b = np.concatenate(before), np.concatenate(after)
    return AfterLast(catalogue, (a, b, 1 / (np.sqrt(count[a] * count[b]) + DAMPING)))


def _pairs_at(train: Sessions, distances: Sequence[int]) -> Iterator[Pairs]:
    """Pairs of known clicks of one session that many clicks apart, each weighing 1/distance."""
    sessions, items = train.session_of_click, train.items.astype(np.int64)
    for distance in distances:
        before, after = items[:-distance], items[distance:]
        both = (sessions[:-distance] == sessions[distance:]) & (before >= 0) & (after >= 0)
        yield before[both], after[both], np.full(int(both.sum()), 1 / distance)


def _joined(parts: Iterator[Pairs]) -> Pairs:
    before, after, weight = zip(*parts, strict=True)
    return np.concatenate(before), np.concatenate(after), np.concatenate(weight)
