"""Session neighbours: V-SKNN and VSTAN, the strongest methods without learning.

The running session is compared with the most recent training sessions that share an item; items of
the most similar ones are scored. Sources: Ludewig and Jannach, UMUAI 2018 (V-SKNN); Garg et al.,
SIGIR 2019 (STAN: three exponential decays); Ludewig et al., UMUAI 2021 (VSTAN: both joined, with
inverse item frequency).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.catalogue import Catalogue

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """V-SKNN where the decays are None; VSTAN with them."""

    neighbours: int = 500  # most similar sessions that are asked
    candidates: int = 2500  # most recent sessions that are compared
    click_decay: float | None = None  # clicks back in the running session until a weight of 1/e
    age_decay_days: float | None = None  # age of a neighbour until a weight of 1/e
    distance_decay: float | None = None  # clicks from the shared item until a weight of 1/e
    idf: float = 1.0  # strength of the inverse item frequency


VSKNN = NeighbourSettings()
VSTAN = NeighbourSettings(click_decay=2.0, age_decay_days=60.0, distance_decay=3.0)


class SessionNeighbours:
    """Scores for each click but the last of every session, from the sessions most like it."""

    def __init__(
        self, catalogue: Catalogue, train: Sessions, settings: NeighbourSettings = VSKNN
    ) -> None:
        """train: items as indices of the catalogue, -1 where it lacks one; sessions by start."""
        self._settings = settings
        self._items = len(catalogue)
        known = train.items >= 0
        self._clicks = train.items[known].astype(np.int64)
        session = train.session_of_click[known]
        self._lengths = np.bincount(session, minlength=len(train))
        self._offsets = np.cumsum(self._lengths) - self._lengths
        self._place = np.arange(len(session)) - self._offsets[session]
        age = (train.time_ms.max() - train.time_ms[train.offsets[1:] - 1]) / DAY_MS
        decay = settings.age_decay_days
        self._freshness = np.ones(len(train)) if decay is None else np.exp(-age / decay)
        self._index(session, len(train))
        support = np.maximum(np.diff(self._starts), 1)
        self._idf = 1.0 + settings.idf * np.log(len(train) / support)
        self._popularity = catalogue.popularity.astype(np.float64)
        self._similarity = np.zeros(len(train))  # scratch, all zero between two cases
        self._shared = np.zeros(len(train), dtype=np.int64)
        self._latest = np.zeros(len(train))

    def _index(self, session: NDArray[np.int64], sessions: int) -> None:
        """For each item the sessions that hold it, newest first, and where it stands there last."""
        key = self._clicks * sessions + (sessions - 1 - session)
        order = np.lexsort((-self._place, key))
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.diff(key[order]) > 0
        kept = order[first]
        self._sessions, self._places = session[kept], self._place[kept]
        self._starts = np.searchsorted(self._clicks[kept], np.arange(self._items + 1))

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        rows = [
            self._scores(session[: click + 1])
            for session in sessions
            for click in range(len(session) - 1)
        ]
        return torch.from_numpy(np.stack(rows))

    def _scores(self, clicks: NDArray[np.int32]) -> NDArray[np.float64]:
        """Neighbours' items by weight; what no neighbour has stands behind, by popularity."""
        found = self._candidates(self._weights(clicks))
        if not len(found):
            return self._popularity
        similarity = self._similarity[found] * self._latest[found] * self._freshness[found]
        self._similarity[found] = 0.0
        if len(found) > self._settings.neighbours:
            best = np.argpartition(-similarity, self._settings.neighbours)
            best = best[: self._settings.neighbours]
            found, similarity = found[best], similarity[best]
        counts = self._lengths[found]
        at = np.repeat(self._offsets[found] - np.cumsum(counts) + counts, counts)
        at += np.arange(len(at))
        votes = np.repeat(similarity, counts)
        if self._settings.distance_decay is not None:
            distance = np.abs(self._place[at] - np.repeat(self._shared[found], counts))
            votes *= np.exp(-distance / self._settings.distance_decay)
        voted = self._clicks[at]
        counted = np.bincount(voted, votes * self._idf[voted], minlength=self._items)
        scores = np.asarray(counted, dtype=np.float64)
        return scores + self._popularity * float(votes.min()) * 1e-3

    def _weights(self, clicks: NDArray[np.int32]) -> dict[int, float]:
        """Distinct known items, latest first, and how much their recency counts."""
        weights: dict[int, float] = {}
        decay, length = self._settings.click_decay, len(clicks)
        for back, item in enumerate(clicks[::-1].tolist()):
            if item >= 0 and item not in weights:
                weights[item] = 1 - back / length if decay is None else math.exp(-back / decay)
        return weights

    def _candidates(self, weights: dict[int, float]) -> NDArray[np.int64]:
        """Sessions that share an item, the newest ones; fills the scratch arrays for them."""
        parts = []
        for item, weight in weights.items():
            row = slice(
                self._starts[item],
                min(self._starts[item + 1], self._starts[item] + self._settings.candidates),
            )
            sessions, places = self._sessions[row], self._places[row]
            new = self._similarity[sessions] == 0.0
            self._shared[sessions[new]] = places[new]
            self._latest[sessions[new]] = weight
            self._similarity[sessions] += weight
            parts.append(sessions[new])
        found = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        if len(found) > self._settings.candidates:
            newest = np.argpartition(-found, self._settings.candidates)
            self._similarity[found[newest[self._settings.candidates :]]] = 0.0
            found = found[newest[: self._settings.candidates]]
        return found
