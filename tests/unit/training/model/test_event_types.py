"""Weights and choice of targets by event type, in the training step and in the recipe."""

import dataclasses

import numpy as np
import pytest
import torch

from data.sessions import Sessions
from recsys.errors import BadRecipe
from recsys.model.event_types import EventTypes
from tests.support.training.training_steps import CPU, ITEMS, PLAIN, CountingStep, batch_of
from training.model.event_types import event_types_of, learned_share, target_weights
from training.model.sampling import candidate_sampler
from training.model.weights import Weights
from training.recipe import Recipe, checked_recipe

TYPES = EventTypes(("cart", "order", "view"), "view")
ALL_ITEMS = dataclasses.replace(PLAIN, scored_items="all", negatives=0)
INPUTS, TARGETS = [1, 2, 3], [4, 5, 6]
CLICKED, FOLLOWED = np.array([3, 1, 3]), np.array([1, 2, 3])  # types of inputs and targets


def typed_step(recipe: Recipe) -> CountingStep:
    size = recipe.size(ITEMS, TYPES.count)
    weights = Weights.fresh(size, torch.Generator().manual_seed(0), TYPES)
    candidates = candidate_sampler(recipe, np.full(ITEMS, 2), recipe.batch, CPU)
    return CountingStep(weights, recipe, candidates, CPU)


def loss_of(recipe: Recipe, rows: list[int]) -> float:
    """Return the loss of these rows' first clicks."""
    inputs, targets = ([clicks[row] for row in rows] for clicks in (INPUTS, TARGETS))
    batch = dataclasses.replace(
        batch_of(inputs, targets, [True] * len(rows)),
        events=CLICKED[rows],
        target_events=FOLLOWED[rows],
    )
    return float(typed_step(recipe).next(batch).loss)


def test_the_loss_of_a_target_has_the_weight_of_its_type() -> None:
    cart, order, view = (loss_of(ALL_ITEMS, [row]) for row in range(3))
    weighted = dataclasses.replace(ALL_ITEMS, event_weights="cart=3,order=6")

    assert loss_of(weighted, [0, 1, 2]) == pytest.approx(3 * cart + 6 * order + 1 * view, rel=1e-6)


def test_targets_of_other_types_are_not_learned() -> None:
    order = loss_of(ALL_ITEMS, [1])
    chosen = dataclasses.replace(ALL_ITEMS, event_targets="order")

    assert loss_of(chosen, [0, 1, 2]) == pytest.approx(order, rel=1e-6)
    assert loss_of(chosen, [0, 2]) == 0.0


def test_a_target_that_is_not_learned_is_no_negative() -> None:
    """Item 4 is the target of a cart alone: neither its row nor its bias moves."""
    recipe = dataclasses.replace(PLAIN, event_targets="order", negatives=0)
    step = typed_step(recipe)
    before = step.weights.bias.clone()
    batch = batch_of(INPUTS, TARGETS, [True] * 3)
    step.next(dataclasses.replace(batch, events=CLICKED, target_events=FOLLOWED))

    assert step.weights.bias[4] == before[4]


def test_vectors_of_types_are_learned_and_those_of_unknown_and_default_types_stay_0() -> None:
    step = typed_step(ALL_ITEMS)
    batch = batch_of(INPUTS, TARGETS, [True] * 3)
    for _ in range(2):
        step.next(dataclasses.replace(batch, events=CLICKED, target_events=FOLLOWED))

    events = step.weights.model.events
    assert events is not None
    assert [bool(row.any()) for row in events] == [
        False,
        True,
        False,
        False,
    ]  # no order was clicked


def sessions_of(events: list[int]) -> Sessions:
    clicks = np.arange(len(events))
    offsets = np.array([0, len(events)])
    numbers = np.array(events, dtype=np.int8)
    return Sessions(
        clicks.astype(np.int32),
        clicks,
        offsets,
        tuple(map(str, clicks)),
        events=numbers,
        event_types=("buy", "cart", "pv"),
    )


def test_the_default_type_is_view_or_the_most_frequent_one() -> None:
    sessions = sessions_of([3, 3, 1, 2])

    assert event_types_of(sessions, Recipe()).default == "pv"
    viewed = dataclasses.replace(sessions, event_types=("cart", "order", "view"))
    assert event_types_of(viewed, Recipe(exclude_after="order")) == EventTypes(
        ("cart", "order", "view"), "view", ("order",)
    )


def test_a_type_that_the_clicks_do_not_have_is_refused_with_those_they_have() -> None:
    recipe = Recipe(event_weights="order=6", event_targets="buy,order", exclude_after="sold")
    with pytest.raises(BadRecipe) as refused:
        event_types_of(sessions_of([3, 1]), recipe)

    text = str(refused.value)
    assert "event_weights names 'order', which the clicks do not have: they have buy, cart" in text
    assert "event_targets names 'order'" in text
    assert "exclude_after names 'sold'" in text


def test_a_share_of_the_clicks_is_learned() -> None:
    recipe = Recipe(event_targets="buy,cart", event_weights="cart=3")

    assert target_weights(Recipe(), ("buy", "cart", "pv")) is None
    weights = target_weights(recipe, ("buy", "cart", "pv"))
    assert weights is not None
    assert weights.tolist() == [0, 1, 3, 0]
    assert learned_share(sessions_of([3, 3, 1, 2]), recipe) == 2 / 4
    with pytest.raises(BadRecipe, match="no training click has such a type"):
        learned_share(sessions_of([3, 3]), recipe)


@pytest.mark.parametrize("wrong", ["cart", "cart=", "=3", "cart=0", "cart=-1", "cart=nan"])
def test_weights_are_numbers_above_0(wrong: str) -> None:
    with pytest.raises(BadRecipe, match="event_weights must be type=number above 0, by commas"):
        checked_recipe({"event_weights": wrong})
