"""Sampled softmax: random numbers of a step, negative sampling, and the candidates of a step.

The candidates are the items that a step scores: the inputs and targets of its clicks, and sampled
negatives that the whole mini-batch shares (Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847,
section 3.1).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recipe import Recipe

DROPOUT_LEVELS = 1 << 16  # a dropout rate is a whole number of these


class RandomStreams:
    """Random numbers of one step: dropout masks and uniform numbers, in the order of the calls.

    They follow from seed, epoch and step alone, so that a resumed run needs no generator state.
    On the CPU the bits come from numpy's SFC64, which is several times faster than the Mersenne
    Twister of torch; on a graphics card torch's generator draws on the device.
    """

    def __init__(self, device: torch.device, seed: int, epoch: int, step: int) -> None:
        self._device = device
        sequence = np.random.SeedSequence((seed, epoch, step))
        if device.type == "cuda":
            self._generator = torch.Generator(device)
            self._generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        else:
            self._bits = np.random.SFC64(sequence)

    def uniform(self, count: int) -> Tensor:
        """Return (count,) float64 in [0, 1)."""
        if self._device.type == "cuda":
            return torch.rand(
                count, dtype=torch.float64, device=self._device, generator=self._generator
            )
        return torch.from_numpy(np.random.Generator(self._bits).random(count))

    def dropout_mask(self, shape: torch.Size, rate: float) -> Tensor:
        """Return an inverted dropout mask: float32, 0 where dropped, else 1/(1 − rate)."""
        dropped = min(round(rate * DROPOUT_LEVELS), DROPOUT_LEVELS - 1)
        factor = DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped)
        if self._device.type == "cuda":
            levels = torch.randint(
                DROPOUT_LEVELS, shape, device=self._device, generator=self._generator
            )
            return (levels >= dropped) * factor
        words = self._bits.random_raw(-(-shape.numel() // 4))
        mask = words.view(np.uint16)[: shape.numel()].reshape(shape) >= dropped
        return torch.from_numpy(mask.astype(np.float32)).mul_(factor)


class NegativeSampler:
    """Sampler of item indices with replacement, P ∝ clicks^alpha.

    Source: Hidasi and Karatzoglou, CIKM 2018, arXiv:1706.03847, section 3.1.
    """

    def __init__(self, counts: NDArray[np.int64], alpha: float, device: torch.device) -> None:
        """Prepare the distribution.

        Args:
            counts: (N,) int64, clicks of each item in training, each at least 1.
            alpha: 0 samples uniformly, 1 by popularity.
            device: Where indices are sampled.
        """
        weights = torch.from_numpy(counts).to(torch.float64)
        self._popularity = weights / weights.sum()
        raised = weights.pow(alpha)
        self._probability = raised / raised.sum()
        cumulative = self._probability.cumsum(0)
        cumulative[-1] = 1.0  # rounding must not leave a gap above the last item
        self._cumulative = cumulative.to(device)

    def draw(self, uniform: Tensor) -> Tensor:
        """Return (S,) int64 item indices for (S,) float64 uniform numbers in [0, 1)."""
        return torch.searchsorted(self._cumulative, uniform, right=True)

    def expected(self, clicks: float, samples: int) -> Tensor:
        """Return how often each item is expected among the candidates of a step, (N,) float64.

        The candidates are `clicks` targets of other clicks, P = popularity, and `samples`
        negatives, P ∝ clicks^alpha. This mixture is the Q of the logQ correction (Bengio and
        Senécal, IEEE Transactions on Neural Networks 2008; Yi et al., RecSys 2019, section 3).
        """
        return clicks * self._popularity + samples * self._probability


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Candidate items of one step; C of them."""

    items: Tensor  # (C,) int64, unique item indices, ascending
    input_indices: Tensor  # (clicks,) int64, candidate that is each click's input item
    target_indices: Tensor  # (targets,) int64, candidate that is each target item
    logq_correction: Tensor  # (C,) float32, to be subtracted from the scores
    counts: "CandidateCounts | None" = None  # None where every candidate counts once everywhere


@dataclass(frozen=True, slots=True)
class CandidateCounts:
    """Counts of each candidate in the softmax, as logarithms.

    A count of m weighs as much as m equal candidates: it adds log m to the score.
    """

    log_counts: Tensor  # (C,) float32; −inf for an item that is an input only
    positions: Tensor  # (exceptions,) int64, unique: row · C + candidate, in the scores
    log_changes: Tensor  # (exceptions,) float32, to be added at these positions
    of_targets: Tensor  # (targets,) int64, how often each target counts, itself included

    def added_to(self, scores: Tensor) -> Tensor:
        """Return the scores, (targets, C), plus the logarithm of each count."""
        weighted = scores + self.log_counts.to(scores.dtype)
        weighted.view(-1).index_add_(0, self.positions, self.log_changes.to(scores.dtype))
        return weighted


class CandidateSampler(Protocol):
    """Method to choose the candidates of a step."""

    def sample(
        self,
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor | None,
        random: RandomStreams,
        own: Tensor | None = None,
        own_targets: Tensor | None = None,
    ) -> CandidateSet:
        """Choose the candidates of one step.

        Args:
            inputs: (clicks,) int64 item indices.
            targets: (targets,) int64 item indices, of the clicks or of some of them.
            rows: (targets,) int64, the row of the mini-batch that each target belongs to: targets
                of one row are no negatives of each other. None where each is a row of its own.
            random: Random numbers of the step.
            own: (own clicks,) int64, the inputs of this process, to which the result's indices
                belong; the candidates are those of all clicks. None for all.
            own_targets: (own targets,) int64, the same for indices and counts of targets.
        """
        ...


