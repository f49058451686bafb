"""How many sessions a search validates on."""

import dataclasses

import pytest

from training.recipe import Recipe
from training.validation import MOST_OF_A_LOG, SESSIONS, validation_share


@pytest.mark.parametrize(
    ("sessions", "share"),
    [(100, MOST_OF_A_LOG), (1_000, MOST_OF_A_LOG), (2_500, SESSIONS / 2_500), (5_001, 0.1)],
)
def test_a_small_log_validates_on_more_than_the_share_of_the_recipe(
    sessions: int, share: float
) -> None:
    assert validation_share(Recipe(validation=0.1), sessions) == share


def test_a_larger_share_of_the_recipe_is_kept() -> None:
    assert validation_share(Recipe(validation=0.4), 100) == 0.4


def test_without_validation_or_refit_the_recipe_alone_decides() -> None:
    assert validation_share(Recipe(validation=0.0), 100) == 0
    assert validation_share(dataclasses.replace(Recipe(validation=0.2), refit=False), 100) == 0.2
