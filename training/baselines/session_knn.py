"""V-SKNN and VSTAN as baselines, and the index of training sessions that they need."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.index import NeighbourIndex
from recsys.neighbours.scoring import VSKNN, NeighbourSettings, SessionNeighbours
from recsys.ragged import ScoredRaggedArray, offsets_of, spread, windows_along
from training.evaluation.popularity_backoff import PopularityBackoff

DAY_MS = 86_400_000
MAX_CLICKS = 500  # the last clicks of a training session are kept, so that no session is costly
BACKOFF_SHARE = 1e-3  # of popularity: it orders the items without a score and decides nothing else


class NeighbourBaseline(PopularityBackoff):
    """V-SKNN or VSTAN on its own; items of no neighbour follow, by popularity."""

    def __init__(
        self, catalogue: Catalogue, train: Sessions, settings: NeighbourSettings = VSKNN
    ) -> None:
        """Build the index.

        Args:
            catalogue: N items.
            train: sessions by start, items as catalogue indices, -1 where it lacks one.
            settings: V-SKNN or VSTAN.
        """
        super().__init__(catalogue)
        index = build_neighbour_index(train, len(catalogue), settings.candidates)
        self._neighbours = SessionNeighbours(index, settings)

    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        return self._neighbours.score(windows_along(sessions))

    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        found = np.flatnonzero(rows.lengths)
        share = np.ones(len(rows))
        if len(found):
            share[found] = BACKOFF_SHARE * np.minimum.reduceat(rows.scores, rows.offsets[found])
        return share


def build_neighbour_index(train: Sessions, items: int, candidates: int) -> NeighbourIndex:
    """Build the index of each item's newest sessions.

    Args:
        train: sessions by start, items as indices below `items`; clicks of -1 are dropped.
        items: N of the catalogue.
        candidates: sessions of an item, at most.

    Returns:
        The index; it holds the sessions that are among the newest of at least one item.
    """
    known = (train.items >= 0) & (_clicks_to_go(train) <= MAX_CLICKS)
    clicks = train.items[known].astype(np.int64)
    session = train.session_of_click[known]
    lengths = np.bincount(session, minlength=len(train))
    place = np.arange(len(session)) - offsets_of(lengths)[session]
    item, holder, last = _holders(clicks, session, place, len(train))
    support = np.bincount(item, minlength=items)
    within = np.arange(len(item)) - offsets_of(support)[item]
    newest = within < candidates
    item, holder, last = item[newest], holder[newest], last[newest]
    kept = np.flatnonzero(np.bincount(holder, minlength=len(train)))
    number = np.zeros(len(train), dtype=np.int64)
    number[kept] = np.arange(len(kept))
    age = (train.time_ms.max() - train.time_ms[train.offsets[1:] - 1]) / DAY_MS
    held = spread(offsets_of(lengths)[kept], lengths[kept])
    assert len(clicks) < 2**31, "positions of clicks are int32"
    return NeighbourIndex(
        starts=offsets_of(np.bincount(item, minlength=items)).astype(np.int32),
        holders=number[holder].astype(np.int32),
        places=last.astype(np.int32),
        offsets=offsets_of(lengths[kept]).astype(np.int32),
        clicks=clicks[held].astype(np.int32),
        age_days=age[kept].astype(np.float32),
        rarity=np.log(len(train) / np.maximum(support, 1)).astype(np.float32),
    )


def _clicks_to_go(train: Sessions) -> NDArray[np.int64]:
    """Return 1 for a session's last click, 2 for the click before it, and so on."""
    return np.repeat(train.offsets[1:], train.lengths) - np.arange(len(train.items))


def _holders(
    clicks: NDArray[np.int64], session: NDArray[np.int64], place: NDArray[np.int64], sessions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of item and session, newest session first, with the item's last position."""
    key = clicks * sessions + (sessions - 1 - session)
    order = np.lexsort((-place, key))
    kept = order[np.flatnonzero(np.diff(key[order], prepend=-1))]
    return clicks[kept], session[kept], place[kept]
