"""Extra negatives shared by a step, P(i) ∝ clicks(i)^alpha, and how often to expect each item.

Source: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847, section 3.1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class NegativeSampler:
    """Draws item indices with replacement; alpha 0 is uniform, 1 follows popularity."""

    def __init__(self, counts: NDArray[np.int64], alpha: float, device: torch.device) -> None:
        """counts: (N,) int64 clicks in training, each at least 1."""
        weights = torch.from_numpy(counts).to(torch.float64)
        self._popularity = weights / weights.sum()
        raised = weights.pow(alpha)
        self._chance = raised / raised.sum()
        cumulative = self._chance.cumsum(0)
        cumulative[-1] = 1.0  # rounding must not leave a gap above the last item
        self._cumulative = cumulative.to(device)

    def draw(self, uniform: Tensor) -> Tensor:
        """uniform: (S,) float64 in [0, 1) → (S,) int64 item indices."""
        return torch.searchsorted(self._cumulative, uniform, right=True)

    def expected(self, clicks: float, samples: int) -> Tensor:
        """(N,) float64: how often each item is expected among the candidates of a step.

        A candidate is one of so many clicks, P = popularity, or one of the samples, P ∝
        clicks^alpha; the mixture puts both groups on one scale. This is the Q of the logQ
        correction (Bengio and Senécal 2008; Yi et al., RecSys 2019).
        """
        return clicks * self._popularity + samples * self._chance
