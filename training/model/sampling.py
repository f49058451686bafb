"""The randomness of one step: which numbers dropout drops, which negatives are drawn.

It follows from the seed, the epoch and the step alone, so a resumed run needs no generator's state.
On the CPU the bits are numpy's SFC64, at a fraction of what torch's Mersenne Twister takes; on a
graphics card torch's own generator draws on the device.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recipe import Recipe

GRAINS = 1 << 16  # a dropout rate is a whole number of these


class RandomStreams:
    """Draws for one step, in the order they are asked for."""

    def __init__(self, device: torch.device, seed: int, epoch: int, step: int) -> None:
        self._device = device
        sequence = np.random.SeedSequence((seed, epoch, step))
        if device.type == "cuda":
            self._generator = torch.Generator(device)
            self._generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        else:
            self._bits = np.random.SFC64(sequence)

    def uniform(self, count: int) -> Tensor:
        """(count,) float64 in [0, 1)."""
        if self._device.type == "cuda":
            return torch.rand(
                count, dtype=torch.float64, device=self._device, generator=self._generator
            )
        return torch.from_numpy(np.random.Generator(self._bits).random(count))

    def kept(self, shape: torch.Size, rate: float) -> Tensor:
        """Inverted dropout as a factor: 0 where dropped, else 1/(1 − rate); float32."""
        grains = min(round(rate * GRAINS), GRAINS - 1)
        if self._device.type == "cuda":
            drawn = torch.randint(GRAINS, shape, device=self._device, generator=self._generator)
            return (drawn >= grains) * (GRAINS / (GRAINS - grains))
        words = self._bits.random_raw(-(-shape.numel() // 4))
        kept = words.view(np.uint16)[: shape.numel()].reshape(shape) >= grains
        return torch.from_numpy(kept.astype(np.float32)).mul_(GRAINS / (GRAINS - grains))


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


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """The columns of one step; each is one item, and one row of the item matrix."""

    items: Tensor  # (C,) int64, distinct, ascending
    clicked: Tensor  # (E,) int64, the column of each event's click
    target: Tensor  # (E,) int64, the column of each event's target
    correction: Tensor  # (C,) float32, what logQ subtracts from the scores
    counts: "CandidateCounts | None" = None  # None where every column counts once for every event


@dataclass(frozen=True, slots=True)
class CandidateCounts:
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


class CandidateSampler(Protocol):
    """A way to choose them."""

    def choose(
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: RandomStreams
    ) -> CandidateSet:
        """clicked, following: (E,) int64 item indices; sessions: (E,) int64, None if all differ."""
        ...


def candidate_sampler(
    recipe: Recipe, counts: NDArray[np.int64], events: float, device: torch.device
) -> CandidateSampler:
    """The recipe's; counts: (N,) training clicks; events: in a step, on average."""
    if recipe.columns == "full":
        return AllItems(len(counts), device)
    return SampledCandidates(
        recipe, NegativeSampler(counts, recipe.sample_alpha, device), events, device
    )


class SampledCandidates:
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
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: RandomStreams
    ) -> CandidateSet:
        negatives = self._sampler.draw(draws.uniform(self._samples))
        items, column = torch.unique(
            torch.cat([clicked, following, negatives]), return_inverse=True
        )
        first, target, _ = column.split([len(clicked), len(following), len(negatives)])
        copies = torch.bincount(column[len(clicked) :], minlength=len(items))
        counts = self._counts(copies, target, sessions)
        return CandidateSet(items, first, target, self._correction[items], counts)

    def _counts(self, copies: Tensor, target: Tensor, sessions: Tensor | None) -> CandidateCounts:
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
        return CandidateCounts(self._log(copies), at, more, own)

    def _log(self, copies: Tensor) -> Tensor:
        """The logarithm of what so many copies count; −inf for none."""
        return (copies.clamp(max=1) if self._distinct else copies).to(torch.float32).log()


class AllItems:
    """All items; nothing is drawn, so nothing is corrected."""

    def __init__(self, items: int, device: torch.device) -> None:
        self._items = torch.arange(items, device=device)
        self._correction = torch.zeros(items, device=device)

    def choose(
        self, clicked: Tensor, following: Tensor, sessions: Tensor | None, draws: RandomStreams
    ) -> CandidateSet:
        return CandidateSet(self._items, clicked, following, self._correction)


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
