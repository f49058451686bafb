"""Baselines: the recommenders that a model is compared with, learned from the same sessions.

Each answers `scores_along` as `recsys.predictor.Predictor` does: one row of scores for each click
but the last of every session. Popularity tells equal scores apart, so no two scores tie.
"""

from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.scoring import VSKNN, VSTAN
from training.baselines.item_to_item import item_neighbours, markov, sequential_rules
from training.baselines.popularity import Popularity, SessionPopularity, recent_popularity
from training.baselines.session_knn import NeighbourBaseline
from training.evaluation.evaluate import Scorer


def baselines(catalogue: Catalogue, train: Sessions) -> dict[str, Scorer]:
    """Return every baseline by the name that reports and manifests show.

    Args:
        catalogue: The model's items, with their training clicks.
        train: Sessions in the catalogue's indices (-1: unknown), in order of their start.
    """
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
