"""Content in training: features of a catalogue, the sum of a step, and the tables of a bundle."""

import dataclasses

import numpy as np
import pyarrow as pa
import torch

from data.batches.whole_sessions import WholeSessionBatches
from data.content import ItemContent
from data.sessions import reindex
from tests.support.training.builders import words
from tests.support.training.small_content import COLUMNS, IDS
from training.model.content import ContentFeatures, ContentWeights
from training.model.sampling import NegativeSampler, RandomStreams, candidate_sampler
from training.model.step import TrainingStep
from training.model.weights import Weights
from training.recipe import Recipe
from training.trainer import FromScratch

CPU = torch.device("cpu")
CLICKED = 6
CLICKS = reindex(words(*["abcd", "bcda", "efab", "dcef"] * 5), IDS[:CLICKED])
RECIPE = Recipe(hidden=4, batch=4, negatives=6, warmup=0.0, dropout_items=0.5)


def content() -> ItemContent:
    return ItemContent(pa.array(IDS), COLUMNS)


def weights_with_content(recipe: Recipe = RECIPE) -> Weights:
    generator = torch.Generator().manual_seed(1)
    weights = Weights.fresh(recipe.size(CLICKED), generator)
    features = ContentFeatures.of(content(), IDS, CLICKED)
    made = ContentWeights.fresh(features, recipe.hidden, generator)
    return dataclasses.replace(weights, content=made)


def trained(recipe: Recipe = RECIPE, steps: int = 3) -> tuple[Weights, Weights]:
    """Return the weights before and after some steps."""
    weights = weights_with_content(recipe)
    before = {name: tensor.clone() for name, tensor in weights.tensors().items()}
    plan = WholeSessionBatches(CLICKS, recipe.batch, recipe.window, recipe.seed)
    counts = np.bincount(CLICKS.items, minlength=CLICKED)
    step = TrainingStep(weights, recipe, candidate_sampler(recipe, counts, 10.0, CPU), CPU)
    for number in range(steps):
        step.run(plan[number], RandomStreams(CPU, recipe.seed, 0, number), measure=True)
    old = weights_with_content(recipe)
    old.load(before)
    return old, weights


def test_a_table_of_a_bundle_is_own_vector_plus_content() -> None:
    weights = weights_with_content(dataclasses.replace(RECIPE, scale=0.0))
    assert weights.content is not None
    weights.bias += 1.0

    exported = weights.exported()

    parts = weights.content.parts(CLICKED)
    assert exported.matrix.shape == (len(IDS), RECIPE.hidden)
    torch.testing.assert_close(exported.matrix[:CLICKED], weights.matrix + parts[:CLICKED, :-1])
    torch.testing.assert_close(exported.matrix[CLICKED:], parts[CLICKED:, :-1])
    torch.testing.assert_close(exported.bias[:CLICKED], 1 + parts[:CLICKED, -1])
    torch.testing.assert_close(exported.bias[CLICKED:], parts[CLICKED:, -1])


def test_content_learns_and_rows_of_values_that_no_click_touches_stay() -> None:
    """No item with a click is mauve, and one such value has no row; red is of four items."""
    before, after = trained()
    assert before.content is not None
    assert after.content is not None

    changed = (before.content.values != after.content.values).any(dim=1)

    schema = after.content.features.schema
    assert [field.values for field in schema.fields[:2]] == [("red",), ("x", "y")]
    assert changed.all()
    assert not torch.equal(before.content.projection, after.content.projection)


def test_an_item_that_always_loses_its_own_vector_keeps_it() -> None:
    """With a rate near 1, every own vector is dropped in these steps, and gets no gradient."""
    before, after = trained(dataclasses.replace(RECIPE, dropout_items=1 - 1e-9))

    assert torch.equal(before.matrix, after.matrix)
    assert torch.equal(before.bias, after.bias)


def test_items_without_clicks_are_not_sampled() -> None:
    catalogue = FromScratch(content=content()).catalogue(CLICKS)

    assert list(catalogue.item_ids[-2:]) == ["g", "h"]
    assert catalogue.counts[-2:].tolist() == [0, 0]
    sampler = NegativeSampler(catalogue.counts[catalogue.counts > 0], 0.0, CPU)
    assert int(sampler.draw(torch.arange(1000, dtype=torch.float64) / 1000).max()) < CLICKED
