"""What a step is scored against, and what logQ expects of it."""

import dataclasses

import numpy as np
import pytest
import torch

from training.columns import Chosen, columns_of
from training.draws import Draws
from training.negatives import NegativeSampler
from training.recipe import Recipe

CPU = torch.device("cpu")
COUNTS = np.array([4, 9, 16, 25, 1, 36])
RECIPE = Recipe(negatives=3, sample_alpha=0.5)
CLICKED, FOLLOWING = torch.tensor([0, 3, 3]), torch.tensor([3, 2, 3])


def chosen(columns: str, **settings: object) -> Chosen:
    recipe = dataclasses.replace(RECIPE, columns=columns, **settings)  # type: ignore[arg-type]
    how = columns_of(recipe, COUNTS, events=3.0, clicks=5.0, device=CPU)
    return how.choose(CLICKED, FOLLOWING, Draws(CPU, 0, 0, 0))


@pytest.mark.parametrize("columns", ["distinct", "drawn", "full"])
def test_every_event_finds_its_click_and_its_target(columns: str) -> None:
    found = chosen(columns)

    assert torch.equal(found.items[found.clicked], CLICKED)
    assert torch.equal(found.items[found.target], FOLLOWING)
    assert (found.items.diff() > 0).all()


def test_distinct_columns_hold_every_item_of_the_step_once() -> None:
    found = chosen("distinct", negatives=200)

    assert found.items.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.copies is None


def test_drawn_columns_count_every_target_and_every_draw() -> None:
    found = chosen("drawn", negatives=50)

    assert found.copies is not None
    assert int(found.copies.sum()) == 3 + 50
    negatives = NegativeSampler(COUNTS, 0.5, CPU).draw(Draws(CPU, 0, 0, 0).uniform(50))
    counted = torch.bincount(torch.cat([FOLLOWING, negatives]), minlength=6)
    assert torch.equal(found.copies, counted[found.items])


def test_an_item_that_was_only_clicked_counts_for_nothing() -> None:
    found = chosen("drawn", negatives=0)

    assert found.items.tolist() == [0, 2, 3]
    assert found.copies is not None
    assert found.copies.tolist() == [0, 1, 2]


def test_full_columns_are_the_catalogue_without_correction() -> None:
    found = chosen("full")

    assert found.items.tolist() == list(range(6))
    assert not found.correction.any()


def test_what_is_expected_of_a_drawn_column_is_the_mixture_of_both_ways_to_it() -> None:
    found = chosen("drawn", logq=0.7)

    roots = np.sqrt(COUNTS)
    mixture = (3 - 1) * COUNTS / COUNTS.sum() + 3 * roots / roots.sum()
    expected = 0.7 * np.log(mixture)[found.items.numpy()]
    np.testing.assert_allclose(found.correction.numpy(), expected, rtol=1e-6)


def test_what_is_expected_of_a_distinct_column_is_its_chance_to_be_there() -> None:
    found = chosen("distinct")

    roots = np.sqrt(COUNTS)
    mixture = 5 * COUNTS / COUNTS.sum() + 3 * roots / roots.sum()
    expected = np.log(1 - np.exp(-mixture))[found.items.numpy()]
    np.testing.assert_allclose(found.correction.numpy(), expected, rtol=1e-6)


def test_the_chance_of_a_distinct_column_is_what_drawing_finds() -> None:
    """4,000 steps' worth of draws against the formula, which takes draws as many and rare."""
    how = columns_of(RECIPE, COUNTS, events=3.0, clicks=0.0, device=CPU)
    nothing = torch.zeros(0, dtype=torch.int64)
    there = torch.zeros(6)
    for step in range(4000):
        there[how.choose(nothing, nothing, Draws(CPU, 0, 0, step)).items] += 1

    roots = np.sqrt(COUNTS)
    exact = 1 - (1 - roots / roots.sum()) ** 3
    np.testing.assert_allclose(there.numpy() / 4000, exact, atol=0.03)
