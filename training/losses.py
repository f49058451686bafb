"""The loss of one step, over the columns that its rows are scored against.

scores: (E, C), one row an event, one column an item of the step; target: (E,) int64, the column of
each row's target; hits: (E, C) bool, columns that hold a row's own target by accident and are no
negatives of it, or None where no item has two columns.

Sources: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847 (cross-entropy over in-batch and extra
negatives, section 3.1; BPR-max with its score regulariser, section 3.3).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from training.recipe import Recipe

NEVER = float("-inf")
LOWEST = -1e9  # its exponential is 0 beside any score
SMALLEST = 1e-24  # keeps the logarithm finite where every negative wins

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (scores, target, hits) → scalar


def loss_of(recipe: Recipe) -> Loss:
    """The recipe's loss; arguments as for the two functions below."""
    if recipe.loss == "bpr-max":
        return lambda scores, target, hits: bpr_max(scores, target, hits, recipe.bpreg, recipe.elu)
    return cross_entropy


def cross_entropy(scores: Tensor, target: Tensor, hits: Tensor | None) -> Tensor:
    """Softmax cross-entropy, summed over rows: −log softmax(scores)[target]."""
    if hits is not None:
        scores = scores.masked_fill(hits, NEVER)
    loss: Tensor = _SoftmaxCrossEntropy.apply(scores, target)  # type: ignore[no-untyped-call]
    return loss


class _SoftmaxCrossEntropy(Function):
    """With one pass of exponentials: the gradient is softmax − one-hot, made of the forward's."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor) -> Tensor:
        column = target.unsqueeze(1)
        highest = scores.amax(dim=1, keepdim=True)
        powers = (scores - highest).exp_()
        total = powers.sum(dim=1, keepdim=True)
        ctx.save_for_backward(powers.div_(total), column)
        return (highest + total.log() - scores.gather(1, column)).sum()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        share, column = ctx.saved_tensors
        into = share.scatter_add(1, column, torch.full_like(share[:, :1], -1.0))
        return into.mul_(gradient), None


def bpr_max(
    scores: Tensor, target: Tensor, hits: Tensor | None, bpreg: float, elu: float
) -> Tensor:
    """BPR-max, summed over rows: −log Σⱼ sⱼ·σ(r − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ².

    s: softmax of a row's scores over its negatives; r: the score of its target, rⱼ of a negative,
    through ELU(elu) where elu is above 0.
    """
    ranked = functional.elu(scores, elu) if elu > 0 else scores
    own = ranked.gather(1, target.unsqueeze(1))
    # finite, so that a row without any negative has weights too, and no gradient
    negatives = ranked.scatter(1, target.unsqueeze(1), LOWEST)
    if hits is not None:
        negatives = negatives.masked_fill(hits, LOWEST)
    weights = negatives.softmax(dim=1)
    won = (weights * torch.sigmoid(own - ranked)).sum(dim=1)
    penalty = (weights * ranked.square()).sum(dim=1)
    return (bpreg * penalty - torch.log(won + SMALLEST)).sum()
