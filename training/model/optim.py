"""Optimizers for dense weights and for the touched rows of a matrix, moving average, learning rate.

Adagrad (the default): a ← a + g²   v ← m·v − η·g/√(a + ε)   w ← w + v, with a from 0 (or the
recipe's `accumulator`) and ε = 1e-6 inside the root. Adam, AdamW and NAdam: moments with bias
correction. Updates of rows are lazy: rows that a step does not touch keep weight, moments,
accumulator and velocity.
Sources: Duchi et al., JMLR 2011, section 1.1 (Adagrad); Kingma and Ba, ICLR 2015, arXiv:1412.6980,
algorithm 1 (Adam); Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101, algorithm 2 (AdamW); Dozat,
ICLR workshop 2016, section 3 (NAdam).
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
MAX_WARMUP = 0.15  # of a run, where the warm-up is a number of steps


class Optimizer(Protocol):
    """Optimizer of one tensor, which it updates in place."""

    def step(self, gradient: Tensor, rate: float) -> None:
        """Update the whole tensor.

        Args:
            gradient: float32 of the shape of the tensor.
            rate: Learning rate of this step.
        """
        ...

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None:
        """Update some rows; all others stay as they are.

        Args:
            rows: (rows,) int64, unique row indices.
            values: (rows, …) float32, these rows as they are now.
            gradient: (rows, …) float32, summed over duplicates.
            rate: Learning rate of this step.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer state that a checkpoint must keep."""
        ...


def optimizer_for(weight: Tensor, recipe: Recipe) -> Optimizer:
    """Return the recipe's optimizer for one tensor."""
    if recipe.optimizer == "adagrad":
        return Adagrad.of(weight, recipe.momentum, recipe.accumulator)
    return Adam.of(weight, recipe.optimizer, recipe.weight_decay)


