"""Blend weight: choose the weight of session neighbours on the validation sessions.

One pass over the validation sessions measures every weight of a grid, and the model alone.
"""

import dataclasses

import numpy as np
import torch

from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import target_ranks
from recsys.neighbours.blend import Blend, mix_log_probabilities
from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.predictor import Predictor
from recsys.ragged import windows_along
from training.baselines.session_knn import build_neighbour_index
from training.evaluation.evaluate import SCORES_AT_ONCE, in_chunks
from training.evaluation.metrics import metrics_at
from training.recipe import Recipe

WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
CASES = 20_000  # about so many validation cases, of sessions spread evenly over time


def neighbour_settings(recipe: Recipe) -> NeighbourSettings:
    """Return the settings of the recipe's neighbours; a decay of 0 is none, as always in V-SKNN."""
    plain = NeighbourSettings(recipe.neighbours, recipe.candidates, idf=recipe.idf)
    if recipe.blend == "v-sknn":
        return plain
    return dataclasses.replace(
        plain,
        click_decay=recipe.click_decay or None,
        age_decay_days=recipe.age_decay_days or None,
        distance_decay=recipe.distance_decay or None,
    )


def neighbours_of(recipe: Recipe, catalogue: Catalogue, train: Sessions) -> SessionNeighbours:
    """Return the neighbours out of these sessions, whose items are codes of their log."""
    settings = neighbour_settings(recipe)
    indexed = reindex(train, catalogue.item_ids)
    return SessionNeighbours(
        build_neighbour_index(indexed, len(catalogue), settings.candidates), settings
    )


def blend_of(recipe: Recipe, catalogue: Catalogue, train: Sessions, weight: float) -> Blend | None:
    """Return the blend with neighbours out of all training sessions; None for a weight of 0."""
    return Blend(neighbours_of(recipe, catalogue, train), weight) if weight > 0 else None


def blend_summary(recipe: Recipe, weight: float) -> str:
    """Return a sentence about the blend's weight, for the console and the bundle."""
    if recipe.blend == "none":
        return "none"
    if weight == 0:
        return f"left out, no weight of {recipe.blend} beat the model alone on validation sessions"
    source = "as the recipe says" if recipe.blend_weight else "chosen on validation sessions"
    return f"{recipe.blend} with a weight of {weight:g}, {source}"


def choose_weight(
    recipe: Recipe, predictor: Predictor, train: Sessions, valid: Sessions | None
) -> float:
    """Return the recipe's weight, or the best one on validation sessions; 0 without a blend.

    Args:
        recipe: Settings of the neighbours.
        predictor: Predictor trained on `train`; its repeat term has a temperature at most.
        train: Sessions of the neighbours, items as codes of their log.
        valid: Sessions to validate on, items as codes of their log, if there are any.
    """
    if recipe.blend == "none" or recipe.blend_weight > 0 or valid is None:
        return recipe.blend_weight
    return best_weight(weigh(recipe, predictor, train, valid), recipe.select_by)


def best_weight(metrics: dict[float, dict[str, float]], select_by: str) -> float:
    """Return the weight with the best metric; 0 where none is better than the model alone."""
    return max(metrics, key=lambda weight: (metrics[weight][select_by], -weight))


def weigh(
    recipe: Recipe, predictor: Predictor, train: Sessions, valid: Sessions
) -> dict[float, dict[str, float]]:
    """Return the metrics on `valid` for each weight; 0 is the model alone.

    Args:
        recipe: Settings of the neighbours.
        predictor: Predictor trained on `train`; its repeat term has a temperature at most.
        train: Sessions of the neighbours, items as codes of their log.
        valid: Sessions to validate on, items as codes of their log.
    """
    catalogue = predictor.catalogue
    neighbours = neighbours_of(recipe, catalogue, train)
    validated = _some(reindex(valid.keep_sessions(valid.lengths >= 2), catalogue.item_ids))
    targets = torch.from_numpy(validated.next_clicks.astype(np.int64))
    ranks = {weight: torch.empty_like(targets) for weight in (0.0, *WEIGHTS)}
    for sessions, cases in in_chunks(validated, max(SCORES_AT_ONCE // len(catalogue), 1)):
        log_model = torch.log_softmax(predictor.calibrated(predictor.scores_along(sessions)), dim=1)
        rows = neighbours.score(windows_along(sessions, predictor.window).known())
        for weight, of_weight in ranks.items():
            scores = mix_log_probabilities(log_model, rows, weight) if weight else log_model
            of_weight[cases] = target_ranks(scores, targets[cases])[0]
    return {weight: metrics_at(of_weight) for weight, of_weight in ranks.items()}


def _some(sessions: Sessions) -> Sessions:
    """Return every n-th session, so that there are about `CASES` cases."""
    every = max((len(sessions.items) - len(sessions)) // CASES, 1)
    return sessions.keep_sessions(np.arange(len(sessions)) % every == 0)
