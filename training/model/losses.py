"""Losses of one training step over its candidate items.

Sources: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (cross-entropy over the other targets
of the mini-batch and extra negatives, section 3.1; BPR-max with score regularization, section 3.3).
"""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from training.model.sampling import CandidateCounts
from training.recipe import Recipe

MASKED_SCORE = -1e9  # its exponential is 0 beside any score, and it stays finite
SMALLEST = 1e-24  # keeps the logarithm finite where every negative has the higher score


class Loss(Protocol):
    """Loss function, summed over the rows: a scalar. Arguments as for `cross_entropy`."""

    def __call__(
        self,
        scores: Tensor,
        target_indices: Tensor,
        counts: CandidateCounts | None = None,
        weights: Tensor | None = None,
    ) -> Tensor: ...


def loss_of(recipe: Recipe) -> Loss:
    """Return the recipe's loss function: `cross_entropy`, or `bpr_max` with its two settings."""
    if recipe.loss == "bpr-max":
        return partial(bpr_max, bpreg=recipe.bpreg, elu=recipe.elu)
    return cross_entropy


def cross_entropy(
    scores: Tensor,
    target_indices: Tensor,
    counts: CandidateCounts | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the softmax cross-entropy over the candidates, summed over the rows.

    −log(exp(r) / Σⱼ exp(rⱼ)) per row, r the score of the target (Hidasi and Karatzoglou, CIKM
    2018, arXiv:1706.03847, section 3.1).

    Args:
        scores: (rows, C) float32, one row per click; logQ correction already subtracted.
        target_indices: (rows,) int64, the candidate that is each row's target.
        counts: How often each candidate counts; None for once each.
        weights: (rows,) float32, factors of the rows' losses; None for 1.

    Returns:
        A scalar of the dtype of `scores`.
    """
    loss: Tensor = _SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        scores, target_indices, counts, weights
    )
    if counts is None:
        return loss
    # only one copy of the target is the numerator, whatever its count in the denominator
    copies = counts.of_targets.to(scores.dtype).log()
    return loss + (copies if weights is None else copies * weights).sum()


def bpr_max(
    scores: Tensor,
    target_indices: Tensor,
    counts: CandidateCounts | None = None,
    weights: Tensor | None = None,
    *,
    bpreg: float,
    elu: float,
) -> Tensor:
    """Return BPR-max with score regularization, summed over the rows.

    −log Σⱼ sⱼ·σ(r − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ² per row, s the softmax of the row's scores over its
    negatives, r the score of its target, rⱼ of a negative (Hidasi and Karatzoglou, CIKM 2018,
    arXiv:1706.03847, section 3.3).

    Args:
        scores: (rows, C) float32, one row per click.
        target_indices: (rows,) int64, the candidate that is each row's target.
        counts: How often each candidate counts; None for once each.
        weights: (rows,) float32, factors of the rows' losses; None for 1.
        bpreg: Strength of the regularization, at least 0.
        elu: Alpha of the ELU on all scores, or 0 for no ELU.

    Returns:
        A scalar of the dtype of `scores`.
    """
    loss: Tensor = _BPRMax.apply(  # type: ignore[no-untyped-call]
        scores, target_indices, counts, weights, bpreg, elu
    )
    return loss


class _SoftmaxCrossEntropy(Function):
    """Cross-entropy that reuses the exponentials of its forward pass in its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        target_indices: Tensor,
        counts: CandidateCounts | None,
        weights: Tensor | None,
    ) -> Tensor:
        index = target_indices.unsqueeze(1)
        shifted = scores.clone() if counts is None else counts.added_to(scores)
        shifted.sub_(shifted.amax(dim=1, keepdim=True))
        target = shifted.gather(1, index)
        total = shifted.exp_().sum(dim=1, keepdim=True)
        ctx.save_for_backward(shifted, total, index, weights)
        return _weighted(total.log() - target, weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        exponentials, total, index, weights = ctx.saved_tensors
        gradient = _weighted(gradient.expand_as(total), weights)
        score_gradient = exponentials * (gradient / total)
        score_gradient.scatter_add_(1, index, -gradient)
        return score_gradient, None, None, None


class _BPRMax(Function):
    """BPR-max with its gradient written out, which needs half the passes over the scores.

    With e the scores after the ELU, s their softmax over the negatives, q = σ(e_target − e),
    L = Σ s·q + `SMALLEST` and P = Σ s·e², the gradient of bpreg·P − log L in e is

        s·(bpreg·e·(e + 2) − q²/L − bpreg·P + Σ s·q / L),   and for the target − Σ s·q·(1 − q) / L
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        target_indices: Tensor,
        counts: CandidateCounts | None,
        row_weights: Tensor | None,
        bpreg: float,
        elu: float,
    ) -> Tensor:
        index = target_indices.unsqueeze(1)
        activated = functional.elu(scores, elu) if elu > 0 else scores
        target = activated.gather(1, index)
        weights, copies = activated, torch.full_like(target, MASKED_SCORE)
        if counts is not None:
            weights = counts.added_to(activated)
            further = (counts.of_targets - 1).to(scores.dtype).log().clamp(min=MASKED_SCORE)
            copies = target + further.unsqueeze(1)  # copies of the target that are negatives
        weights = weights.scatter(1, index, copies).clamp_(min=MASKED_SCORE)
        highest = weights.amax(dim=1, keepdim=True)
        lonely = highest <= MASKED_SCORE / 2  # rows without any negative
        weights.sub_(highest).exp_()
        weights.div_(weights.sum(dim=1, keepdim=True))
        wins = torch.sub(target, activated).sigmoid_()
        weighted = weights * wins
        likelihood = weighted.sum(dim=1, keepdim=True)
        squared = weighted.mul_(wins).sum(dim=1, keepdim=True)  # Σ s·q²
        penalty = torch.mul(activated, activated, out=weighted).mul_(weights)
        penalty = penalty.sum(dim=1, keepdim=True)
        if lonely.any():  # they have neither loss nor gradient
            weights.masked_fill_(lonely, 0.0)
            likelihood, squared = (t.masked_fill_(lonely, 1.0) for t in (likelihood, squared))
            penalty.masked_fill_(lonely, 0.0)
        ctx.save_for_backward(
            activated, weights, wins, index, likelihood, squared, penalty, row_weights
        )
        ctx.bpreg, ctx.elu = bpreg, elu
        return _weighted(bpreg * penalty - torch.log(likelihood + SMALLEST), row_weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        activated, weights, wins, index, likelihood, squared, penalty, row_weights = saved
        inverse = 1 / (likelihood + SMALLEST)
        constant = likelihood * inverse - ctx.bpreg * penalty
        result = activated + 2
        result.mul_(activated).mul_(ctx.bpreg).addcmul_(wins * wins, inverse, value=-1)
        result.add_(constant).mul_(weights)
        result.scatter_add_(1, index, (squared - likelihood) * inverse)
        if ctx.elu > 0:  # its derivative is 1 above 0, and the activated score + alpha below
            result.mul_(torch.where(activated > 0, 1.0, activated + ctx.elu))
        if row_weights is not None:
            gradient = gradient * row_weights.unsqueeze(1)
        return result.mul_(gradient), None, None, None, None, None


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the rows' values, (rows, 1), times their weights, (rows,)."""
    return values if weights is None else values * weights.unsqueeze(1)
