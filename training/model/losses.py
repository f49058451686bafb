"""The loss of one step, over the columns that its rows are scored against.

scores: (E, C), one row an event, one column an item of the step; target: (E,) int64, the column of
each row's target; counts: how often each column counts, None for once each.

Sources: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (cross-entropy over in-batch and extra
negatives, section 3.1; BPR-max with its score regulariser, section 3.3).
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

LOWEST = -1e9  # its exponential is 0 beside any score
SMALLEST = 1e-24  # keeps the logarithm finite where every negative wins

Loss = Callable[
    [Tensor, Tensor, CandidateCounts | None], Tensor
]  # (scores, target, counts) → scalar


def loss_of(recipe: Recipe) -> Loss:
    """The recipe's loss; arguments as for the two functions below."""
    if recipe.loss == "bpr-max":
        return partial(bpr_max, bpreg=recipe.bpreg, elu=recipe.elu)
    return cross_entropy


def cross_entropy(scores: Tensor, target: Tensor, counts: CandidateCounts | None = None) -> Tensor:
    """Softmax cross-entropy, summed over rows: −log(exp(r) / Σ exp(rⱼ)), r the target's score."""
    loss: Tensor = _SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        scores, target, counts
    )
    # of the target's copies one is the target, which alone stands above the fraction
    return loss if counts is None else loss + counts.own.to(scores.dtype).log().sum()


def bpr_max(
    scores: Tensor,
    target: Tensor,
    counts: CandidateCounts | None = None,
    *,
    bpreg: float,
    elu: float,
) -> Tensor:
    """BPR-max, summed over rows: −log Σⱼ sⱼ·σ(r − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ².

    s: softmax of a row's scores over its negatives; r: the score of its target, rⱼ of a negative,
    through ELU(elu) where elu is above 0.
    """
    ranked = functional.elu(scores, elu) if elu > 0 else scores
    column = target.unsqueeze(1)
    own = ranked.gather(1, column)
    # finite, so that a row without any negative has weights too, and no gradient
    counted, hits = ranked, torch.full_like(own, LOWEST)
    if counts is not None:
        counted = counts.added_to(ranked)
        further = (counts.own - 1).to(scores.dtype).log().clamp(min=LOWEST).unsqueeze(1)
        hits = own + further  # copies of the target that are taken for negatives
    weights = counted.scatter(1, column, hits).clamp(min=LOWEST).softmax(dim=1)
    won = (weights * torch.sigmoid(own - ranked)).sum(dim=1)
    penalty = (weights * ranked.square()).sum(dim=1)
    return (bpreg * penalty - torch.log(won + SMALLEST)).sum()


class _SoftmaxCrossEntropy(Function):
    """With one pass of exponentials: the gradient is softmax − one-hot, made of the forward's."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor, counts: CandidateCounts | None) -> Tensor:
        column = target.unsqueeze(1)
        if counts is not None:
            scores = counts.added_to(scores)
        highest = scores.amax(dim=1, keepdim=True)
        powers = (scores - highest).exp_()
        total = powers.sum(dim=1, keepdim=True)
        ctx.save_for_backward(powers.div_(total), column)
        return (highest + total.log() - scores.gather(1, column)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        share, column = ctx.saved_tensors
        into = share.scatter_add(1, column, torch.full_like(share[:, :1], -1.0))
        return into.mul_(gradient), None, None
