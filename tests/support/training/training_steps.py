"""A learner over nine items whose draws are known, and one batch for it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batches import Batch
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
    batches="lanes",
    batch=3,
    columns="drawn",
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
    """Draws items 4, 0 and 8, whatever is asked."""

    def draw(self, uniform: Tensor) -> Tensor:
        return torch.tensor([4, 0, 8])


def draws_of(step: int = 0) -> RandomStreams:
    return RandomStreams(CPU, 0, 0, step)


class SteppingLearner(TrainingStep):
    """Numbers its steps by itself."""

    taken = 0

    def follow(self, batch: Batch, share: float = 0.0, **asked: Any) -> StepResult:
        self.taken += 1
        return self.learn(batch, draws_of(self.taken), share, **asked)


def learner_of(
    recipe: Recipe, sampling: type[NegativeSampler] = NegativeSampler
) -> SteppingLearner:
    weights = Weights.fresh(recipe.size(ITEMS), torch.Generator().manual_seed(0))
    columns = candidate_sampler(recipe, COUNTS, recipe.batch, CPU)
    if sampling is not NegativeSampler:
        sampler = sampling(COUNTS, recipe.sample_alpha, CPU)
        columns = SampledCandidates(recipe, sampler, recipe.batch, CPU)
    return SteppingLearner(weights, recipe, columns, CPU)


def batch_of(clicked: list[int], following: list[int], fresh: list[bool]) -> Batch:
    """One step of lanes."""
    lanes = len(clicked)
    return Batch(
        np.array(clicked), np.array(following), np.array([lanes]), np.arange(lanes), np.array(fresh)
    )


def scores_by_hand(learner: TrainingStep, clicked: list[int], columns: list[int]) -> Tensor:
    """What fresh lanes score the columns, from the weights as they are: (b, columns) float64."""
    weights = learner.weights
    blank = weights.model.initial_state(len(clicked))
    read = weights.model.step(weights.matrix, torch.tensor(clicked), blank)[-1].detach()
    at = torch.tensor(columns)
    return (read @ weights.matrix[at].T + weights.bias[at]).double()
