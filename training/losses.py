"""The loss of one step, over the columns that its rows are scored against.

scores: (E, C), one row an event, one column an item of the step; target: (E,) int64, the column of
each row's target; copies: (C,) int64, how often a column counts, or None for once each. Copies of
a row's own target beside the one that is its target are accidental hits: masked or, as published,
negatives like any other.

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

from training.recipe import Recipe

LOWEST = -1e9  # its exponential is 0 beside any score
SMALLEST = 1e-24  # keeps the logarithm finite where every negative wins

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (scores, target, copies) → scalar


def loss_of(recipe: Recipe) -> Loss:
    """The recipe's loss; arguments as for the two functions below."""
    if recipe.loss == "bpr-max":
        return partial(bpr_max, bpreg=recipe.bpreg, elu=recipe.elu, mask=recipe.mask)
    return partial(cross_entropy, mask=recipe.mask)


def cross_entropy(
    scores: Tensor, target: Tensor, copies: Tensor | None = None, *, mask: bool = True
) -> Tensor:
    """Softmax cross-entropy, summed over rows: −log of the target's share of all exponentials."""
    if copies is None:
        return _softmax_cross_entropy(scores, target)
    more = copies.to(
        scores.dtype
    ).log()  # m equal columns weigh what one does whose score is +log m
    own = more[target].unsqueeze(1)
    if mask:
        return _softmax_cross_entropy(
            (scores + more).scatter_add(1, target.unsqueeze(1), -own), target
        )
    return _softmax_cross_entropy(scores + more, target) + own.sum()


def bpr_max(
    scores: Tensor,
    target: Tensor,
    copies: Tensor | None = None,
    *,
    bpreg: float,
    elu: float,
    mask: bool = True,
) -> Tensor:
    """BPR-max, summed over rows: −log Σⱼ sⱼ·σ(r − rⱼ) + bpreg · Σⱼ sⱼ·rⱼ².

    s: softmax of a row's scores over its negatives; r: the score of its target, rⱼ of a negative,
    through ELU(elu) where elu is above 0.
    """
    ranked = functional.elu(scores, elu) if elu > 0 else scores
    column = target.unsqueeze(1)
    own = ranked.gather(1, column)
    # finite, so that a row without any negative has weights too, and no gradient
    negatives, hits = ranked, torch.full_like(own, LOWEST)
    if copies is not None:
        counted = copies.to(scores.dtype)
        negatives = ranked + counted.log().clamp(min=LOWEST)
        if not mask:
            hits = own + (counted[column] - 1).log().clamp(min=LOWEST)
    weights = negatives.scatter(1, column, hits).softmax(dim=1)
    won = (weights * torch.sigmoid(own - ranked)).sum(dim=1)
    penalty = (weights * ranked.square()).sum(dim=1)
    return (bpreg * penalty - torch.log(won + SMALLEST)).sum()


def _softmax_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
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
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        share, column = ctx.saved_tensors
        into = share.scatter_add(1, column, torch.full_like(share[:, :1], -1.0))
        return into.mul_(gradient), None
