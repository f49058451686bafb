"""The loss against matrices computed by hand, in float64."""

import math

import pytest
import torch

from training.losses import bpr_max, loss_of, sampled_cross_entropy
from training.recipe import Recipe


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


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bpr_max_equals_the_formula_written_out() -> None:
    """Checklist 4: weights over the negatives only, the regulariser, and no log of nothing."""
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)

    loss = bpr_max(scores, torch.tensor([4, 7, 9]), bpreg=0.3, elu=0.0)

    heavy, light = math.exp(1.0), math.exp(-0.5)
    first, second = heavy / (heavy + light), light / (heavy + light)
    won = first * sigmoid(2.0 - 1.0) + second * sigmoid(2.0 + 0.5)
    penalty = first * 1.0**2 + second * 0.5**2
    assert loss.item() == pytest.approx(-math.log(won) + 0.3 * penalty, abs=1e-12)


def test_bpr_max_bends_negative_scores_by_elu() -> None:
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)
    bent = torch.tensor([[2.0, 1.0, 0.5 * (math.exp(-0.5) - 1)]], dtype=torch.float64)
    columns = torch.tensor([4, 7, 9])

    assert bpr_max(scores, columns, 0.3, elu=0.5).item() == pytest.approx(
        bpr_max(bent, columns, 0.3, elu=0.0).item(), abs=1e-12
    )


def test_bpr_max_takes_no_accidental_hit_as_a_negative() -> None:
    with_hit = torch.tensor([[2.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    without = with_hit[:, [0, 1, 3]]

    first = bpr_max(with_hit, torch.tensor([4, 7, 4, 9]), 0.3, 0.0)
    second = bpr_max(without, torch.tensor([4, 7, 9]), 0.3, 0.0)

    assert first.item() == pytest.approx(second.item(), abs=1e-12)


def test_bpr_max_stays_finite_where_every_negative_wins() -> None:
    scores = torch.tensor([[-900.0, 900.0]], dtype=torch.float64)

    assert torch.isfinite(bpr_max(scores, torch.tensor([4, 7]), 0.0, 0.0))


def test_bpr_max_of_a_row_without_negatives_teaches_nothing() -> None:
    scores = torch.tensor([[0.3, 0.9]], dtype=torch.float64, requires_grad=True)

    loss = bpr_max(scores, torch.tensor([4, 4]), 0.0, 0.0)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert gradient.isfinite().all()


def test_the_gradient_of_bpr_max_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    columns = torch.tensor([1, 2, 1, 5, 6, 2, 9])

    assert torch.autograd.gradcheck(lambda s: bpr_max(s, columns, 0.7, 0.5), (scores,))


def test_the_recipe_chooses_the_loss() -> None:
    scores, columns = torch.randn(2, 5), torch.tensor([1, 2, 3, 4, 5])
    plain = torch.zeros(5)

    assert loss_of(Recipe())(scores, columns, plain) == sampled_cross_entropy(
        scores, columns, plain, 1.0
    )
    chosen = Recipe(loss="bpr-max", bpreg=0.2, elu=0.0)
    assert loss_of(chosen)(scores, columns, plain) == bpr_max(scores, columns, 0.2, 0.0)
