"""Blend of the model and the session neighbours: a weighted mean of their probabilities.

    p = (1 − a) · softmax(model's scores) + a · neighbours' scores / their sum

The softmax is over the items that score highest, `NORMALIZING` of them: an index finds these, so
the blend needs no scan of all items. Of the neighbours' items the best `VOTES` count. Bundles of
earlier versions have a softmax over all items, and all items of the neighbours. The scores of the
blend are log p, so that a difference of two scores means the same at the top of a list and at its
end. Source: Jannach and Ludewig, RecSys 2017 (weighted hybrids).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from recsys.model.ranking import largest
from recsys.neighbours.index import NeighbourIndex
from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.ragged import RaggedArray, ScoredRaggedArray

MAX_COUNT = 1_000
NORMALIZING = 20  # items with the highest scores, over which the model's softmax is
VOTES = 30  # items with the highest scores of the neighbours


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """Settings of a blend, as the manifest stores them.

    Raises:
        ValueError: a field is outside its range.
    """

    weight: float  # a, the neighbours' part
    neighbours: NeighbourSettings
    normalizing: int = 0  # items with the highest scores that the softmax is over; 0: all items
    votes: int = 0  # neighbours' items with the highest scores that count; 0: all of them

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings that `dataclasses.asdict` turned into these values."""
        return cls(**{**values, "neighbours": NeighbourSettings(**values["neighbours"])})

    def __post_init__(self) -> None:
        if type(self.weight) is not float or not 0 < self.weight < 1:
            raise ValueError(f"A blend's weight must be above 0 and below 1, got {self.weight!r}.")
        for name in ("normalizing", "votes"):
            count = getattr(self, name)
            if type(count) is not int or not 0 <= count <= MAX_COUNT:
                raise ValueError(
                    f"A blend's {name} must be a whole number from 0 to {MAX_COUNT:,}, got "
                    f"{count!r}."
                )


@dataclass(frozen=True)
class Blend:
    """Session neighbours beside the model."""

    index: NeighbourIndex  # the training sessions
    settings: BlendSettings

    @cached_property
    def neighbours(self) -> SessionNeighbours:
        """Return the scorer of the sessions."""
        return SessionNeighbours(self.index, self.settings.neighbours)

    def votes(self, windows: RaggedArray) -> ScoredRaggedArray:
        """Return the neighbours' items of each window, each with the logarithm of its part of p.

        Args:
            windows: B windows of known items, oldest first.
        """
        return log_parts(self.neighbours.shares(windows, self.settings.votes), self.settings.weight)

    def mix(self, scores: Tensor, windows: RaggedArray) -> Tensor:
        """Return the scores of the blend.

        Args:
            scores: (B, N) float32, the model's scores divided by the temperature.
            windows: B windows of known items, oldest first.

        Returns:
            (B, N) float32, log p.
        """
        log_model = log_probabilities(scores, self.settings.normalizing)
        return mix_log_probabilities(log_model, self.votes(windows), self.settings.weight)


def log_probabilities(scores: Tensor, normalizing: int = NORMALIZING) -> Tensor:
    """Return the logarithm of the softmax over the highest scores of each row.

    Args:
        scores: (B, N) float32.
        normalizing: scores that the softmax is over; 0 for all.

    Returns:
        (B, N) float32.
    """
    if normalizing == 0:
        return torch.log_softmax(scores, dim=1)
    highest = largest(scores, min(normalizing, scores.size(1)))[0]
    return scores - torch.logsumexp(highest, dim=1, keepdim=True)


def log_parts(shares: ScoredRaggedArray, weight: float) -> ScoredRaggedArray:
    """Return the rows with log(weight · share) as scores."""
    parts = np.log(shares.scores)
    parts += math.log(weight)
    return ScoredRaggedArray(shares.offsets, shares.items, parts)


def mix_log_probabilities(log_model: Tensor, votes: ScoredRaggedArray, weight: float) -> Tensor:
    """Return log((1 − weight) · exp(log_model) + exp(vote)) where a row has neighbours.

    Args:
        log_model: (B, N) float32, the model's log probabilities.
        votes: B rows of neighbours' items, as `log_parts` returns them for this weight.
        weight: the neighbours' part.

    Returns:
        (B, N) float32; a row without neighbours equals the model's.
    """
    shift = torch.from_numpy((votes.lengths > 0) * math.log1p(-weight)).to(log_model.dtype)
    log_p = log_model + shift.unsqueeze(1)
    at = torch.from_numpy(votes.row_of_entry), torch.from_numpy(votes.items)
    log_p[at] = torch.logaddexp(log_p[at], torch.from_numpy(votes.scores).to(log_model.dtype))
    return log_p
