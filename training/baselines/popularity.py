"""Baselines by popularity: in all of training, in its newest sessions, in the running session."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.ragged import ScoredRaggedArray, windows_along
from training.evaluation.popularity_backoff import PopularityBackoff, rows_of_keys

RECENT_SHARE = 0.05  # of the training sessions, the newest


class Popularity(PopularityBackoff):
    """Scorer by the clicks in training, whatever the session holds."""

    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        cases = sum(len(session) - 1 for session in sessions)
        nothing = np.zeros(0, dtype=np.int64)
        return ScoredRaggedArray(np.zeros(cases + 1, dtype=np.int64), nothing, np.zeros(0))

    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.ones(len(rows))


class SessionPopularity(PopularityBackoff):
    """Scorer by the clicks in the session so far; the items without any are last."""

    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        known, items = windows_along(sessions).known(), len(self._popularity)
        keys, counts = np.unique(known.row_of_entry * items + known.items, return_counts=True)
        return rows_of_keys(keys, counts.astype(np.float64), len(known), items)

    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.ones(len(rows))


def recent_popularity(catalogue: Catalogue, train: Sessions | Selection) -> Popularity:
    """Count the clicks of the newest training sessions; train: items as indices."""
    selection, counts = Selection.of(train), np.zeros(len(catalogue), dtype=np.int64)
    for part in selection.parts(math.ceil(len(selection.log) * (1 - RECENT_SHARE))):
        counts += np.bincount(part.items[part.items >= 0], minlength=len(catalogue))
    return Popularity(Catalogue(catalogue.item_ids, counts))