def candidate_sampler(
    recipe: Recipe, counts: NDArray[np.int64], clicks_per_step: float, device: torch.device
) -> CandidateSampler:
    """Return the recipe's candidate sampler.

    Args:
        recipe: Its `scored_items`, `negatives`, `sample_alpha`, `logq` and `mask` are used.
        counts: (N,) int64, clicks of each item in training, each at least 1.
        clicks_per_step: Mean number of clicks in a step whose targets are learned.
        device: Where the candidates are needed.
    """
    if recipe.scored_items == "all":
        return AllItems(len(counts), device)
    sampler = NegativeSampler(counts, recipe.sample_alpha, device)
    return SampledCandidates(recipe, sampler, clicks_per_step, device)


class SampledCandidates:
    """Candidates of a sampled softmax, each counted once or as often as it was sampled."""

    def __init__(
        self, recipe: Recipe, sampler: NegativeSampler, clicks_per_step: float, device: torch.device
    ) -> None:
        self._samples = recipe.negatives
        self._sampler = sampler
        self._unique = recipe.scored_items == "unique"
        self._mask = recipe.mask
        # a click's own target is no sample
        expected = sampler.expected(max(clicks_per_step - 1, 1), recipe.negatives)
        frequency = -torch.expm1(-expected) if self._unique else expected
        self._correction = (recipe.logq * frequency.log()).to(torch.float32).to(device)

    def sample(
        self,
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor | None,
        random: RandomStreams,
        own: Tensor | None = None,
        own_targets: Tensor | None = None,
    ) -> CandidateSet:
        """Return inputs, targets and sampled negatives as candidates."""
        negatives = self._sampler.draw(random.uniform(self._samples))
        items, index = torch.unique(torch.cat([inputs, targets, negatives]), return_inverse=True)
        input_indices, target_indices, _ = index.split([len(inputs), len(targets), len(negatives)])
        with_duplicates = torch.bincount(index[len(inputs) :], minlength=len(items))
        if own is not None:
            input_indices = input_indices[own]
        if own_targets is not None:
            target_indices = target_indices[own_targets]
            rows = None if rows is None else rows[own_targets]
        counts = self._counts(with_duplicates, target_indices, rows)
        return CandidateSet(items, input_indices, target_indices, self._correction[items], counts)

    def _counts(
        self, with_duplicates: Tensor, target_indices: Tensor, rows: Tensor | None
    ) -> CandidateCounts:
        """Return how often each candidate counts.

        with_duplicates: (C,) int64, how often each candidate is a target or a negative.
        """
        candidates = len(with_duplicates)
        row_start = torch.arange(len(target_indices), device=target_indices.device) * candidates
        positions = target_positions = row_start + target_indices
        if self._mask or self._unique:
            of_targets = torch.ones_like(target_indices)
        else:
            of_targets = with_duplicates[target_indices]
        counts = of_targets
        if rows is not None:
            first, second = pairs_in_rows(rows)
            others, copies = torch.unique(
                row_start[first] + target_indices[second], return_counts=True
            )
            apart = ~torch.isin(others, target_positions)
            others, copies = others[apart], copies[apart]
            positions = torch.cat([target_positions, others])
            counts = torch.cat([of_targets, with_duplicates[others % candidates] - copies])
        log_changes = self._log(counts) - self._log(with_duplicates[positions % candidates])
        return CandidateCounts(self._log(with_duplicates), positions, log_changes, of_targets)

    def _log(self, counts: Tensor) -> Tensor:
        """Return the logarithm of the counts, of at most 1 with unique candidates."""
        return (counts.clamp(max=1) if self._unique else counts).to(torch.float32).log()


class AllItems:
    """Full softmax: every item of the catalogue is a candidate, without logQ correction."""

    def __init__(self, items: int, device: torch.device) -> None:
        self._items = torch.arange(items, device=device)
        self._correction = torch.zeros(items, device=device)

    def sample(
        self,
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor | None,
        random: RandomStreams,
        own: Tensor | None = None,
        own_targets: Tensor | None = None,
    ) -> CandidateSet:
        """Return the whole catalogue as candidates."""
        if own is not None:
            inputs = inputs[own]
        if own_targets is not None:
            targets = targets[own_targets]
        return CandidateSet(self._items, inputs, targets, self._correction)


def pairs_in_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return all ordered pairs of different clicks of one row, as two (pairs,) int64 tensors.

    Args:
        rows: (clicks,) int64, the row of each click.
    """
    order = torch.argsort(rows, stable=True)
    lengths = torch.unique_consecutive(rows[order], return_counts=True)[1]
    row_starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)  # of each click's row
    partners = lengths.repeat_interleave(lengths)  # clicks in each click's row
    first = torch.arange(len(order), device=order.device).repeat_interleave(partners)
    within = torch.arange(len(first), device=order.device)
    within = within - (partners.cumsum(0) - partners).repeat_interleave(partners)
    second = row_starts.repeat_interleave(partners) + within
    differ = first != second
    return order[first[differ]], order[second[differ]]
