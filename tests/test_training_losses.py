"""The loss against matrices computed by hand, in float64."""

import math

import pytest
import torch

from training.losses import sampled_cross_entropy


def test_cross_entropy_equals_the_formula_written_out() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
    columns = torch.tensor([4, 7, 9])

    loss = sampled_cross_entropy(scores, columns, torch.zeros(3, dtype=torch.float64), logq=1.0)

    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.0) + math.exp(0.5)))
    second = -math.log(math.exp(3.0) / (math.exp(0.0) + math.exp(3.0) + math.exp(-1.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def test_logq_subtracts_what_is_expected_of_a_column() -> None:
    scores = torch.zeros(1, 2, dtype=torch.float64)
    expected = torch.tensor([math.log(3.0), math.log(0.5)], dtype=torch.float64)

    full = sampled_cross_entropy(scores, torch.tensor([1, 2]), expected, logq=1.0)
    none = sampled_cross_entropy(scores, torch.tensor([1, 2]), expected, logq=0.0)

    assert full.item() == pytest.approx(-math.log((1 / 3) / (1 / 3 + 1 / 0.5)), abs=1e-12)
    assert none.item() == pytest.approx(math.log(2), abs=1e-12)


def test_a_column_that_holds_the_target_by_accident_is_no_negative() -> None:
    scores = torch.tensor([[1.0, 0.0, 1.0], [0.5, 2.0, 2.0]], dtype=torch.float64)
    columns = torch.tensor([4, 7, 4])  # column 2 is row 0's target again, row 1's negative

    loss = sampled_cross_entropy(scores, columns, torch.zeros(3, dtype=torch.float64), logq=1.0)

    first = -math.log(math.exp(1.0) / (math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (math.exp(0.5) + math.exp(2.0) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    columns = torch.tensor([1, 2, 1, 5, 6, 2, 9])
    expected = torch.randn(7, dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda s: sampled_cross_entropy(s, columns, expected, logq=0.7), (scores,)
    )
