"""Additions to the model's scores, chosen on the validation sessions after the search.

These are the term of new items, recent popularity, the blend with session neighbours, and the
repeat term, in this order: each is chosen for the scores with those before it. A first fit of the
repeat term gives the temperature, with which neighbours are blended in. Where they are, a second
fit makes the term for the blended scores. Where clicks go on to be counted, the term of new items
is chosen once more for the scores with these counts: a new item that is clicked needs no other
lift, and one that is not clicked stands below those that are.
"""

import dataclasses

from data.batches.selection import Selection
from data.sessions import Sessions
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import BlendSettings
from recsys.predictor import Predictor
from training.additions.blend import blend_of, choose_blend
from training.additions.new_items import ChosenTerm, choose_new_item_term, term_of
from training.additions.recent_popularity import ChosenRecent, choose_recent, recent_of
from training.additions.repeats import fit_repeats
from training.checkpoint import Additions
from training.recipe import Recipe
from training.trainer import AdditionsChooser

WITHOUT_SESSIONS = "none, because there are no validation sessions to fit it on"


def chooser_of(
    recipe: Recipe, kept: Additions | None = None, *, keeps_blend: bool = False
) -> AdditionsChooser:
    """Return the function that chooses the recipe's additions.

    Args:
        recipe: Says which additions there are.
        kept: Additions of the bundle that is continued, if any. Its repeat term is kept where no
            fit on validation sessions is better than no term.
        keeps_blend: Use the blend of that bundle.
    """
    given = kept.blend if kept is not None and keeps_blend else None

    def chosen(
        predictor: Predictor, train: Sessions | Selection, valid: Sessions | None
    ) -> Additions:
        new_items = choose_new_item_term(recipe, predictor, valid)
        recent = _recent(recipe, kept, _shifted(predictor, new_items), train, valid)
        used = recent_of(recent.settings, predictor.catalogue, train)
        predictor = predictor.with_recent(used)
        if new_items.term is not None and used is not None and used.is_trending:
            new_items = choose_new_item_term(recipe, predictor, valid)  # clicks tell them apart
        additions = others(_shifted(predictor, new_items), train, valid)
        return dataclasses.replace(
            additions,
            recent=recent.settings,
            recent_summary=recent.summary,
            new_items=new_items.term,
            new_items_summary=new_items.summary,
        )

    def others(
        predictor: Predictor, train: Sessions | Selection, valid: Sessions | None
    ) -> Additions:
        if valid is None or recipe.repeats == "none":
            blend = given or choose_blend(recipe, predictor, train, valid)
            additions = Additions(None, WITHOUT_SESSIONS, blend)
        else:
            additions = _fitted(recipe, predictor, train, valid, given)
        if recipe.repeats == "none":
            return dataclasses.replace(additions, repeats_summary="none")
        if kept is None or kept.repeats is None or _has_bonus(additions):
            return additions
        return _with_kept(additions, kept, kept.repeats)

    return chosen


def _shifted(predictor: Predictor, new_items: ChosenTerm) -> Predictor:
    """Return the predictor with the term of new items, if there is one."""
    if new_items.term is None:
        return predictor
    return predictor.with_bias(term_of(new_items.term, predictor.catalogue))


def _recent(
    recipe: Recipe,
    kept: Additions | None,
    predictor: Predictor,
    train: Sessions | Selection,
    valid: Sessions | None,
) -> ChosenRecent:
    if recipe.recent_popularity == "none":
        return ChosenRecent(None, "none")
    if valid is not None:
        return choose_recent(predictor, train, valid)
    if kept is not None and kept.recent is not None:
        summary = "the numbers of the continued bundle, for the newest of the new clicks"
        return ChosenRecent(kept.recent, summary)
    return ChosenRecent(None, WITHOUT_SESSIONS)


def _has_bonus(additions: Additions) -> bool:
    return additions.repeats is not None and additions.repeats.has_bonus


def _with_kept(additions: Additions, kept: Additions, term: RepeatTerm) -> Additions:
    """Return the additions with the bonus of the continued bundle, if its scale still fits."""
    if (kept.blend is None) != (additions.blend is None):
        summary = "left out, because the continued bundle's is for scores of another kind"
        calibration = RepeatTerm(temperature=term.temperature)
        repeats = None if additions.blend is None else calibration
        return dataclasses.replace(additions, repeats=repeats, repeats_summary=summary)
    summary = "kept from the continued bundle"
    return dataclasses.replace(additions, repeats=term, repeats_summary=summary)


def _fitted(
    recipe: Recipe,
    predictor: Predictor,
    train: Sessions | Selection,
    valid: Sessions,
    given: BlendSettings | None,
) -> Additions:
    """Return the repeat term for the model, or for its blend with neighbours where that is better.

    Args:
        recipe: Settings of the neighbours.
        predictor: Predictor trained on `train`, without additions.
        train: Sessions of the neighbours.
        valid: Sessions to fit and choose on.
        given: Blend that is used without a choice, if any.
    """
    fitted = fit_repeats(predictor, valid)
    if recipe.blend == "none":
        return Additions(fitted.term, fitted.summary)
    calibration = RepeatTerm(temperature=fitted.temperature)
    term = fitted.term or calibration
    chosen = given or choose_blend(recipe, predictor, train, valid, term)
    blend = blend_of(chosen, predictor.catalogue, train)
    if blend is None:
        return Additions(fitted.term, fitted.summary)
    blended = predictor.with_repeats(calibration).with_blend(blend)
    on_blend = fit_repeats(blended, valid)
    # the blend was chosen with the first term on top, which stays where no other is better
    term = on_blend.term or term.calibrated()
    term = dataclasses.replace(term, temperature=calibration.temperature)
    return Additions(term, on_blend.summary if on_blend.term else fitted.summary, chosen)
