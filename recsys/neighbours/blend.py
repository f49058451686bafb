"""The model and the session neighbours as one recommender: a weighted mean of probabilities.

    p = (1 − a) · softmax(model's scores) + a · neighbours' scores / their sum

Jannach and Ludewig, RecSys 2017, found such a hybrid best. The scores that come out are log p: so
a difference between two scores means the same at the top of a list and far down.
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
    """What a manifest says of a blend."""

    weight: float  # a, the neighbours' part
    neighbours: NeighbourSettings

    def __post_init__(self) -> None:
        if type(self.weight) is not float or not 0 < self.weight < 1:
            raise ValueError(f"A blend's weight is above 0 and below 1, got {self.weight!r}.")


@dataclass(frozen=True)
class Blend:
    """Neighbours, and how much they count beside the model."""

    neighbours: SessionNeighbours
    weight: float

    @property
    def settings(self) -> BlendSettings:
        return BlendSettings(self.weight, self.neighbours.settings)

    def mix(self, scores: Tensor, windows: RaggedArray) -> Tensor:
        """The model's scores, (B, N) float32, and B windows of known items: log p, (B, N)."""
        log_model = torch.log_softmax(scores, dim=1)
        return mixed(log_model, self.neighbours.score(windows), self.weight)


def mixed(log_model: Tensor, rows: ScoredRaggedArray, weight: float) -> Tensor:
    """log((1 − weight) · exp(log_model) + weight · share) where a row has neighbours.

    Where it has none, the model is left as it is. log_model: (B, N) float32, not changed.
    """
    totals = np.zeros(len(rows))
    found = np.flatnonzero(rows.lengths)
    if len(found):
        totals[found] = np.add.reduceat(rows.scores, rows.offsets[found])
    row = rows.row_of_entry
    share = np.log(rows.scores / totals[row]) + math.log(weight)
    log_p = log_model + torch.from_numpy((totals > 0) * math.log1p(-weight)).to(
        log_model.dtype
    ).unsqueeze(1)
    at = torch.from_numpy(row), torch.from_numpy(rows.items)
    log_p[at] = torch.logaddexp(log_p[at], torch.from_numpy(share).to(log_model.dtype))
    return log_p
