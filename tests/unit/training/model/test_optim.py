"""Optimizers, moving average of the weights, and learning rate schedules."""

import math

import pytest
import torch

from recsys.model.gru4rec import ModelSize
from training.model.optim import (
    ADAM_EPSILON,
    AVERAGING_STEPS,
    EPSILON,
    Adagrad,
    Adam,
    ExponentialMovingAverage,
    learning_rate_at,
    optimizer_for,
)
from training.model.weights import Weights
from training.recipe import Recipe


def test_the_first_step_divides_by_the_gradient_alone() -> None:
    """The accumulator starts at 0 (checklist 6), and ε is inside the root."""
    weight = torch.tensor([1.0])
    Adagrad.of(weight, momentum=0).step(torch.tensor([2.0]), rate=0.1)

    assert weight.item() == pytest.approx(1 - 0.1 * 2 / math.sqrt(4 + EPSILON))


def test_the_second_step_divides_by_the_root_of_both_squares() -> None:
    weight = torch.tensor([0.0])
    optimizer = Adagrad.of(weight, momentum=0)
    optimizer.step(torch.tensor([3.0]), rate=0.1)
    optimizer.step(torch.tensor([4.0]), rate=0.1)

    assert weight.item() == pytest.approx(-0.1 * (3 / 3 + 4 / 5), abs=1e-6)


def test_momentum_adds_a_share_of_the_last_step() -> None:
    weight = torch.tensor([0.0])
    optimizer = Adagrad.of(weight, momentum=0.5)
    optimizer.step(torch.tensor([3.0]), rate=0.1)
    optimizer.step(torch.tensor([4.0]), rate=0.1)

    first = -0.1 * 3 / 3
    second = 0.5 * first - 0.1 * 4 / 5
    assert weight.item() == pytest.approx(first + second, abs=1e-6)


@pytest.mark.parametrize("kind", ["adam", "adamw", "nadam"])
def test_adam_adamw_and_nadam_equal_pytorch(kind: str) -> None:
    """PyTorch's optimizers are the reference; ours can also update single rows."""
    ours, theirs = torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 6).requires_grad_()
    decay = 0.1 if kind == "adamw" else 0.0
    optimizer = Adam.of(ours, kind, decay)
    reference = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}[
        kind
    ]([theirs], lr=0.01, weight_decay=decay, eps=ADAM_EPSILON)
    for step in range(4):
        gradient = torch.sin(torch.arange(6.0) + step)
        theirs.grad = gradient.clone()
        reference.step()
        optimizer.step(gradient, rate=0.01)

    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=0)


RECIPES = [
    Recipe(),
    Recipe(momentum=0.3),
    Recipe(optimizer="adam"),
    Recipe(optimizer="adamw", weight_decay=0.1),
    Recipe(optimizer="nadam"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.optimizer} {r.momentum}")
def test_updates_of_rows_equal_dense_updates(recipe: Recipe) -> None:
    """Touched rows equal the dense update; other rows keep weight and moments."""
    dense, sparse = torch.arange(8.0).reshape(4, 2), torch.arange(8.0).reshape(4, 2)
    whole, rows = optimizer_for(dense, recipe), optimizer_for(sparse, recipe)
    touched = torch.tensor([3, 1])
    for gradient in (torch.tensor([[1.0, -2.0], [0.5, 4.0]]), torch.tensor([[2.0, 2.0], [1.0, 0]])):
        full = torch.zeros(4, 2)
        full[touched] = gradient
        whole.step(full, rate=0.1)
        rows.step_rows(touched, sparse[touched], gradient, rate=0.1)

    torch.testing.assert_close(sparse[touched], dense[touched])
    assert sparse[[0, 2]].tolist() == [[0.0, 1.0], [4.0, 5.0]]


def averaged(average: ExponentialMovingAverage, weights: Weights, values: list[float]) -> float:
    """Return the average of one weight that takes these values, each until the next update."""
    for value in values:
        weights.matrix.fill_(value)
        for _ in range(AVERAGING_STEPS):
            average.update()
    return float(average.weights.matrix[0, 0])


def fresh() -> Weights:
    return Weights.fresh(ModelSize(items=3, hidden=2), torch.Generator().manual_seed(0))


def test_the_first_averages_are_the_plain_mean() -> None:
    weights = fresh()

    assert averaged(
        ExponentialMovingAverage(weights, 0.9999), weights, [1.0, 2.0, 6.0]
    ) == pytest.approx(3.0)


def test_later_averages_decay_exponentially() -> None:
    weights = fresh()
    average = ExponentialMovingAverage(weights, 0.5 ** (1 / AVERAGING_STEPS))  # half in each update

    assert averaged(average, weights, [8.0, 4.0, 2.0]) == pytest.approx((6.0 + 2.0) / 2)


def test_the_trained_weights_do_not_change() -> None:
    weights = fresh()
    averaged(ExponentialMovingAverage(weights, 0.9), weights, [1.0, 5.0])

    assert (weights.matrix == 5.0).all()


STEPS = 1000  # of the run


def rates(**settings: object) -> list[float]:
    recipe = Recipe(**{"learning_rate": 0.8, "warmup": 0.0, **settings})  # type: ignore[arg-type]
    return [learning_rate_at(recipe, share, STEPS) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def test_constant_is_the_default_after_a_short_warm_up() -> None:
    assert rates() == [0.8] * 5
    assert rates(warmup=Recipe().warmup) == [0.0, *[0.8] * 4]


@pytest.mark.parametrize(("steps", "share"), [(10_000, 0.01), (1000, 0.1), (100, 0.15), (4, 0.15)])
def test_a_warm_up_of_100_steps_takes_at_most_15_percent_of_the_run(
    steps: int, share: float
) -> None:
    recipe = Recipe(warmup=100.0, learning_rate=0.8)

    assert learning_rate_at(recipe, share / 2, steps) == pytest.approx(0.4)
    assert learning_rate_at(recipe, share, steps) == 0.8


def test_linear_goes_to_zero() -> None:
    assert rates(schedule="linear") == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_cosine_is_half_way_in_the_middle_and_flat_at_both_ends() -> None:
    values = rates(schedule="cosine")

    assert values[2] == pytest.approx(0.4)
    assert values[0] - values[1] == pytest.approx(values[3] - values[4])
    assert values[0] - values[1] < values[1] - values[2]


def test_a_warm_up_rises_from_zero_and_the_schedule_fills_the_rest() -> None:
    assert rates(schedule="linear", warmup=0.5) == pytest.approx([0.0, 0.4, 0.8, 0.4, 0.0])
