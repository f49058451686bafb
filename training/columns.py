"""The columns of a step: which items its events are scored against.

    distinct  every item the step touches (clicks and sampled negatives), each one column: no
              column is a target twice, and no row is multiplied twice
    drawn     the paper's: one column for every target and every draw; an item drawn m times is
              one column that counts m times, which is the same sum for less work
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
    """The columns of one step; each is one item, and one row of the item matrix."""

    items: Tensor  # (C,) int64, distinct, ascending
    clicked: Tensor  # (E,) int64, the column of each event's click
    target: Tensor  # (E,) int64, the column of each event's target
    correction: Tensor  # (C,) float32, what logQ subtracts from the scores
    copies: Tensor | None = None  # (C,) int64, how often each counts, 0 for a click alone


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
        return Chosen(items, first, target, self._correction[items])


class DrawnColumns:
    def __init__(
        self, recipe: Recipe, sampler: NegativeSampler, events: float, device: torch.device
    ) -> None:
        self._samples = recipe.negatives
        self._sampler = sampler
        expected = sampler.expected(max(events - 1, 1), recipe.negatives)  # of the other columns
        self._correction = (recipe.logq * expected.log()).to(torch.float32).to(device)

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        negatives = self._sampler.draw(draws.uniform(self._samples))
        items, row = torch.unique(torch.cat([clicked, following, negatives]), return_inverse=True)
        first, target, _ = row.split([len(clicked), len(following), len(negatives)])
        copies = torch.bincount(row[len(clicked) :], minlength=len(items))
        return Chosen(items, first, target, self._correction[items], copies)


class FullColumns:
    def __init__(self, items: int, device: torch.device) -> None:
        self._items = torch.arange(items, device=device)
        self._correction = torch.zeros(items, device=device)

    def choose(self, clicked: Tensor, following: Tensor, draws: Draws) -> Chosen:
        return Chosen(self._items, clicked, following, self._correction)
