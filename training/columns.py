"""The columns of a step: which items its events are scored against, and how much each counts.

    distinct  every item that is a target or was drawn, each one column that counts once
    drawn     the paper's: one column for every target and every draw; an item that is there m
              times is one column that counts m times, which is the same sum for less work
    full      the whole catalogue: softmax without sampling

What an event's own session puts among the columns is no negative of it: those items are there by
certainty, not by the chance that logQ corrects for. Nor are further copies of its own target,
accidental hits, unless the recipe says that they are not masked.

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
    counts: "Counts | None" = None  # None where every column counts once for every event


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each column counts, as logarithms, and for which events that differs."""

    columns: Tensor  # (C,) float32; −inf for an item that was only clicked
    at: Tensor  # (P,) int64, distinct places e·C + c of the (E, C) scores
    more: Tensor  # (P,) float32, what to add there
    own: Tensor  # (E,) int64, how often each event's target counts, itself included

    def added_to(self, scores: Tensor) -> Tensor:
        """scores: (E, C); m equal columns weigh what one whose score is higher by log m does."""
        counted = scores + self.columns.to(scores.dtype)
        counted.view(-1).index_add_(0, self.at, self.more.to(scores.dtype))
        return counted


class Columns(Protocol):
    """A way to choose them."""

    def choose(
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: Draws
    ) -> Chosen:
        """clicked, following: (E,) int64 item indices; sessions: (E,) int64, None if all differ."""
        ...


def columns_of(
    recipe: Recipe, counts: NDArray[np.int64], events: float, device: torch.device
) -> Columns:
    """The recipe's; counts: (N,) training clicks; events: in a step, on average."""
    if recipe.columns == "full":
        return FullColumns(len(counts), device)
    return SampledColumns(
        recipe, NegativeSampler(counts, recipe.sample_alpha, device), events, device
    )


class SampledColumns:
    """Distinct or drawn."""

    def __init__(
        self, recipe: Recipe, sampler: NegativeSampler, events: float, device: torch.device
    ) -> None:
        self._samples = recipe.negatives
        self._sampler = sampler
        self._distinct = recipe.columns == "distinct"
        self._mask = recipe.mask
        expected = sampler.expected(max(events - 1, 1), recipe.negatives)  # without the own target
        there = -torch.expm1(-expected) if self._distinct else expected
        self._correction = (recipe.logq * there.log()).to(torch.float32).to(device)

    def choose(
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: Draws
    ) -> Chosen:
        negatives = self._sampler.draw(draws.uniform(self._samples))
        items, column = torch.unique(
            torch.cat([clicked, following, negatives]), return_inverse=True
        )
        first, target, _ = column.split([len(clicked), len(following), len(negatives)])
        copies = torch.bincount(column[len(clicked) :], minlength=len(items))
        counts = self._counts(copies, target, sessions)
        return Chosen(items, first, target, self._correction[items], counts)

    def _counts(self, copies: Tensor, target: Tensor, sessions: Tensor | None) -> Counts:
        width = len(copies)
        place = torch.arange(len(target), device=target.device) * width
        at = entry = place + target
        left = own = torch.ones_like(target) if self._mask or self._distinct else copies[target]
        if sessions is not None:
            pairs, others = same_session(sessions)
            entries, found = torch.unique(place[pairs] + target[others], return_counts=True)
            apart = ~torch.isin(entries, entry)
            entries, found = entries[apart], found[apart]
            at = torch.cat([entry, entries])
            left = torch.cat([own, copies[entries % width] - found])
        more = self._log(left) - self._log(copies[at % width])
        return Counts(self._log(copies), at, more, own)

    def _log(self, copies: Tensor) -> Tensor:
        """The logarithm of what so many copies count; −inf for none."""
        return (copies.clamp(max=1) if self._distinct else copies).to(torch.float32).log()


class FullColumns:
    """All items; nothing is drawn, so nothing is corrected."""

    def __init__(self, items: int, device: torch.device) -> None:
        self._items = torch.arange(items, device=device)
        self._correction = torch.zeros(items, device=device)

    def choose(
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: Draws
    ) -> Chosen:
        return Chosen(self._items, clicked, following, self._correction)


def same_session(sessions: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different events of one session: two (P,) int64 event indices."""
    order = torch.argsort(sessions, stable=True)
    lengths = torch.unique_consecutive(sessions[order], return_counts=True)[1]
    starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)  # of each event's session
    each = lengths.repeat_interleave(lengths)  # events in each event's session
    first = torch.arange(len(order), device=order.device).repeat_interleave(each)
    within = torch.arange(len(first), device=order.device)
    within = within - (each.cumsum(0) - each).repeat_interleave(each)
    second = starts.repeat_interleave(each) + within
    differ = first != second
    return order[first[differ]], order[second[differ]]
