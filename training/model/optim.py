"""Optimisers for dense weights and for the rows of a matrix that a batch touched.

Adagrad (the default): a ← a + g²   v ← m·v − η·g/√(a + ε)   p ← p + v, with a from 0 (or the
recipe's `accumulator`) and ε = 1e-6 inside the root. Adam, AdamW and NAdam: moments with bias
correction; on rows they are lazy, so rows that a batch does not touch keep weights, moments,
accumulator and velocity.
Sources: Duchi et al., JMLR 2011 (Adagrad); Kingma and Ba, arXiv:1412.6980 (Adam); Loshchilov and
Hutter, arXiv:1711.05101 (AdamW); Dozat, ICLR workshop 2016 (NAdam).
"""

import copy
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.model.weights import Weights
from training.recipe import Recipe

EPSILON = 1e-6
ADAM_EPSILON = 1e-8
FIRST_DECAY, SECOND_DECAY = 0.9, 0.999
MOMENTUM_DECAY = 0.004  # ψ of NAdam


class Optimizer(Protocol):
    """Moves one tensor by gradients; `rate` is this step's learning rate."""

    def step(self, gradient: Tensor, rate: float) -> None: ...
    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None: ...
    def tensors(self) -> dict[str, Tensor]: ...


def optimizer_for(weight: Tensor, recipe: Recipe) -> Optimizer:
    """The recipe's optimiser for one tensor."""
    if recipe.optimiser == "adagrad":
        return Adagrad.of(weight, recipe.momentum, recipe.accumulator)
    return Adam.of(weight, recipe.optimiser, recipe.weight_decay)


@dataclass
class Adagrad:
    """The moving numbers beside one tensor; `velocity` is None without momentum."""

    weight: Tensor
    momentum: float
    accumulated: Tensor
    velocity: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, momentum: float, accumulator: float = 0.0) -> "Adagrad":
        moving = torch.zeros_like(weight) if momentum > 0 else None
        return cls(weight, momentum, torch.full_like(weight, accumulator), moving)

    def step(self, gradient: Tensor, rate: float) -> None:
        """gradient: shaped as the weight."""
        self.accumulated.addcmul_(gradient, gradient)
        change = gradient * (self.accumulated + EPSILON).rsqrt_() * -rate
        if self.velocity is not None:
            change = self.velocity.mul_(self.momentum).add_(change)
        self.weight.add_(change)

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None:
        """rows: (U,) int64, each once; values: (U, …), the weight's rows, gathered before.

        gradient: (U, …), already summed over duplicates.
        """
        accumulated = self.accumulated.index_select(0, rows).addcmul_(gradient, gradient)
        self.accumulated.index_copy_(0, rows, accumulated)
        inverse = accumulated.add_(EPSILON).rsqrt_()
        if self.velocity is None:
            moved = values.addcmul(gradient, inverse, value=-rate)
        else:
            velocity = self.velocity.index_select(0, rows).mul_(self.momentum)
            velocity.addcmul_(gradient, inverse, value=-rate)
            self.velocity.index_copy_(0, rows, velocity)
            moved = values + velocity
        self.weight.index_copy_(0, rows, moved)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the weight."""
        kept = {"accumulated": self.accumulated}
        if self.velocity is not None:
            kept["velocity"] = self.velocity
        return kept


@dataclass
class Adam:
    """Adam, AdamW (decay beside the gradient) and NAdam (one step ahead in the first moment)."""

    weight: Tensor
    kind: str
    decay: float  # AdamW's; the others have it in their gradients
    first: Tensor
    second: Tensor
    steps: Tensor  # a scalar, so that a checkpoint keeps it
    product: Tensor  # of NAdam's momenta so far, a scalar

    @classmethod
    def of(cls, weight: Tensor, kind: str, decay: float) -> "Adam":
        zeros = torch.zeros_like(weight), torch.zeros_like(weight)
        own = decay if kind == "adamw" else 0.0
        return cls(weight, kind, own, *zeros, torch.zeros(()), torch.ones(()))

    def step(self, gradient: Tensor, rate: float) -> None:
        """gradient: shaped as the weight."""
        change = self._change(self.weight, gradient, self.first, self.second, rate)
        self.weight.add_(change)

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None:
        """As for Adagrad; the moments of untouched rows wait."""
        first, second = self.first[rows], self.second[rows]
        self.weight[rows] = values + self._change(values, gradient, first, second, rate)
        self.first[rows], self.second[rows] = first, second

    def _change(
        self, weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rate: float
    ) -> Tensor:
        """Updates the moments in place; returns what is added to the weight."""
        self.steps += 1
        taken = float(self.steps)
        first.mul_(FIRST_DECAY).add_(gradient, alpha=1 - FIRST_DECAY)
        second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        mean = first / (1 - FIRST_DECAY**taken)
        if self.kind == "nadam":
            mean = self._ahead(first, gradient, taken)
        spread = (second / (1 - SECOND_DECAY**taken)).sqrt_().add_(ADAM_EPSILON)
        change: Tensor = (mean / spread + self.decay * weight) * -rate
        return change

    def _ahead(self, first: Tensor, gradient: Tensor, taken: float) -> Tensor:
        """The first moment as Nesterov would see it, with Dozat's rising momentum (section 3.3)."""
        now, after = (
            FIRST_DECAY * (1 - 0.5 * 0.96 ** (step * MOMENTUM_DECAY)) for step in (taken, taken + 1)
        )
        self.product *= now
        past = float(self.product)
        ahead: Tensor = first * (after / (1 - past * after)) + gradient * ((1 - now) / (1 - past))
        return ahead

    def tensors(self) -> dict[str, Tensor]:
        moments = {"first": self.first, "second": self.second}
        return {**moments, "steps": self.steps, "product": self.product}


STEPS_BETWEEN = 16  # all rows of all tables are read: too much for every step


class ExponentialMovingAverage:
    """Follows `weights`, which move; decay: share of itself the average keeps in one step."""

    def __init__(self, weights: Weights, decay: float) -> None:
        self._moving = weights
        self._decay = decay
        self._taken = torch.zeros((), dtype=torch.int64)  # steps; a tensor for the checkpoint
        self.weights = copy.deepcopy(weights)

    def follow(self) -> None:
        """Called after every step."""
        self._taken += 1
        taken, left = divmod(int(self._taken), STEPS_BETWEEN)
        if left:
            return
        part = max(1 - self._decay**STEPS_BETWEEN, 1 / taken)
        moving = self._moving.tensors()
        for name, tensor in self.weights.tensors().items():
            tensor.lerp_(moving[name], part)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        return {"taken": self._taken, **self.weights.tensors()}


def learning_rate_at(recipe: Recipe, share: float) -> float:
    """The learning rate when `share` of the run, from 0 to 1, is done."""
    if share < recipe.warmup:
        return recipe.learning_rate * share / recipe.warmup
    left = (1 - share) / (1 - recipe.warmup)
    factor = {
        "constant": 1.0,
        "linear": left,
        "cosine": (1 - math.cos(math.pi * left)) / 2,
    }[recipe.schedule]
    return recipe.learning_rate * factor
