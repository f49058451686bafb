"""Rivals: the recipes of a competition. The first is the incumbent, which the others must beat.

The incumbent is the recipe that is better on most logs of this size. Which one that is, and which
recipes take part, was chosen by leaving one log out (docs/accuracy.md).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.competition.budget import AUTO
from training.recipe import Recipe, load_recipe

DEFAULT = "default"
OTHERS = ("bpr-max", "bpr-max-small")
SMALL_LOG = 50_000  # training clicks below which another recipe is the incumbent
INCUMBENT_OF_SMALL_LOGS = "bpr-max"
BLEND = "auto"  # neighbours that may be blended in; the validation sessions decide


@dataclass(frozen=True, slots=True)
class Rival:
    """Recipe of a competition, by name."""

    name: str
    recipe: Recipe


def rivals_of(name: str, overrides: Sequence[str] = ()) -> tuple[Rival, ...]:
    """Return the recipe of this name alone; for `auto` the default recipe and its rivals.

    With `auto`, session neighbours may be blended in, unless the overrides say otherwise or leave
    neither a weight nor validation sessions to choose it on.

    Args:
        name: `auto`, a built-in recipe, or a path that ends in .toml.
        overrides: Settings as `--set` takes them, for every rival. One that is then equal to
            another rival does not take part.

    Raises:
        BadRecipe: There is no such recipe, or a setting is wrong.
    """
    if name != AUTO:
        shown = Path(name).name if name.endswith(".toml") else name
        return (Rival(shown, load_recipe(name, overrides, also=[AUTO])),)
    rivals: list[Rival] = []
    for built_in in (DEFAULT, *OTHERS):
        recipe = load_recipe(built_in, overrides)
        weighable = recipe.validation > 0 or recipe.blend_weight > 0
        if weighable and not any(_name(override) == "blend" for override in overrides):
            recipe = dataclasses.replace(recipe, blend=BLEND)
        if recipe not in [rival.recipe for rival in rivals]:
            rivals.append(Rival(built_in, recipe))
    return tuple(rivals)


def _name(override: str) -> str:
    return override.partition("=")[0].strip()


def incumbent_first(rivals: Sequence[Rival], clicks: int) -> tuple[Rival, ...]:
    """Return the rivals in the order for a log of so many training clicks."""
    first = INCUMBENT_OF_SMALL_LOGS if clicks < SMALL_LOG else DEFAULT
    return tuple(sorted(rivals, key=lambda rival: rival.name != first))
