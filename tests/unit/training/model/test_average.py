import pytest
import torch

from recsys.model.gru4rec import ModelSize
from training.model.optim import AVERAGING_STEPS, ExponentialMovingAverage
from training.model.weights import Weights


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
