"""Baselines: the recommenders that a model is compared with, learned from the same sessions.

Each answers `scores_along` as `recsys.predictor.Predictor` does: one row of scores for each click
but the last of every session. Popularity tells equal scores apart, so no two scores tie.
"""

from collections.abc import Callable

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.scoring import VSKNN, VSTAN
from training.baselines.item_to_item import item_neighbours, markov, sequential_rules
from training.baselines.newest import newest_for
from training.baselines.popularity import Popularity, SessionPopularity, recent_popularity
from training.baselines.session_knn import NeighbourBaseline
from training.evaluation.evaluate import Scorer


def baselines(catalogue: Catalogue, train: Sessions | Selection) -> dict[str, Scorer]:
    """Return every baseline by the name that reports and manifests show.

    Args:
        catalogue: The model's items, with their training clicks.
        train: Sessions in the catalogue's indices (-1: unknown), in order of their start; of very
            many, the newest are learned from.
    """
    return {name: learn() for name, learn in learners(catalogue, train).items()}


def learners(catalogue: Catalogue, train: Sessions | Selection) -> dict[str, Callable[[], Scorer]]:
    """Return the name of every baseline and the function that learns it, so that each may go.

    Args:
        catalogue: As for `baselines`.
        train: As for `baselines`.
    """
    every = Selection.of(train)
    return {
        "popularity": lambda: Popularity(catalogue),
        "recent popularity": lambda: recent_popularity(catalogue, every),
        "session popularity": lambda: SessionPopularity(catalogue),
        "markov": lambda: markov(catalogue, newest_for("markov", every)),
        "sequential rules": lambda: sequential_rules(
            catalogue, newest_for("sequential rules", every)
        ),
        "item-knn": lambda: item_neighbours(catalogue, newest_for("item-knn", every)),
        "v-sknn": lambda: NeighbourBaseline(catalogue, newest_for("v-sknn", every), VSKNN),
        "vstan": lambda: NeighbourBaseline(catalogue, newest_for("vstan", every), VSTAN),
    }
