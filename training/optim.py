"""Adagrad with momentum, for dense weights and for the rows of a matrix that a batch touched.

    a ← a + g²        v ← m·v − η·g/√(a + ε)        p ← p + v

The accumulator starts at 0 and ε = 1e-6 stands inside the root. Rows that a batch does not touch
keep their weights, accumulator and velocity.
Source: Duchi et al., JMLR 2011 (Adagrad); momentum as in arXiv:1706.03847's experiments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6


@dataclass
class Adagrad:
    """The moving numbers beside one tensor; `velocity` is None without momentum."""

    weight: Tensor
    rate: float
    momentum: float
    accumulated: Tensor
    velocity: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, rate: float, momentum: float) -> "Adagrad":
        moving = torch.zeros_like(weight) if momentum > 0 else None
        return cls(weight, rate, momentum, torch.zeros_like(weight), moving)

    def step(self, gradient: Tensor) -> None:
        """gradient: shaped as the weight."""
        self.accumulated.addcmul_(gradient, gradient)
        change = gradient * (self.accumulated + EPSILON).rsqrt_() * -self.rate
        if self.velocity is not None:
            change = self.velocity.mul_(self.momentum).add_(change)
        self.weight.add_(change)

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor) -> None:
        """rows: (U,) int64, each once; values: (U, …), the weight's rows, gathered before.

        gradient: (U, …), already summed over duplicates.
        """
        accumulated = self.accumulated[rows].addcmul_(gradient, gradient)
        self.accumulated[rows] = accumulated
        change = gradient * (accumulated + EPSILON).rsqrt_() * -self.rate
        if self.velocity is not None:
            change = self.velocity[rows].mul_(self.momentum).add_(change)
            self.velocity[rows] = change
        self.weight[rows] = values + change

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the weight."""
        kept = {"accumulated": self.accumulated}
        if self.velocity is not None:
            kept["velocity"] = self.velocity
        return kept
