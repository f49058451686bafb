"""Additions to the model's scores, chosen on the validation sessions after the search.

These are the repeat term (`training/repeats.py`) and the weight of session neighbours
(`training/blend_weight.py`), in this order: the weight is chosen for probabilities that hold the
repeat term.
"""

from data.sessions import Sessions
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from training.blend_weight import choose_weight
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
            fitted = fit_repeats(predictor, valid)
            repeats, summary = fitted.term, fitted.summary
        predictor = predictor.with_repeats(repeats)
        weight = choose_weight(recipe, predictor, train, valid)
        return Additions(repeats, summary, weight)

    return chosen
