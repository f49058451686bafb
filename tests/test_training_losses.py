"""The loss against matrices computed by hand, in float64."""

import math

import pytest
import torch

from training.losses import bpr_max, cross_entropy, loss_of
from training.recipe import Recipe


def test_cross_entropy_equals_the_formula_written_out() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)

    loss = cross_entropy(scores, torch.tensor([0, 2]), None)

    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.0) + math.exp(0.5)))
    second = -math.log(math.exp(-1.0) / (math.exp(0.0) + math.exp(3.0) + math.exp(-1.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def test_a_column_that_holds_the_target_by_accident_is_no_negative() -> None:
    scores = torch.tensor([[1.0, 0.0, 1.0], [0.5, 2.0, 2.0]], dtype=torch.float64)
    hits = torch.tensor([[False, False, True], [False, False, False]])

    loss = cross_entropy(scores, torch.tensor([0, 1]), hits)

    first = -math.log(math.exp(1.0) / (math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (math.exp(0.5) + math.exp(2.0) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


@pytest.mark.parametrize("highest", [-1e4, 0.0, 1e4])
def test_cross_entropy_is_exact_wherever_the_scores_lie(highest: float) -> None:
    scores = torch.tensor([[0.0, -200.0]]) + highest

    assert cross_entropy(scores, torch.tensor([1]), None).item() == pytest.approx(200.0)
    assert cross_entropy(scores, torch.tensor([0]), None).item() == pytest.approx(0.0)


HITS = torch.zeros(3, 7, dtype=torch.bool)
HITS[1, 4] = HITS[2, 0] = True
TARGET = torch.tensor([2, 0, 5])


@pytest.mark.parametrize("hits", [None, HITS], ids=["none", "hits"])
def test_the_gradient_is_that_of_finite_differences(hits: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda s: cross_entropy(s, TARGET, hits), (scores,))
    assert torch.autograd.gradcheck(lambda s: bpr_max(s, TARGET, hits, 0.7, 0.5), (scores,))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bpr_max_equals_the_formula_written_out() -> None:
    """Checklist 4: weights over the negatives only, the regulariser, and no log of nothing."""
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)

    loss = bpr_max(scores, torch.tensor([0]), None, bpreg=0.3, elu=0.0)

    heavy, light = math.exp(1.0), math.exp(-0.5)
    first, second = heavy / (heavy + light), light / (heavy + light)
    won = first * sigmoid(2.0 - 1.0) + second * sigmoid(2.0 + 0.5)
    penalty = first * 1.0**2 + second * 0.5**2
    assert loss.item() == pytest.approx(-math.log(won) + 0.3 * penalty, abs=1e-12)


def test_bpr_max_bends_negative_scores_by_elu() -> None:
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)
    bent = torch.tensor([[2.0, 1.0, 0.5 * (math.exp(-0.5) - 1)]], dtype=torch.float64)
    target = torch.tensor([0])

    assert bpr_max(scores, target, None, 0.3, elu=0.5).item() == pytest.approx(
        bpr_max(bent, target, None, 0.3, elu=0.0).item(), abs=1e-12
    )


def test_bpr_max_takes_no_accidental_hit_as_a_negative() -> None:
    with_hit = torch.tensor([[2.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    without = with_hit[:, [0, 1, 3]]

    hits = torch.tensor([[False, False, True, False]])

    first = bpr_max(with_hit, torch.tensor([0]), hits, 0.3, 0.0)
    second = bpr_max(without, torch.tensor([0]), None, 0.3, 0.0)

    assert first.item() == pytest.approx(second.item(), abs=1e-12)


def test_bpr_max_stays_finite_where_every_negative_wins() -> None:
    scores = torch.tensor([[-900.0, 900.0]], dtype=torch.float64)

    assert torch.isfinite(bpr_max(scores, torch.tensor([0]), None, 0.0, 0.0))


def test_bpr_max_of_a_row_without_negatives_teaches_nothing() -> None:
    scores = torch.tensor([[0.3, 0.9]], dtype=torch.float64, requires_grad=True)

    loss = bpr_max(scores, torch.tensor([0]), torch.tensor([[False, True]]), 0.0, 0.0)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert gradient.isfinite().all()


def test_the_recipe_chooses_the_loss() -> None:
    scores = torch.randn(3, 7)

    plain = cross_entropy(scores, TARGET, HITS)
    assert loss_of(Recipe())(scores, TARGET, HITS) == plain
    chosen = Recipe(loss="bpr-max", bpreg=0.2, elu=0.0)
    assert loss_of(chosen)(scores, TARGET, HITS) == bpr_max(scores, TARGET, HITS, 0.2, 0.0)
