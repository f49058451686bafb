"""Budget of a competition: how it is written, and what an epoch costs."""

import dataclasses
from typing import Any

import pytest

from recsys.errors import BadInput
from tests.support.training.builders import words
from training.competition.budget import Budget, epoch_cost
from training.recipe import Recipe

CLICKS = words(*["abcd", "bcda", "cdab", "dabc"] * 10)
VALID = words(*["abc"] * 4)
RECIPE = Recipe(hidden=8, batch=4, negatives=6)


def cost_of(recipe: Recipe, *, may_refit: bool = True) -> float:
    return epoch_cost(recipe, CLICKS, CLICKS, VALID, may_refit=may_refit).both


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2x", Budget(2.0)),
        ("1.5x", Budget(1.5)),
        (".5x", Budget(0.5)),
        ("10m", Budget(None, 600.0)),
        ("1h30m", Budget(None, 5400.0)),
        (" 45s ", Budget(None, 45.0)),
    ],
)
def test_a_budget_is_a_number_of_trainings_or_a_time(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget
    assert str(budget) in (text.strip(), f"0{text}")


@pytest.mark.parametrize(
    "text",
    [
        *("2", "0x", "x", "0m", "-1x", "2 x 3", "ten minutes", "", "1h30"),
        *("9" * 400 + "x", "9" * 400 + "m", 2, None),
    ],
)
def test_any_other_budget_is_refused_with_what_to_write(text: Any) -> None:
    with pytest.raises(BadInput, match=r"got .*Write 2x for twice the time"):
        Budget.parse(text)


def test_an_epoch_with_validation_costs_more_than_its_steps() -> None:
    cost = epoch_cost(RECIPE, CLICKS, CLICKS, VALID, may_refit=True)

    assert cost.search > cost.steps == cost.refit
    assert cost.both == cost.search + cost.refit


def test_a_run_without_a_refit_has_no_cost_of_one() -> None:
    assert epoch_cost(RECIPE, CLICKS, CLICKS, VALID, may_refit=False).refit == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 16},
        {"layers": 2},
        {"cell": "lstm"},
        {"batch": 2},
        {"batches": "session-parallel"},
        {"negatives": 12},
        {"scored_items": "all"},
        {"loss": "bpr-max"},
    ],
)
def test_what_needs_more_time_costs_more(changes: dict[str, object]) -> None:
    assert cost_of(dataclasses.replace(RECIPE, **changes)) > cost_of(RECIPE)  # type: ignore[arg-type]


def test_twice_the_clicks_cost_about_twice_as_much() -> None:
    twice = words(*["abcd", "bcda", "cdab", "dabc"] * 20)
    one, two = (epoch_cost(RECIPE, part, part, VALID, may_refit=True) for part in (CLICKS, twice))

    assert two.steps == pytest.approx(2 * one.steps)


def test_a_single_recipe_has_no_budget() -> None:
    assert Budget.of_recipe("default", None) == Budget()
    assert Budget.of_recipe("auto", "10m") == Budget(None, 600)
    with pytest.raises(BadInput, match="recipe default alone is trained"):
        Budget.of_recipe("default", "10m")
