import pytest
import torch

from recsys.model.gru4rec import ModelSize
from training.model.optim import STEPS_BETWEEN, ExponentialMovingAverage
from training.model.weights import Weights


def moved(average: ExponentialMovingAverage, weights: Weights, values: list[float]) -> float:
    """The average of one number that takes these values, each for as long as none is read."""
    for value in values:
        weights.matrix.fill_(value)
        for _ in range(STEPS_BETWEEN):
            average.follow()
    return float(average.weights.matrix[0, 0])


def fresh() -> Weights:
    return Weights.fresh(ModelSize(items=3, hidden=2), torch.Generator().manual_seed(0))


def test_at_first_it_is_the_plain_mean() -> None:
    weights = fresh()

    assert moved(
        ExponentialMovingAverage(weights, 0.9999), weights, [1.0, 2.0, 6.0]
    ) == pytest.approx(3.0)


def test_later_it_forgets_as_its_decay_says() -> None:
    weights = fresh()
    average = ExponentialMovingAverage(weights, 0.5 ** (1 / STEPS_BETWEEN))  # half of it every time

    assert moved(average, weights, [8.0, 4.0, 2.0]) == pytest.approx((6.0 + 2.0) / 2)


def test_the_moving_weights_stay_what_they_are() -> None:
    weights = fresh()
    moved(ExponentialMovingAverage(weights, 0.9), weights, [1.0, 5.0])

    assert (weights.matrix == 5.0).all()
