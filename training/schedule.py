"""How the learning rate goes over a run: a warm-up, then constant, linear or cosine to zero."""

import math

from training.recipe import Recipe


def rate_at(recipe: Recipe, share: float) -> float:
    """The learning rate when `share` of the run, from 0 to 1, is done."""
    if share < recipe.warmup:
        return recipe.learning_rate * share / recipe.warmup
    left = (1 - share) / (1 - recipe.warmup)
    factor = {
        "constant": 1.0,
        "linear": left,
        "cosine": (1 - math.cos(math.pi * left)) / 2,
    }[recipe.schedule]
    return recipe.learning_rate * factor
