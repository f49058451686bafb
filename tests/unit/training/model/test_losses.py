"""The loss against matrices computed by hand, in float64."""

import math
from functools import partial

import pytest
import torch

from training.model.losses import Loss, bpr_max, cross_entropy, loss_of
from training.model.sampling import CandidateCounts
from training.recipe import Recipe


def test_cross_entropy_equals_the_formula_written_out() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)

    loss = cross_entropy(scores, torch.tensor([0, 2]), None)

    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.0) + math.exp(0.5)))
    second = -math.log(math.exp(-1.0) / (math.exp(0.0) + math.exp(3.0) + math.exp(-1.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


def counts_of(
    copies: list[int], own: list[int], apart: dict[tuple[int, int], int] | None = None
) -> CandidateCounts:
    """copies: of each column; own: of each row's target; apart: of other entries (row, column)."""
    at = {(row, target): own[row] for row, target in enumerate(TARGET.tolist()[: len(own)])}
    at |= apart or {}
    places = torch.tensor([row * len(copies) + column for row, column in at])
    columns = torch.tensor(copies).log()
    more = torch.tensor(list(at.values())).log() - columns[places % len(copies)]
    return CandidateCounts(columns, places, more, torch.tensor(own))


TARGET = torch.tensor([0, 1, 4])
DRAWN = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)  # column 0 was drawn twice


def test_a_second_copy_of_the_target_is_no_negative_of_its_row_but_of_others() -> None:
    loss = cross_entropy(DRAWN, TARGET[:2], counts_of([2, 1], own=[1, 1]))

    first = -math.log(math.exp(1.0) / (math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (math.exp(0.5) + math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-6)


def test_unmasked_a_second_copy_of_the_target_is_a_negative_too() -> None:
    loss = cross_entropy(DRAWN, TARGET[:2], counts_of([2, 1], own=[2, 1]))

    first = -math.log(math.exp(1.0) / (2 * math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (2 * math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-6)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "bpr-max": partial(bpr_max, bpreg=0.3, elu=0.0),
    "bpr-max with elu": partial(bpr_max, bpreg=0.3, elu=0.5),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_column_without_copies_is_no_column(loss: Loss) -> None:
    clicked = torch.cat([DRAWN, torch.full((2, 1), 7.0, dtype=torch.float64)], dim=1)

    with_it = loss(clicked, TARGET[:2], counts_of([2, 1, 0], own=[1, 1]))

    without = loss(DRAWN, TARGET[:2], counts_of([2, 1], own=[1, 1]))
    assert with_it.item() == pytest.approx(without.item(), abs=1e-6)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_copies_are_what_equal_columns_would_be(loss: Loss, masked: bool) -> None:
    """Against the loss column for column: every copy a column, hits left out where masked."""
    torch.manual_seed(0)
    items, copies = torch.randn(3, 6, dtype=torch.float64), [3, 1, 2, 0, 2, 1]
    own = [1, 1, 1] if masked else [3, 1, 2]

    found = loss(items, TARGET, counts_of(copies, own))

    expected = 0.0
    for row, target in enumerate(TARGET.tolist()):
        others = [c for c in range(6) for _ in range(copies[c]) if c != target]
        others += [target] * (own[row] - 1)
        written_out = items[row, [target, *others]].unsqueeze(0)
        expected += loss(written_out, torch.tensor([0]), None).item()
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_row_can_have_columns_of_its_own(loss: Loss) -> None:
    """Columns 2 and 4 do not count for the first row: what its own session put there."""
    torch.manual_seed(0)
    items, copies = torch.randn(3, 6, dtype=torch.float64), [1, 1, 2, 1, 1, 1]

    found = loss(items, TARGET, counts_of(copies, [1, 1, 1], {(0, 2): 1, (0, 4): 0}))

    first = loss(items[:1, [0, 1, 2, 3, 5]], torch.tensor([0]), None)
    rest = loss(items, TARGET, counts_of(copies, [1, 1, 1])) - loss(
        items[:1], TARGET[:1], counts_of(copies, [1])
    )
    assert found.item() == pytest.approx(first.item() + rest.item(), abs=1e-5)


@pytest.mark.parametrize("highest", [-1e4, 0.0, 1e4])
def test_cross_entropy_is_exact_wherever_the_scores_lie(highest: float) -> None:
    scores = torch.tensor([[0.0, -200.0]]) + highest

    assert cross_entropy(scores, torch.tensor([1]), None).item() == pytest.approx(200.0)
    assert cross_entropy(scores, torch.tensor([0]), None).item() == pytest.approx(0.0)


SOME = counts_of([3, 1, 2, 1, 2, 1, 4], [1, 1, 2], {(0, 3): 0})


@pytest.mark.parametrize("counts", [None, SOME], ids=["once", "counts"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_that_of_finite_differences(
    loss: Loss, counts: CandidateCounts | None
) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda s: loss(s, TARGET, counts), scores)


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

    loss = bpr_max(scores, torch.tensor([0]), counts_of([2], [1]), bpreg=0.0, elu=0.0)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert gradient.isfinite().all()


def test_the_recipe_chooses_the_loss() -> None:
    scores = torch.randn(3, 7)

    assert loss_of(Recipe())(scores, TARGET, SOME) == cross_entropy(scores, TARGET, SOME)
    chosen = loss_of(Recipe(loss="bpr-max", bpreg=0.2, elu=0.0))(scores, TARGET, SOME)
    assert chosen == bpr_max(scores, TARGET, SOME, bpreg=0.2, elu=0.0)
