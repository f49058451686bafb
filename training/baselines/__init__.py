"""Baselines: the recommenders that a model is compared with, learned from the same sessions.

Each answers `scores_along` as `recsys.predictor.Predictor` does: one row of scores for each click
but the last of every session. Popularity tells equal scores apart, so no two scores tie.
"""

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
    selection = Selection.of(train)
    return {
        "popularity": Popularity(catalogue),
        "recent popularity": recent_popularity(catalogue, selection),
        "session popularity": SessionPopularity(catalogue),
        "markov": markov(catalogue, newest_for("markov", selection)),
        "sequential rules": sequential_rules(catalogue, newest_for("sequential rules", selection)),
        "item-knn": item_neighbours(catalogue, newest_for("item-knn", selection)),
        "v-sknn": NeighbourBaseline(catalogue, newest_for("v-sknn", selection), VSKNN),
        "vstan": NeighbourBaseline(catalogue, newest_for("vstan", selection), VSTAN),
    }
