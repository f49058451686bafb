"""Losses of one training step over its candidate items.

Sources: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (cross-entropy over the other targets
of the mini-batch and extra negatives, section 3.1; BPR-max with score regularization, section 3.3).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from training.model.sampling import CandidateCounts
from training.recipe import Recipe

MASKED_SCORE = -1e9  # its exponential is 0 beside any score, and it stays finite
SMALLEST = 1e-24  # keeps the logarithm finite where every negative has the higher score

# (scores, target indices, counts) → the sum over the rows, a scalar
Loss = Callable[[Tensor, Tensor, CandidateCounts | None], Tensor]


def loss_of(recipe: Recipe) -> Loss:
    """Return the recipe's loss function: `cross_entropy`, or `bpr_max` with its two settings."""
    if recipe.loss == "bpr-max":
        return partial(bpr_max, bpreg=recipe.bpreg, elu=recipe.elu)
    return cross_entropy


def cross_entropy(
    scores: Tensor, target_indices: Tensor, counts: CandidateCounts | None = None
) -> Tensor:
    """Return the softmax cross-entropy over the candidates, summed over the rows.

    −log(exp(r) / Σⱼ exp(rⱼ)) per row, r the score of the target (Hidasi and Karatzoglou, CIKM
    2018, arXiv:1706.03847, section 3.1).

    Args:
        scores: (rows, C) float32, one row per click; logQ correction already subtracted.
        target_indices: (rows,) int64, the candidate that is each row's target.
        counts: How often each candidate counts; None for once each.

    Returns:
        A scalar of the dtype of `scores`.
    """
    loss: Tensor = _SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        scores, target_indices, counts
    )
    # only one copy of the target is the numerator, whatever its count in the denominator
    return loss if counts is None else loss + counts.of_targets.to(scores.dtype).log().sum()


def bpr_max(
    scores: Tensor,
    target_indices: Tensor,
    counts: CandidateCounts | None = None,
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
        bpreg: Strength of the regularization, at least 0.
        elu: Alpha of the ELU on all scores, or 0 for no ELU.

    Returns:
        A scalar of the dtype of `scores`.
    """
    activated = functional.elu(scores, elu) if elu > 0 else scores
    index = target_indices.unsqueeze(1)
    target_scores = activated.gather(1, index)
    # finite, so that a row without any negative has weights too, and no gradient
    weighted, copies = activated, torch.full_like(target_scores, MASKED_SCORE)
    if counts is not None:
        weighted = counts.added_to(activated)
        further = (counts.of_targets - 1).to(scores.dtype).log().clamp(min=MASKED_SCORE)
        copies = target_scores + further.unsqueeze(1)  # copies of the target that are negatives
    weights = weighted.scatter(1, index, copies).clamp(min=MASKED_SCORE).softmax(dim=1)
    likelihood = (weights * torch.sigmoid(target_scores - activated)).sum(dim=1)
    penalty = (weights * activated.square()).sum(dim=1)
    return (bpreg * penalty - torch.log(likelihood + SMALLEST)).sum()


class _SoftmaxCrossEntropy(Function):
    """Cross-entropy that reuses the exponentials of its forward pass in its gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, target_indices: Tensor, counts: CandidateCounts | None
    ) -> Tensor:
        index = target_indices.unsqueeze(1)
        if counts is not None:
            scores = counts.added_to(scores)
        highest = scores.amax(dim=1, keepdim=True)
        exponentials = (scores - highest).exp_()
        total = exponentials.sum(dim=1, keepdim=True)
        ctx.save_for_backward(exponentials.div_(total), index)
        return (highest + total.log() - scores.gather(1, index)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        softmax, index = ctx.saved_tensors
        score_gradient = softmax.scatter_add(1, index, torch.full_like(softmax[:, :1], -1.0))
        return score_gradient.mul_(gradient), None, None
