"""Directions of item vectors in training, with their gradient in three passes.

Autograd of `recsys.model.gru4rec.unit` needs three times as many passes over the rows of a step.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recsys.model.gru4rec import MIN_LENGTH


def unit_rows(vectors: Tensor) -> Tensor:
    """Return the rows scaled to length 1, as `recsys.model.gru4rec.unit` does.

    Args:
        vectors: (rows, H) float32.

    Returns:
        (rows, H) float32; a row shorter than `MIN_LENGTH` becomes zeros and has no gradient.
    """
    directions: Tensor = _UnitRows.apply(vectors)  # type: ignore[no-untyped-call]
    return directions


class _UnitRows(Function):
    """y = x / |x|; the gradient of x is (g − (g·y) y) / |x|."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        inverse = torch.where(length > MIN_LENGTH, 1 / length.clamp(min=MIN_LENGTH), 0.0)
        directions = vectors * inverse
        ctx.save_for_backward(directions, inverse)
        return directions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        directions, inverse = ctx.saved_tensors
        along = (gradient * directions).sum(dim=1, keepdim=True)
        return torch.addcmul(gradient, directions, along, value=-1).mul_(inverse)
