"""The exponential moving average of all weights: what is evaluated and shipped where a recipe asks.

Until as many steps have passed as the decay remembers, it is the plain mean of what there was, so
that the first weights do not linger (Polyak and Juditsky, SIAM J. Control Optim. 1992).
"""

import copy

import torch
from torch import Tensor

from training.weights import Weights

STEPS_BETWEEN = 16  # all rows of all tables are read: too much for every step


class Average:
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
