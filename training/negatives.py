"""Extra negatives shared by a batch, P(i) ∝ clicks(i)^alpha, and how often to expect each item.

Source: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847, section 3.1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class NegativeSampler:
    """Draws item indices with replacement; alpha 0 is uniform, 1 follows popularity."""

    def __init__(self, counts: NDArray[np.int64], alpha: float, generator: torch.Generator) -> None:
        """counts: (N,) int64 clicks in training, each at least 1."""
        self._generator = generator
        weights = torch.from_numpy(counts).to(torch.float64)
        self._popularity = weights / weights.sum()
        raised = weights.pow(alpha)
        self._chance = raised / raised.sum()
        self._cumulative = self._chance.cumsum(0)
        self._cumulative[-1] = 1.0  # rounding must not leave a gap above the last item

    def draw(self, samples: int) -> Tensor:
        """(S,) int64 item indices."""
        where = torch.rand(samples, dtype=torch.float64, generator=self._generator)
        return torch.searchsorted(self._cumulative, where, right=True)

    def log_expected(self, lanes: int, samples: int) -> Tensor:
        """(N,) float32: log of how many columns of a batch are expected to hold each item.

        A column comes from another lane's target, P = popularity, or from the samples,
        P ∝ clicks^alpha; the mixture puts both groups on one scale. This is the Q of the logQ
        correction (Bengio and Senécal 2008; Yi et al., RecSys 2019).
        """
        expected = max(lanes - 1, 1) * self._popularity + samples * self._chance
        return expected.log().to(torch.float32)
