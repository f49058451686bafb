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
    copies: list[int], of_targets: list[int], others: dict[tuple[int, int], int] | None = None
) -> CandidateCounts:
    """Return counts of each candidate, of each row's target, and of other (row, candidate)."""
    at = {
        (row, item): of_targets[row] for row, item in enumerate(TARGET.tolist()[: len(of_targets)])
    }
    at |= others or {}
    positions = torch.tensor([row * len(copies) + candidate for row, candidate in at])
    log_counts = torch.tensor(copies).log()
    log_changes = torch.tensor(list(at.values())).log() - log_counts[positions % len(copies)]
    return CandidateCounts(log_counts, positions, log_changes, torch.tensor(of_targets))


TARGET = torch.tensor([0, 1, 4])
# candidate 0 was sampled twice
SAMPLED = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)


def test_a_second_copy_of_the_target_is_no_negative_of_its_row_but_of_others() -> None:
    loss = cross_entropy(SAMPLED, TARGET[:2], counts_of([2, 1], of_targets=[1, 1]))

    first = -math.log(math.exp(1.0) / (math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (math.exp(0.5) + math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-6)


def test_unmasked_a_second_copy_of_the_target_is_a_negative_too() -> None:
    loss = cross_entropy(SAMPLED, TARGET[:2], counts_of([2, 1], of_targets=[2, 1]))

    first = -math.log(math.exp(1.0) / (2 * math.exp(1.0) + math.exp(0.0)))
    second = -math.log(math.exp(2.0) / (2 * math.exp(0.5) + math.exp(2.0)))
    assert loss.item() == pytest.approx(first + second, abs=1e-6)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "bpr-max": partial(bpr_max, bpreg=0.3, elu=0.0),
    "bpr-max with elu": partial(bpr_max, bpreg=0.3, elu=0.5),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_candidate_with_a_count_of_zero_does_not_count(loss: Loss) -> None:
    with_input = torch.cat([SAMPLED, torch.full((2, 1), 7.0, dtype=torch.float64)], dim=1)

    with_it = loss(with_input, TARGET[:2], counts_of([2, 1, 0], of_targets=[1, 1]))

    without = loss(SAMPLED, TARGET[:2], counts_of([2, 1], of_targets=[1, 1]))
    assert with_it.item() == pytest.approx(without.item(), abs=1e-6)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_count_equals_so_many_equal_candidates(loss: Loss, masked: bool) -> None:
    """The reference has a column for every copy, without the target's copies where masked."""
    torch.manual_seed(0)
    items, copies = torch.randn(3, 6, dtype=torch.float64), [3, 1, 2, 0, 2, 1]
    of_targets = [1, 1, 1] if masked else [3, 1, 2]

    value = loss(items, TARGET, counts_of(copies, of_targets))

    expected = 0.0
    for row, target in enumerate(TARGET.tolist()):
        others = [c for c in range(6) for _ in range(copies[c]) if c != target]
        others += [target] * (of_targets[row] - 1)
        written_out = items[row, [target, *others]].unsqueeze(0)
        expected += loss(written_out, torch.tensor([0]), None).item()
    assert value.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_row_can_have_counts_of_its_own(loss: Loss) -> None:
    """Candidate 4 does not count for the first row, and candidate 2 counts once."""
    torch.manual_seed(0)
    items, copies = torch.randn(3, 6, dtype=torch.float64), [1, 1, 2, 1, 1, 1]

    value = loss(items, TARGET, counts_of(copies, [1, 1, 1], {(0, 2): 1, (0, 4): 0}))

    first = loss(items[:1, [0, 1, 2, 3, 5]], torch.tensor([0]), None)
    rest = loss(items, TARGET, counts_of(copies, [1, 1, 1])) - loss(
        items[:1], TARGET[:1], counts_of(copies, [1])
    )
    assert value.item() == pytest.approx(first.item() + rest.item(), abs=1e-5)


@pytest.mark.parametrize("highest", [-1e4, 0.0, 1e4])
def test_cross_entropy_is_exact_at_any_level_of_the_scores(highest: float) -> None:
    scores = torch.tensor([[0.0, -200.0]]) + highest

    assert cross_entropy(scores, torch.tensor([1]), None).item() == pytest.approx(200.0)
    assert cross_entropy(scores, torch.tensor([0]), None).item() == pytest.approx(0.0)


SOME = counts_of([3, 1, 2, 1, 2, 1, 4], [1, 1, 2], {(0, 3): 0})


WEIGHTS = torch.tensor([1.0, 0.25, 6.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weights"])
@pytest.mark.parametrize("counts", [None, SOME], ids=["once", "counts"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_gradient_equals_finite_differences(
    loss: Loss, counts: CandidateCounts | None, weights: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda s: loss(s, TARGET, counts, weights), scores)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_weight_is_a_factor_of_the_loss_of_its_row(loss: Loss) -> None:
    scores = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    copies = [3, 1, 2, 1, 2, 1, 4]
    alone = [
        loss(scores[row : row + 1], TARGET[row : row + 1], counts_alone(copies, row))
        for row in range(3)
    ]

    weighted = loss(scores, TARGET, counts_of(copies, [1, 1, 1]), WEIGHTS)

    assert weighted.item() == pytest.approx(1.0 * alone[0] + 0.25 * alone[1] + 6.0 * alone[2])


def counts_alone(copies: list[int], row: int) -> CandidateCounts:
    """Return the counts of one row alone, whose target counts once."""
    log_counts = torch.tensor(copies).log()
    position = TARGET[row : row + 1]
    return CandidateCounts(log_counts, position, -log_counts[position], torch.tensor([1]))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bpr_max_equals_the_formula_written_out() -> None:
    """Checklist 4: weights over the negatives only, and the regularization."""
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)

    loss = bpr_max(scores, torch.tensor([0]), bpreg=0.3, elu=0.0)

    heavy, light = math.exp(1.0), math.exp(-0.5)
    first, second = heavy / (heavy + light), light / (heavy + light)
    won = first * sigmoid(2.0 - 1.0) + second * sigmoid(2.0 + 0.5)
    penalty = first * 1.0**2 + second * 0.5**2
    assert loss.item() == pytest.approx(-math.log(won) + 0.3 * penalty, abs=1e-12)


def test_bpr_max_applies_elu_to_the_scores() -> None:
    scores = torch.tensor([[2.0, 1.0, -0.5]], dtype=torch.float64)
    activated = torch.tensor([[2.0, 1.0, 0.5 * (math.exp(-0.5) - 1)]], dtype=torch.float64)
    target = torch.tensor([0])

    assert bpr_max(scores, target, bpreg=0.3, elu=0.5).item() == pytest.approx(
        bpr_max(activated, target, bpreg=0.3, elu=0.0).item(), abs=1e-12
    )


def test_bpr_max_stays_finite_where_every_negative_wins() -> None:
    scores = torch.tensor([[-900.0, 900.0]], dtype=torch.float64)

    assert torch.isfinite(bpr_max(scores, torch.tensor([0]), bpreg=0.0, elu=0.0))


@pytest.mark.parametrize("elu", [0.0, 0.5])
def test_bpr_max_of_a_row_without_negatives_has_neither_loss_nor_gradient(elu: float) -> None:
    scores = torch.tensor([[0.3, -2.0, 40.0]], dtype=torch.float64, requires_grad=True)

    loss = bpr_max(scores, torch.tensor([0]), counts_of([2, 0, 0], [1]), bpreg=1.0, elu=elu)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.item() == 0.0
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]


def test_the_recipe_chooses_the_loss() -> None:
    scores = torch.randn(3, 7)

    assert loss_of(Recipe())(scores, TARGET, SOME) == cross_entropy(scores, TARGET, SOME)
    chosen = loss_of(Recipe(loss="bpr-max", bpreg=0.2, elu=0.0))(scores, TARGET, SOME)
    assert chosen == bpr_max(scores, TARGET, SOME, bpreg=0.2, elu=0.0)
