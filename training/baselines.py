"""Simple recommenders that every model must beat, scored by the same evaluator.

All answer `scores_along` like `recsys.predictor.Predictor`: one row of scores for each click but
the last of every session. Equal counts are told apart by popularity, so no two scores tie.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.catalogue import Catalogue
from training.evaluate import Scorer
from training.neighbours import VSKNN, VSTAN, SessionNeighbours
from training.rules import item_neighbours, markov, sequential_rules

RECENT_SHARE = 0.05  # of the training sessions, the newest


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


def recent_popularity(catalogue: Catalogue, train: Sessions) -> Popularity:
    """The most clicked items of the newest training sessions; train: items as indices."""
    newest = np.arange(len(train)) >= len(train) * (1 - RECENT_SHARE)
    items = train.items[np.repeat(newest, train.lengths)]
    counts = np.bincount(items[items >= 0], minlength=len(catalogue)).astype(np.int64)
    return Popularity(dataclasses.replace(catalogue, counts=counts))


def baselines(catalogue: Catalogue, train: Sessions) -> dict[str, Scorer]:
    """All of them by name, learned from sessions in the catalogue's indices (-1: unknown)."""
    return {
        "popularity": Popularity(catalogue),
        "recent popularity": recent_popularity(catalogue, train),
        "session popularity": SessionPopularity(catalogue),
        "markov": markov(catalogue, train),
        "sequential rules": sequential_rules(catalogue, train),
        "item-knn": item_neighbours(catalogue, train),
        "v-sknn": SessionNeighbours(catalogue, train, VSKNN),
        "vstan": SessionNeighbours(catalogue, train, VSTAN),
    }
