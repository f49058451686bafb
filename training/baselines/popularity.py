"""Simple recommenders that every model must beat, scored by the same evaluator.

All answer `scores_along` like `recsys.predictor.Predictor`: one row of scores for each click but
the last of every session. Equal counts are told apart by popularity, so no two scores tie.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.scoring import VSKNN, VSTAN
from recsys.ragged import ScoredRaggedArray, windows_along
from training.baselines.item_to_item import item_neighbours, markov, sequential_rules
from training.baselines.session_knn import NeighbourBaseline
from training.evaluation.evaluate import Scorer
from training.evaluation.popularity_backoff import PopularityBackoff, rows_of_keys

RECENT_SHARE = 0.05  # of the training sessions, the newest


class Popularity(PopularityBackoff):
    """The most clicked items, whatever the session says."""

    def rows_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        cases = sum(len(session) - 1 for session in sessions)
        nothing = np.zeros(0, dtype=np.int64)
        return ScoredRaggedArray(np.zeros(cases + 1, dtype=np.int64), nothing, np.zeros(0))

    def behind(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.ones(len(rows))


class SessionPopularity(PopularityBackoff):
    """The items clicked most in this session so far, then the popular ones."""

    def rows_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        known, items = windows_along(sessions).known(), len(self._popularity)
        keys, counts = np.unique(known.row_of_entry * items + known.items, return_counts=True)
        return rows_of_keys(keys, counts.astype(np.float64), len(known), items)

    def behind(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.ones(len(rows))


def recent_popularity(catalogue: Catalogue, train: Sessions) -> Popularity:
    """The most clicked items of the newest training sessions; train: items as indices."""
    newest = np.arange(len(train)) >= len(train) * (1 - RECENT_SHARE)
    items = train.items[np.repeat(newest, train.lengths)]
    counts = np.bincount(items[items >= 0], minlength=len(catalogue)).astype(np.int64)
    return Popularity(Catalogue(catalogue.item_ids, counts))


def baselines(catalogue: Catalogue, train: Sessions) -> dict[str, Scorer]:
    """All of them by name, learned from sessions in the catalogue's indices (-1: unknown)."""
    return {
        "popularity": Popularity(catalogue),
        "recent popularity": recent_popularity(catalogue, train),
        "session popularity": SessionPopularity(catalogue),
        "markov": markov(catalogue, train),
        "sequential rules": sequential_rules(catalogue, train),
        "item-knn": item_neighbours(catalogue, train),
        "v-sknn": NeighbourBaseline(catalogue, train, VSKNN),
        "vstan": NeighbourBaseline(catalogue, train, VSTAN),
    }
