"""Blend of the model and the session neighbours: a weighted mean of their probabilities.

    p = (1 − a) · softmax(model's scores) + a · neighbours' scores / their sum

The scores of the blend are log p, so that a difference of two scores means the same at the top of a
list and at its end. Source: Jannach and Ludewig, RecSys 2017 (weighted hybrids).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.ragged import RaggedArray, ScoredRaggedArray


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """Settings of a blend, as the manifest stores them.

    Raises:
        ValueError: the weight is not between 0 and 1.
    """

    weight: float  # a, the neighbours' part
    neighbours: NeighbourSettings

    def __post_init__(self) -> None:
        if type(self.weight) is not float or not 0 < self.weight < 1:
            raise ValueError(f"A blend's weight must be above 0 and below 1, got {self.weight!r}.")


@dataclass(frozen=True)
class Blend:
    """Session neighbours with their weight beside the model."""

    neighbours: SessionNeighbours
    weight: float

    @property
    def settings(self) -> BlendSettings:
        """Return the settings that the manifest stores."""
        return BlendSettings(self.weight, self.neighbours.settings)

    def mix(self, scores: Tensor, windows: RaggedArray) -> Tensor:
        """Return the scores of the blend.

        Args:
            scores: (B, N) float32, the model's scores.
            windows: B windows of known items, oldest first.

        Returns:
            (B, N) float32, log p.
        """
        log_model = torch.log_softmax(scores, dim=1)
        return mix_log_probabilities(log_model, self.neighbours.score(windows), self.weight)


def mix_log_probabilities(log_model: Tensor, rows: ScoredRaggedArray, weight: float) -> Tensor:
    """Return log((1 − weight) · exp(log_model) + weight · share) where a row has neighbours.

    Args:
        log_model: (B, N) float32, the model's log probabilities.
        rows: B rows of neighbours' items and scores; an item's share is its part of the sum.
        weight: the neighbours' part.

    Returns:
        (B, N) float32; a row without neighbours equals the model's.
    """
    totals = np.zeros(len(rows))
    filled = np.flatnonzero(rows.lengths)
    if len(filled):
        totals[filled] = np.add.reduceat(rows.scores, rows.offsets[filled])
    row = rows.row_of_entry
    share = np.log(rows.scores / totals[row]) + math.log(weight)
    log_p = log_model + torch.from_numpy((totals > 0) * math.log1p(-weight)).to(
        log_model.dtype
    ).unsqueeze(1)
    at = torch.from_numpy(row), torch.from_numpy(rows.items)
    log_p[at] = torch.logaddexp(log_p[at], torch.from_numpy(share).to(log_model.dtype))
    return log_p
