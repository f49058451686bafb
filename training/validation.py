"""Validation: the sessions of a search, to train on and to validate on."""

from data.batches.selection import Selection, without_last
from data.sessions import Sessions
from recsys.errors import BadInput
from training.evaluation.sample import Sample, sampled
from training.recipe import Recipe

LEAST_SESSIONS_TO_CUT = 10  # fewer training sessions are not cut for validation
SESSIONS = 500  # that a small log validates on, beyond the share of the recipe
MOST_OF_A_LOG = 0.3  # that they may be, at most


def validation_split(
    train: Sessions, valid: Sessions | None, recipe: Recipe
) -> tuple[Selection, Sample | None]:
    """Return the sessions of the search phase: to train on, and to validate on.

    Args:
        train: Training sessions, items as codes of their log.
        valid: Sessions to validate on; None to cut the last share of `train` off.
        recipe: Says which share that is (`validation_share`); its `max_cases` limits the next
            clicks.

    Returns:
        None to validate on where the share is 0, or the log is too small to be cut.
    """
    if valid is not None:
        return Selection(train), sampled(valid, recipe.max_cases)
    share = validation_share(recipe, len(train))
    if share == 0 or len(train) < LEAST_SESSIONS_TO_CUT:
        return Selection(train), None
    before, after = without_last(train, share)
    return before, sampled(after, recipe.max_cases)


def validation_share(recipe: Recipe, sessions: int) -> float:
    """Return the share of so many training sessions that the search validates on.

    It is the recipe's. Of a small log it is more, because a few dozen sessions choose epoch, recipe
    and additions by chance: so many that there are `SESSIONS`, and at most `MOST_OF_A_LOG`. The
    refit learns from all. Without a refit, the share stays.
    """
    if recipe.validation == 0 or not recipe.refit:
        return recipe.validation
    return max(recipe.validation, min(SESSIONS / sessions, MOST_OF_A_LOG))


def check_validation(search_part: Selection, valid: Sessions) -> None:
    """Raise `BadInput` where no target of the validation part is an item of the training part."""
    targets = valid.next_clicks
    if not (search_part.counts() > 0)[targets].any():
        raise BadInput(
            "The validation part cannot be used",
            [
                f"none of its {len(targets):,} next clicks is on an item of the other training "
                "sessions. Train without one: --set validation=0."
            ],
        )
