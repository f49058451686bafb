import math

import pytest
import torch

from training.optim import EPSILON, Adagrad


def test_the_first_step_divides_by_the_gradient_alone() -> None:
    """The accumulator starts at 0 (checklist 6), and ε stands inside the root."""
    weight = torch.tensor([1.0])
    Adagrad.of(weight, rate=0.1, momentum=0).step(torch.tensor([2.0]))

    assert weight.item() == pytest.approx(1 - 0.1 * 2 / math.sqrt(4 + EPSILON))


def test_the_second_step_divides_by_the_root_of_both_squares() -> None:
    weight = torch.tensor([0.0])
    mover = Adagrad.of(weight, rate=0.1, momentum=0)
    mover.step(torch.tensor([3.0]))
    mover.step(torch.tensor([4.0]))

    assert weight.item() == pytest.approx(-0.1 * (3 / 3 + 4 / 5), abs=1e-6)


def test_momentum_is_a_heavy_ball() -> None:
    weight = torch.tensor([0.0])
    mover = Adagrad.of(weight, rate=0.1, momentum=0.5)
    mover.step(torch.tensor([3.0]))
    mover.step(torch.tensor([4.0]))

    first = -0.1 * 3 / 3
    second = 0.5 * first - 0.1 * 4 / 5
    assert weight.item() == pytest.approx(first + second, abs=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_rows_step_as_the_dense_weight_would(momentum: float) -> None:
    """Rows a batch does not touch keep weight, accumulator and velocity."""
    dense, sparse = torch.arange(8.0).reshape(4, 2), torch.arange(8.0).reshape(4, 2)
    whole, rows = Adagrad.of(dense, 0.1, momentum), Adagrad.of(sparse, 0.1, momentum)
    touched = torch.tensor([3, 1])
    for gradient in (torch.tensor([[1.0, -2.0], [0.5, 4.0]]), torch.tensor([[2.0, 2.0], [1.0, 0]])):
        full = torch.zeros(4, 2)
        full[touched] = gradient
        whole.step(full)
        rows.step_rows(touched, sparse[touched], gradient)

    torch.testing.assert_close(sparse, dense)