@dataclass
class Adagrad:
    """Adagrad with heavy-ball momentum (Duchi et al., JMLR 2011, section 1.1)."""

    weight: Tensor
    momentum: float
    accumulated: Tensor  # sum of squared gradients, shaped as the weight
    velocity: Tensor | None  # shaped as the weight; None without momentum

    @classmethod
    def of(cls, weight: Tensor, momentum: float, accumulator: float = 0.0) -> "Adagrad":
        """Return the optimizer in its initial state; `accumulator`: initial squared gradient."""
        velocity = torch.zeros_like(weight) if momentum > 0 else None
        return cls(weight, momentum, torch.full_like(weight, accumulator), velocity)

    def step(self, gradient: Tensor, rate: float) -> None:
        """Update the whole weight; see `Optimizer.step`."""
        self.accumulated.addcmul_(gradient, gradient)
        change = gradient * (self.accumulated + EPSILON).rsqrt_() * -rate
        if self.velocity is not None:
            change = self.velocity.mul_(self.momentum).add_(change)
        self.weight.add_(change)

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None:
        """Update some rows; see `Optimizer.step_rows`."""
        accumulated = self.accumulated.index_select(0, rows).addcmul_(gradient, gradient)
        self.accumulated.index_copy_(0, rows, accumulated)
        inverse = accumulated.add_(EPSILON).rsqrt_()
        if self.velocity is None:
            updated = values.addcmul(gradient, inverse, value=-rate)
        else:
            velocity = self.velocity.index_select(0, rows).mul_(self.momentum)
            velocity.addcmul_(gradient, inverse, value=-rate)
            self.velocity.index_copy_(0, rows, velocity)
            updated = values + velocity
        self.weight.index_copy_(0, rows, updated)

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer state that a checkpoint must keep."""
        state = {"accumulated": self.accumulated}
        if self.velocity is not None:
            state["velocity"] = self.velocity
        return state


@dataclass
class Adam:
    """Adam, AdamW (decoupled weight decay) and NAdam (Nesterov momentum in the first moment).

    Sources: arXiv:1412.6980, algorithm 1; arXiv:1711.05101, algorithm 2; Dozat 2016, section 3.
    """

    weight: Tensor
    kind: str
    decay: float  # decoupled weight decay of AdamW; 0 for the others
    first: Tensor  # first moment, shaped as the weight
    second: Tensor  # second moment, shaped as the weight
    steps: Tensor  # a scalar, so that a checkpoint keeps it
    product: Tensor  # product of all momenta of NAdam so far, a scalar

    @classmethod
    def of(cls, weight: Tensor, kind: str, decay: float) -> "Adam":
        """Return the optimizer in its initial state; `kind`: adam, adamw or nadam."""
        moments = torch.zeros_like(weight), torch.zeros_like(weight)
        decoupled = decay if kind == "adamw" else 0.0
        return cls(weight, kind, decoupled, *moments, torch.zeros(()), torch.ones(()))

    def step(self, gradient: Tensor, rate: float) -> None:
        """Update the whole weight; see `Optimizer.step`."""
        change = self._change(self.weight, gradient, self.first, self.second, rate)
        self.weight.add_(change)

    def step_rows(self, rows: Tensor, values: Tensor, gradient: Tensor, rate: float) -> None:
        """Update some rows; see `Optimizer.step_rows`. Moments of other rows do not decay."""
        first, second = self.first[rows], self.second[rows]
        self.weight[rows] = values + self._change(values, gradient, first, second, rate)
        self.first[rows], self.second[rows] = first, second

    def _change(
        self, weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rate: float
    ) -> Tensor:
        """Update the moments in place and return what is to be added to the weight."""
        self.steps += 1
        steps = float(self.steps)
        first.mul_(FIRST_DECAY).add_(gradient, alpha=1 - FIRST_DECAY)
        second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        mean = first / (1 - FIRST_DECAY**steps)
        if self.kind == "nadam":
            mean = self._nesterov(first, gradient, steps)
        deviation = (second / (1 - SECOND_DECAY**steps)).sqrt_().add_(ADAM_EPSILON)
        change: Tensor = (mean / deviation + self.decay * weight) * -rate
        return change

    def _nesterov(self, first: Tensor, gradient: Tensor, steps: float) -> Tensor:
        """Return the first moment one step ahead, with Dozat's momentum schedule (section 3)."""
        now, after = (
            FIRST_DECAY * (1 - 0.5 * 0.96 ** (step * MOMENTUM_DECAY)) for step in (steps, steps + 1)
        )
        self.product *= now
        past = float(self.product)
        ahead: Tensor = first * (after / (1 - past * after)) + gradient * ((1 - now) / (1 - past))
        return ahead

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer state that a checkpoint must keep."""
        moments = {"first": self.first, "second": self.second}
        return {**moments, "steps": self.steps, "product": self.product}


AVERAGING_STEPS = 16  # an update reads all rows of all tables, which is too slow for every step


class ExponentialMovingAverage:
    """Exponential moving average of the weights, the plain mean at the beginning.

    Source: Polyak and Juditsky, SIAM Journal on Control and Optimization 1992 (averaged iterates).
    """

    def __init__(self, weights: Weights, decay: float) -> None:
        """Start with a copy of the weights.

        Args:
            weights: The weights that training updates in place.
            decay: Share of itself that the average keeps in one step.
        """
        self._trained = weights
        self._decay = decay
        self._steps = torch.zeros((), dtype=torch.int64)  # a tensor, so that a checkpoint keeps it
        self.weights = copy.deepcopy(weights)

    def update(self) -> None:
        """Take the weights into the average; to be called after every step."""
        self._steps += 1
        updates, remainder = divmod(int(self._steps), AVERAGING_STEPS)
        if remainder:
            return
        share = max(1 - self._decay**AVERAGING_STEPS, 1 / updates)
        trained = self._trained.tensors()
        for name, tensor in self.weights.tensors().items():
            tensor.lerp_(trained[name], share)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state that a checkpoint must keep."""
        return {"taken": self._steps, **self.weights.tensors()}


def learning_rate_at(recipe: Recipe, share: float, steps: int) -> float:
    """Return the learning rate when `share` of a run, from 0 to 1, of so many steps is done.

    It rises linearly during the warm-up. Then it stays, or decays to 0 at the end of the run:
    linearly, or as a cosine (Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983, section 3, without
    restarts).
    """
    warmup = recipe.warmup
    if warmup >= 1:  # a number of steps
        warmup = min(warmup / steps, MAX_WARMUP)
    if share < warmup:
        return recipe.learning_rate * share / warmup
    remaining = (1 - share) / (1 - warmup)
    factors = {
        "constant": 1.0,
        "linear": remaining,
        "cosine": (1 - math.cos(math.pi * remaining)) / 2,
    }
    return recipe.learning_rate * factors[recipe.schedule]
