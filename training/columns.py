"""The columns of a step: which items its events are scored against.

    distinct  every item the step touches (clicks and sampled negatives), each one column: no
              column is a target twice, and no row is multiplied twice
    drawn     the paper's: one column for every target and every draw, however often the same
              item; columns that hold a row's own target by accident can be masked
    full      the whole catalogue: softmax without sampling

The logQ correction subtracts the logarithm of how often a column was to be expected. For distinct
columns that is the chance to be there at all, 1 − exp(−expected), as draws are many and rare.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.draws import Draws
from training.negatives import NegativeSampler
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Chosen:
    """The columns of one step, by way of the rows of the item matrix that it needs."""

    items: Tensor  # (R,) int64, distinct items whose rows are needed, ascending
    clicked: Tensor  # (E,) int64, the row of each event's click
    outputs: Tensor | None  # (C,) int64, the row of each column; None where all R are columns
    target: Tensor  # (E,) int64, the column of each event's target
    hits: Tensor | None  # (E, C) bool, columns that hold an event's own target by accident
    correction: Tensor  # (C,) float32, what logQ subtracts from the scores


class Columns(Protocol):
    """A way to choose them."""

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        """clicked, following: (E,) int64 item indices."""
        ...


def columns_of(
    recipe: Recipe,
    counts: NDArray[np.int64],
    events: float,
    clicks: float,
    device: torch.device,
) -> Columns:
    """The recipe's; counts: (N,) training clicks; events, clicks: in a step, on average."""
    if recipe.columns == "full":
        return FullColumns(len(counts), device)
    sampler = NegativeSampler(counts, recipe.sample_alpha, device)
    if recipe.columns == "drawn":
        return DrawnColumns(recipe, sampler, events, device)
    return DistinctColumns(recipe, sampler, clicks, device)


class DistinctColumns:
    def __init__(
        self, recipe: Recipe, sampler: NegativeSampler, clicks: float, device: torch.device
    ) -> None:
        self._samples = recipe.negatives
        self._sampler = sampler
        there = -torch.expm1(-sampler.expected(clicks, recipe.negatives))
        self._correction = (recipe.logq * there.log()).to(torch.float32).to(device)

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        negatives = self._sampler.draw(draws.uniform(self._samples))
        items, row = torch.unique(torch.cat([clicked, following, negatives]), return_inverse=True)
        first, target, _ = row.split([len(clicked), len(following), len(negatives)])
        return Chosen(items, first, None, target, None, self._correction[items])


class DrawnColumns:
    def __init__(
        self, recipe: Recipe, sampler: NegativeSampler, events: float, device: torch.device
    ) -> None:
        self._samples = recipe.negatives
        self._mask = recipe.mask
        self._sampler = sampler
        expected = sampler.expected(max(events - 1, 1), recipe.negatives)  # of the other columns
        self._correction = (recipe.logq * expected.log()).to(torch.float32).to(device)

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        negatives = self._sampler.draw(draws.uniform(self._samples))
        columns = torch.cat([following, negatives])
        items, row = torch.unique(torch.cat([clicked, columns]), return_inverse=True)
        first, outputs = row.split([len(clicked), len(columns)])
        target = torch.arange(len(following), device=following.device)
        hits = None
        if self._mask:
            hits = following.unsqueeze(1) == columns.unsqueeze(0)
            hits[target, target] = False
        return Chosen(items, first, outputs, target, hits, self._correction[columns])


class FullColumns:
    def __init__(self, items: int, device: torch.device) -> None:
        self._items = torch.arange(items, device=device)
        self._correction = torch.zeros(items, device=device)

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        return Chosen(self._items, clicked, None, following, None, self._correction)
