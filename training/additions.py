"""Additions to the model's scores, chosen on the validation sessions after the search.

These are the weight of session neighbours (`training/blend_weight.py`) and the repeat term
(`training/repeats.py`). A first fit of the term to the model's scores gives the temperature, with
which neighbours are blended in. Where they are, a second fit makes the term for the blended scores.
"""

import dataclasses

from data.sessions import Sessions
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from training.blend_weight import blend_of, choose_weight
from training.checkpoint import Additions
from training.recipe import Recipe
from training.repeats import fit_repeats
from training.trainer import AdditionsChooser


def chooser_of(recipe: Recipe, kept: RepeatTerm | None = None) -> AdditionsChooser:
    """Return the function that chooses the recipe's additions.

    Args:
        recipe: Says which additions there are.
        kept: Repeat term to keep where there are no validation sessions to fit it on, as in a
            finetuning.
    """

    def chosen(predictor: Predictor, train: Sessions, valid: Sessions | None) -> Additions:
        if valid is None:
            summary = "none" if kept is None else "kept from the continued bundle"
            repeats = kept
        elif recipe.repeats == "none":
            repeats, summary = None, "none"
        else:
            return _fitted(recipe, predictor, train, valid)
        return Additions(repeats, summary, choose_weight(recipe, predictor, train, valid))

    return chosen


def _fitted(recipe: Recipe, predictor: Predictor, train: Sessions, valid: Sessions) -> Additions:
    """Return the repeat term for the model, or for its blend with neighbours where that is better.

    Args:
        recipe: Settings of the neighbours.
        predictor: Predictor trained on `train`, without additions.
        train: Sessions of the neighbours.
        valid: Sessions to fit and choose on.
    """
    fitted = fit_repeats(predictor, valid)
    if recipe.blend == "none":
        return Additions(fitted.term, fitted.summary)
    calibration = RepeatTerm(temperature=fitted.temperature)
    calibrated = predictor.with_repeats(calibration)
    weight = choose_weight(recipe, calibrated, train, valid)
    blend = blend_of(recipe, predictor.catalogue, train, weight)
    if blend is None:
        return Additions(fitted.term, fitted.summary)
    fitted = fit_repeats(calibrated.with_blend(blend), valid)
    term = calibration if fitted.term is None else fitted.term
    term = dataclasses.replace(term, temperature=calibration.temperature)
    return Additions(term, fitted.summary, weight)
