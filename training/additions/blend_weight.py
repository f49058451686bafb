"""Blend weight: choose the weight of session neighbours on the validation sessions.

One pass over the validation sessions measures every weight of a grid, and the model without
neighbours, each with the repeat term on top. The weight with the highest gain is used, if the gain
is clear.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import target_ranks
from recsys.model.repeats import RepeatTerm, temperature_of
from recsys.neighbours.blend import (
    VOTES,
    Blend,
    log_parts,
    log_probabilities,
    mix_log_probabilities,
)
from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.predictor import Predictor
from training.additions.cases import scored_cases
from training.additions.gain import gains, is_clear
from training.baselines.session_knn import build_neighbour_index
from training.recipe import Recipe

WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)


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
        return f"left out, no weight of {recipe.blend} is clearly better on validation sessions"
    source = "as the recipe says" if recipe.blend_weight else "chosen on validation sessions"
    return f"{recipe.blend} with a weight of {weight:g}, {source}"


def choose_weight(
    recipe: Recipe,
    predictor: Predictor,
    train: Sessions,
    valid: Sessions | None,
    repeats: RepeatTerm | None = None,
) -> float:
    """Return the recipe's weight, or the best one on validation sessions; 0 without a blend.

    Args:
        recipe: Settings of the neighbours.
        predictor: Predictor trained on `train`, without additions.
        train: Sessions of the neighbours, items as codes of their log.
        valid: Sessions to validate on, items as codes of their log, if there are any.
        repeats: Repeat term for the scores of the predictor, if there is one.
    """
    if recipe.blend == "none" or recipe.blend_weight > 0 or valid is None:
        return recipe.blend_weight
    return best_weight(weigh(recipe, predictor, train, valid, repeats))


@dataclass(frozen=True)
class WeighedCases:
    """Validation cases with the ranks of their targets for each weight; 0 is no neighbours."""

    session: NDArray[np.int64]  # (cases,)
    ranks: Mapping[float, NDArray[np.int64]]  # weight → (cases,)


def best_weight(cases: WeighedCases) -> float:
    """Return the weight with the highest gain; 0 where it is not clear."""
    before = cases.ranks[0.0]
    of_weights = {w: gains(ranks, before) for w, ranks in cases.ranks.items() if w > 0}
    best = max(of_weights, key=lambda weight: (of_weights[weight].mean(), -weight))
    return best if is_clear(of_weights[best], cases.session) else 0.0


@torch.inference_mode()
def weigh(
    recipe: Recipe,
    predictor: Predictor,
    train: Sessions,
    valid: Sessions,
    repeats: RepeatTerm | None = None,
) -> WeighedCases:
    """Return the ranks of validation cases for each weight; see `choose_weight`."""
    neighbours = neighbours_of(recipe, predictor.catalogue, train)
    on_top = None if repeats is None else repeats.calibrated()
    sessions: list[NDArray[np.int64]] = []
    ranks: dict[float, list[Tensor]] = {weight: [] for weight in (0.0, *WEIGHTS)}
    for part in scored_cases(predictor, valid):
        sessions.append(part.session)
        targets, windows = torch.from_numpy(part.target), part.windows.lists()
        log_model = log_probabilities(part.scores / temperature_of(repeats))
        shares = neighbours.shares(part.windows, VOTES)
        for weight, of_weight in ranks.items():
            if weight > 0:
                scores = mix_log_probabilities(log_model, log_parts(shares, weight), weight)
            else:
                scores = log_model.clone()
            if on_top is not None:
                on_top.add_to(scores, windows)
            of_weight.append(target_ranks(scores, targets)[0])
    joined = {weight: torch.cat(parts).numpy() for weight, parts in ranks.items()}
    return WeighedCases(np.concatenate(sessions), joined)
