"""Rivals: the recipes of a competition; the first one is the incumbent, which the others must beat.

They were chosen by leaving one log out (docs/accuracy.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import BadRecipe
from training.recipe import Recipe, load_recipe

AUTO = "auto"
INCUMBENT = "default"
CHALLENGERS = ("bpr-max-small", "bpr-max")


@dataclass(frozen=True, slots=True)
class Rival:
    """Recipe of a competition, by name."""

    name: str
    recipe: Recipe


def rivals_of(name: str, overrides: Sequence[str] = ()) -> tuple[Rival, ...]:
    """Return the recipe of this name alone; for `auto` the incumbent and its challengers.

    Args:
        name: `auto`, a built-in recipe, or a path that ends in .toml.
        overrides: Settings as `--set` takes them, for every rival. A challenger that cannot take
            them, or that is then equal to another rival, does not take part.

    Raises:
        BadRecipe: There is no such recipe, or a setting is wrong.
    """
    if name != AUTO:
        return (Rival(name, load_recipe(name, overrides)),)
    rivals = [Rival(INCUMBENT, load_recipe(INCUMBENT, overrides))]
    for challenger in CHALLENGERS:
        try:
            recipe = load_recipe(challenger, overrides)
        except BadRecipe:
            continue  # settings that its own settings contradict
        if recipe not in [rival.recipe for rival in rivals]:
            rivals.append(Rival(challenger, recipe))
    return tuple(rivals)
