"""Rivals: the recipes of a competition. The first is the incumbent, which the others must beat.

The incumbent is the recipe that is better on most logs of this size. Which one that is, and which
recipes take part, was chosen by leaving one log out (docs/accuracy.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.recipe import Recipe, load_recipe

AUTO = "auto"
DEFAULT = "default"
OTHERS = ("bpr-max", "bpr-max-small")
SMALL_LOG = 50_000  # training clicks below which another recipe is the incumbent
INCUMBENT_OF_SMALL_LOGS = "bpr-max"


@dataclass(frozen=True, slots=True)
class Rival:
    """Recipe of a competition, by name."""

    name: str
    recipe: Recipe


def rivals_of(name: str, overrides: Sequence[str] = ()) -> tuple[Rival, ...]:
    """Return the recipe of this name alone; for `auto` the default recipe and its rivals.

    Args:
        name: `auto`, a built-in recipe, or a path that ends in .toml.
        overrides: Settings as `--set` takes them, for every rival. One that is then equal to
            another rival does not take part.

    Raises:
        BadRecipe: There is no such recipe, or a setting is wrong.
    """
    if name != AUTO:
        shown = Path(name).name if name.endswith(".toml") else name
        return (Rival(shown, load_recipe(name, overrides)),)
    rivals = [Rival(DEFAULT, load_recipe(DEFAULT, overrides))]
    for other in OTHERS:
        recipe = load_recipe(other, overrides)
        if recipe not in [rival.recipe for rival in rivals]:
            rivals.append(Rival(other, recipe))
    return tuple(rivals)


def incumbent_first(rivals: Sequence[Rival], clicks: int) -> tuple[Rival, ...]:
    """Return the rivals in the order for a log of so many training clicks."""
    first = INCUMBENT_OF_SMALL_LOGS if clicks < SMALL_LOG else DEFAULT
    return tuple(sorted(rivals, key=lambda rival: rival.name != first))
