"""Simple recommenders that every model must beat, scored by the same evaluator.

All answer `scores_along` like `recsys.predictor.Predictor`: one row of scores for each click but
the last of every session. Equal counts are told apart by popularity, so no two scores tie.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.catalogue import Catalogue


class Popularity:
    """The most clicked items, whatever the session says."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._scores = torch.from_numpy(catalogue.popularity.astype(np.float64))

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        cases = sum(len(session) - 1 for session in sessions)
        return self._scores.expand(cases, -1)


class SessionPopularity:
    """The items clicked most in this session so far, then the popular ones."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._popularity = Popularity(catalogue)

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        scores = self._popularity.scores_along(sessions).clone()
        case = 0
        for session in sessions:
            for click, item in enumerate(session[:-1].tolist()):
                if item >= 0:  # counts in every later case of its session
                    scores[case + click : case + len(session) - 1, item] += 1.0
            case += len(session) - 1
        return scores


class Markov:
    """The items that followed the last click most often in training, then the popular ones."""

    def __init__(self, catalogue: Catalogue, train: Sessions) -> None:
        """train: items as indices of the catalogue, -1 where it lacks one."""
        self._popularity = Popularity(catalogue)
        inside = np.ones(len(train.items), dtype=bool)
        inside[train.offsets[1:] - 1] = False  # a session's last click is followed by nothing
        before = train.items[np.flatnonzero(inside)].astype(np.int64)
        after = train.items[np.flatnonzero(inside) + 1].astype(np.int64)
        both = (before >= 0) & (after >= 0)
        pairs, times = np.unique(before[both] * len(catalogue) + after[both], return_counts=True)
        self._after = torch.from_numpy(pairs % len(catalogue))
        self._times = torch.from_numpy(times.astype(np.float64))
        self._starts = np.searchsorted(pairs // len(catalogue), np.arange(len(catalogue) + 1))

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        scores = self._popularity.scores_along(sessions).clone()
        case = 0
        for session in sessions:
            last = -1
            for item in session[:-1].tolist():
                last = item if item >= 0 else last  # an unknown click moves nothing
                if last >= 0:
                    chosen = slice(self._starts[last], self._starts[last + 1])
                    scores[case, self._after[chosen]] += self._times[chosen]
                case += 1
        return scores
