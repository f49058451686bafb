"""Training step over nine items with known negatives, and a mini-batch for it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batches.batch import Batch
from training.model.sampling import (
    NegativeSampler,
    RandomStreams,
    SampledCandidates,
    candidate_sampler,
)
from training.model.step import StepResult, TrainingStep
from training.model.weights import Weights
from training.recipe import Recipe

PLAIN = Recipe(
    hidden=6,
    batches="session-parallel",
    batch=3,
    scored_items="with-duplicates",
    negatives=4,
    sample_alpha=0.5,
    scale=0.0,
    dropout_embedding=0,
    dropout_hidden=0,
    learning_rate=0.05,
    warmup=0.0,
)
CPU = torch.device("cpu")
ITEMS = 9
COUNTS = np.full(ITEMS, 2)


class SameThree(NegativeSampler):
    """Sampler that always returns items 4, 0 and 8."""

    def draw(self, uniform: Tensor) -> Tensor:
        return torch.tensor([4, 0, 8])


def random_of(step: int = 0) -> RandomStreams:
    return RandomStreams(CPU, 0, 0, step)


class CountingStep(TrainingStep):
    """Training step that counts its runs, and draws other random numbers in each."""

    runs = 0

    def next(self, batch: Batch, rate: float | None = None, **options: Any) -> StepResult:
        """Run the next step."""
        self.runs += 1
        return self.run(batch, random_of(self.runs), rate, **options)


def step_of(recipe: Recipe, sampling: type[NegativeSampler] = NegativeSampler) -> CountingStep:
    """Return a training step with random weights and this negative sampler."""
    weights = Weights.fresh(recipe.size(ITEMS), torch.Generator().manual_seed(0))
    candidates = candidate_sampler(recipe, COUNTS, recipe.batch, CPU)
    if sampling is not NegativeSampler:
        sampler = sampling(COUNTS, recipe.sample_alpha, CPU)
        candidates = SampledCandidates(recipe, sampler, recipe.batch, CPU)
    return CountingStep(weights, recipe, candidates, CPU)


def batch_of(inputs: list[int], targets: list[int], is_new_session: list[bool]) -> Batch:
    """Return a session-parallel mini-batch."""
    rows = len(inputs)
    return Batch(
        np.array(inputs),
        np.array(targets),
        np.array([rows]),
        np.arange(rows),
        np.array(is_new_session),
    )


def scores_by_hand(step: TrainingStep, inputs: list[int], candidates: list[int]) -> Tensor:
    """Return the scores of new sessions' first clicks: (B, candidates) float64."""
    weights = step.weights
    state = weights.model.initial_state(len(inputs))
    hidden = weights.model.step(weights.matrix, torch.tensor(inputs), state)[-1].detach()
    items = torch.tensor(candidates)
    return (hidden @ weights.matrix[items].T + weights.bias[items]).double()
