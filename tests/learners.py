"""A learner over nine items whose draws are known, and one batch for it."""

import numpy as np
import torch
from torch import Tensor

from data.batches import Batch
from recsys.model import ModelSize
from training.learner import Learner, Weights
from training.negatives import NegativeSampler
from training.recipe import Recipe

PLAIN = Recipe(
    hidden=6, batch=3, negatives=4, dropout_embedding=0, dropout_hidden=0, learning_rate=0.05
)
CPU = torch.device("cpu")
ITEMS = 9
COUNTS = np.full(ITEMS, 2)


class SameThree(NegativeSampler):
    """Draws items 4, 0 and 8, whatever is asked."""

    def draw(self, samples: int) -> Tensor:
        return torch.tensor([4, 0, 8])


def learner_of(
    recipe: Recipe, kind: type[Learner] = Learner, sampling: type[NegativeSampler] = NegativeSampler
) -> Learner:
    generator = torch.Generator().manual_seed(0)
    weights = Weights.fresh(ModelSize(ITEMS, recipe.hidden, recipe.layers), generator)
    sampler = sampling(COUNTS, recipe.sample_alpha, generator)
    return kind(weights, recipe, sampler, generator, CPU)


def batch_of(clicked: list[int], following: list[int], fresh: list[bool]) -> Batch:
    return Batch(np.array(clicked), np.array(following), np.array(fresh), np.arange(len(clicked)))


def scores_by_hand(learner: Learner, clicked: list[int], columns: list[int]) -> Tensor:
    """What fresh lanes score the columns, from the weights as they are: (b, columns) float64."""
    weights = learner.weights
    blank = weights.model.blank(len(clicked))
    read = weights.model.step(weights.matrix, torch.tensor(clicked), blank)[-1].detach()
    at = torch.tensor(columns)
    return (read @ weights.matrix[at].T + weights.bias[at]).double()
