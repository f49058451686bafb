"""Event types in training: the types of a model, and the weight of each type in the loss."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.sessions import CLICKS_AT_ONCE, Sessions
from recsys.errors import BadRecipe
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from training.recipe import HEADING, Recipe, names_of, weights_of

VIEW = "view"  # the default type, where a log has it


def event_types_of(train: Sessions, recipe: Recipe) -> EventTypes:
    """Return the types of a model that learns from these sessions.

    The default is view where the log has it, else the most frequent type.

    Raises:
        BadRecipe: The recipe names types that the log does not have.
    """
    names = train.event_types
    check_names(recipe, names)
    if not names:
        return NO_EVENT_TYPES
    default = VIEW if VIEW in names else names[int(_counts(train)[1:].argmax())]
    return EventTypes(names, default, names_of(recipe.exclude_after))


def _counts(sessions: Sessions) -> NDArray[np.int64]:
    """Return the clicks of each number of a type, (event types,) int64."""
    assert sessions.events is not None, "types that count are those of the clicks"
    counts = np.zeros(len(sessions.event_types) + 1, dtype=np.int64)
    for start in range(0, len(sessions.events), CLICKS_AT_ONCE):
        part = sessions.events[start : start + CLICKS_AT_ONCE]
        counts += np.bincount(part, minlength=len(counts))
    return counts


def check_names(recipe: Recipe, names: Sequence[str]) -> None:
    """Raise `BadRecipe` where the recipe names a type that is none of these."""
    named = {
        "event_weights": tuple(weights_of(recipe.event_weights)),
        "event_targets": names_of(recipe.event_targets),
        "exclude_after": names_of(recipe.exclude_after),
    }
    has = f"they have {', '.join(names)}" if names else "they have none; see --event-column"
    problems = [
        f"{setting} names {', '.join(map(repr, unknown))}, which the clicks do not have: {has}."
        for setting, given in named.items()
        if (unknown := [name for name in given if name not in names])
    ]
    if problems:
        raise BadRecipe(HEADING, problems)


def target_weights(recipe: Recipe, names: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the weight of each number of a type in the loss, (event types,) float32.

    A weight of 0 leaves targets of this type out. None where every weight is 1.

    Args:
        recipe: Its `event_weights` and `event_targets` are used.
        names: The types of the model.
    """
    weights = weights_of(recipe.event_weights)
    learned = names_of(recipe.event_targets) or names
    if not weights and set(learned) == set(names):
        return None
    values = [weights.get(name, 1.0) if name in learned else 0.0 for name in names]
    unknown = 0.0 if recipe.event_targets else 1.0  # of clicks that a base model cannot name
    return np.array([unknown, *values], dtype=np.float32)


def learned_share(sessions: Sessions, recipe: Recipe) -> float:
    """Return the share of the clicks whose types are learned as targets."""
    weights = target_weights(recipe, sessions.event_types)
    if weights is None or (weights[1:] > 0).all():
        return 1.0
    counts = _counts(sessions)
    share = float(counts[weights > 0].sum() / counts.sum())
    if share == 0:
        raise BadRecipe(
            HEADING,
            [
                f"event_targets is {recipe.event_targets!r}, and no training click has such a "
                "type. Name a type with clicks."
            ],
        )
    return share
