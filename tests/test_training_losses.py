"""The loss against matrices computed by hand, in float64."""

import math
from functools import partial

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


DRAWN = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)  # column 0 was drawn twice
COPIES = torch.tensor([2, 1])
OWN = torch.tensor([0, 1])


def test_a_second_copy_of_the_target_is_no_negative_of_its_row_but_of_others() -> None:
    loss = cross_entropy(DRAWN, OWN, COPIES)

    first = -math.log(math.exp(1.0) / (math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (math.exp(0.5) + math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def test_unmasked_a_second_copy_of_the_target_is_a_negative_too() -> None:
    loss = cross_entropy(DRAWN, OWN, COPIES, mask=False)

    first = -math.log(math.exp(1.0) / (2 * math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (2 * math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def test_a_column_that_was_only_clicked_is_no_column() -> None:
    clicked = torch.tensor([[1.0, 0.0, 7.0], [0.5, 2.0, 7.0]], dtype=torch.float64)
    copies = torch.tensor([2, 1, 0])

    for mask in (True, False):
        for loss in (cross_entropy, partial(bpr_max, bpreg=0.3, elu=0.0)):
            with_it = loss(clicked, OWN, copies, mask=mask)
            assert with_it.item() == pytest.approx(loss(DRAWN, OWN, COPIES, mask=mask).item())


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("elu", [0.0, 0.5])
def test_copies_are_what_equal_columns_would_be(mask: bool, elu: float) -> None:
    """Column for column as published: targets, then draws; hits masked by hand where asked."""
    torch.manual_seed(0)
    items, columns = torch.randn(4, 6, dtype=torch.float64), torch.tensor([2, 0, 0, 3, 2, 5, 0, 3])
    target, rows = columns[:4], torch.arange(4)
    written_out = items[:, columns]
    hits = (target.unsqueeze(1) == columns) & (torch.arange(8) != rows.unsqueeze(1))
    masked = written_out.masked_fill(hits, -1e9) if mask else written_out
    copies = torch.bincount(columns, minlength=6)

    assert cross_entropy(items, target, copies, mask=mask).item() == pytest.approx(
        torch.nn.functional.cross_entropy(masked, rows, reduction="sum").item(), abs=1e-12
    )
    ranked = torch.nn.functional.elu(written_out, elu) if elu else written_out
    others = ranked.scatter(1, rows.unsqueeze(1), -1e9)
    weights = (others.masked_fill(hits, -1e9) if mask else others).softmax(1)
    won = (weights * torch.sigmoid(ranked[rows, rows].unsqueeze(1) - ranked)).sum(1)
    expected = (0.3 * (weights * ranked**2).sum(1) - won.log()).sum()
    assert bpr_max(items, target, copies, bpreg=0.3, elu=elu, mask=mask).item() == pytest.approx(
        expected.item(), abs=1e-12
    )


@pytest.mark.parametrize("highest", [-1e4, 0.0, 1e4])
def test_cross_entropy_is_exact_wherever_the_scores_lie(highest: float) -> None:
    scores = torch.tensor([[0.0, -200.0]]) + highest

    assert cross_entropy(scores, torch.tensor([1]), None).item() == pytest.approx(200.0)
    assert cross_entropy(scores, torch.tensor([0]), None).item() == pytest.approx(0.0)


SOME = torch.tensor([3, 1, 2, 1, 0, 1, 4])
TARGET = torch.tensor([2, 0, 5])


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("copies", [None, SOME], ids=["once", "copies"])
def test_the_gradient_is_that_of_finite_differences(
    copies: torch.Tensor | None, mask: bool
) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda s: cross_entropy(s, TARGET, copies, mask=mask), scores)
    assert torch.autograd.gradcheck(
        lambda s: bpr_max(s, TARGET, copies, bpreg=0.7, elu=0.5, mask=mask), scores
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bpr_max_equals_the_formula_written_out() -> None:
    """Checklist 4: weights over the negatives only, the regulariser, and no log of nothing."""
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)

    loss = bpr_max(scores, torch.tensor([0]), bpreg=0.3, elu=0.0)

    heavy, light = math.exp(1.0), math.exp(-0.5)
    first, second = heavy / (heavy + light), light / (heavy + light)
    won = first * sigmoid(2.0 - 1.0) + second * sigmoid(2.0 + 0.5)
    penalty = first * 1.0**2 + second * 0.5**2
    assert loss.item() == pytest.approx(-math.log(won) + 0.3 * penalty, abs=1e-12)


def test_bpr_max_bends_negative_scores_by_elu() -> None:
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)
    bent = torch.tensor([[2.0, 1.0, 0.5 * (math.exp(-0.5) - 1)]], dtype=torch.float64)
    target = torch.tensor([0])

    assert bpr_max(scores, target, bpreg=0.3, elu=0.5).item() == pytest.approx(
        bpr_max(bent, target, bpreg=0.3, elu=0.0).item(), abs=1e-12
    )


def test_bpr_max_stays_finite_where_every_negative_wins() -> None:
    scores = torch.tensor([[-900.0, 900.0]], dtype=torch.float64)

    assert torch.isfinite(bpr_max(scores, torch.tensor([0]), bpreg=0.0, elu=0.0))


def test_bpr_max_of_a_row_without_negatives_teaches_nothing() -> None:
    scores = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)

    loss = bpr_max(scores, torch.tensor([0]), torch.tensor([2]), bpreg=0.0, elu=0.0)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("mask", [True, False])
def test_the_recipe_chooses_the_loss(mask: bool) -> None:
    scores = torch.randn(3, 7)

    plain = loss_of(Recipe(mask=mask))(scores, TARGET, SOME)
    assert plain == cross_entropy(scores, TARGET, SOME, mask=mask)
    chosen = loss_of(Recipe(loss="bpr-max", bpreg=0.2, elu=0.0, mask=mask))(scores, TARGET, SOME)
    assert chosen == bpr_max(scores, TARGET, SOME, bpreg=0.2, elu=0.0, mask=mask)
