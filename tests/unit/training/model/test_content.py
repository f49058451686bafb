"""Content in training: features of a catalogue, the sum of a step, and the tables of a bundle."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from data.batches.whole_sessions import WholeSessionBatches
from data.content import ContentColumn, ItemContent
from data.sessions import reindex
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import SEPARATOR
from tests.support.training.builders import words
from tests.support.training.small_content import COLUMNS, IDS, ITEMS
from training.model.content import ContentFeatures, ContentWeights
from training.model.sampling import NegativeSampler, RandomStreams, candidate_sampler
from training.model.step import TrainingStep
from training.model.weights import Weights
from training.recipe import Recipe
from training.trainer import FromScratch

CPU = torch.device("cpu")
CLICKED = 6
STEPS = 3
CLICKS = reindex(words(*["abcd", "bcda", "efab", "dcef"] * 5), IDS[:CLICKED])
RECIPE = Recipe(hidden=4, batch=4, negatives=6, warmup=0.0)


def content() -> ItemContent:
    return ItemContent(pa.array(IDS), COLUMNS)


def weights_with_content(recipe: Recipe = RECIPE) -> Weights:
    generator = torch.Generator().manual_seed(1)
    weights = Weights.fresh(recipe.size(CLICKED), generator)
    features = ContentFeatures.of(content(), IDS, CLICKED)
    made = ContentWeights.fresh(features, recipe.hidden, generator)
    return dataclasses.replace(weights, content=made)


def trained(weights: Weights, recipe: Recipe = RECIPE) -> Weights:
    """Return the weights after some steps."""
    plan = WholeSessionBatches(CLICKS, recipe.batch, recipe.window, recipe.seed)
    counts = np.bincount(CLICKS.items, minlength=CLICKED)
    step = TrainingStep(weights, recipe, candidate_sampler(recipe, counts, 10.0, CPU), CPU)
    for number in range(STEPS):
        step.run(plan[number], RandomStreams(CPU, recipe.seed, 0, number), measure=True)
    return weights


def test_a_bundle_holds_own_vectors_then_those_of_content() -> None:
    weights = weights_with_content(dataclasses.replace(RECIPE, scale=0.0))
    assert weights.content is not None
    lifted = weights.with_new_items(NewItemTerm(0.5))

    encoder = lifted.encoder([])
    exported = lifted.exported(encoder)

    assert encoder is not None
    vectors, biases = encoder.place(weights.content.parts(CLICKED))
    assert exported.matrix.shape == (len(IDS), RECIPE.hidden)
    assert torch.equal(exported.matrix, torch.cat([weights.matrix, vectors]))
    assert torch.equal(exported.bias, torch.cat([weights.bias, biases]))
    assert (biases == 0.5).all()  # untrained biases are 0


@pytest.mark.parametrize("changes", [{}, {"clip": 0.1, "momentum": 0.1, "scored_items": "all"}])
def test_content_changes_no_weight_of_items_with_clicks(changes: dict[str, Any]) -> None:
    recipe = dataclasses.replace(RECIPE, **changes)
    without = Weights.fresh(recipe.size(CLICKED), torch.Generator().manual_seed(1))
    untrained = weights_with_content(recipe).tensors()

    alone = trained(without, recipe).tensors()
    beside = trained(weights_with_content(recipe), recipe).tensors()

    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    learned = beside.keys() - alone.keys()
    assert learned == {"content.values", "content.projection"}
    assert not any(torch.equal(untrained[name], beside[name]) for name in learned)


def test_values_of_fewer_than_three_items_with_clicks_have_no_row_of_their_own() -> None:
    """Three of the items with clicks are red, one is blue, one green; none is mauve."""
    features = ContentFeatures.of(content(), IDS, CLICKED)

    assert [field.values for field in features.schema.fields[:2]] == [("red",), ("x", "y")]


def test_values_that_occur_together_have_rows_of_their_own() -> None:
    """Of items a to f, three are red and sold; f is green and sold, g red and not, h has none."""
    sold = [["yes"]] * 6 + [["no"], []]
    column = ContentColumn("sold", "categorical", texts=pa.array(sold, pa.large_list(pa.string())))
    about = ItemContent(pa.array(IDS), (*COLUMNS, column))

    features = ContentFeatures.of(about, IDS, CLICKED)

    (cross,) = features.schema.crosses
    assert cross.names == ("colour", "sold")
    assert cross.values == (SEPARATOR.join(["red", "yes"]),)
    first = features.schema.rows - 2  # of all other pairs
    rows = features.rows
    pairs = [
        [code - first for code in rows.codes[start:end].tolist() if code >= first]
        for start, end in itertools.pairwise(rows.offsets.tolist())
    ]
    assert pairs == [[1], [1], [1], [0], [], [0], [0], []]
    for (attributes, _), bought, pair in zip(ITEMS, sold, pairs, strict=True):
        codes, weights = features.schema.entries(
            {**attributes, "sold": bought[0] if bought else None}
        )
        assert [code - first for code in codes if code >= first] == pair
        assert len(weights) == len(codes)


def test_items_without_clicks_are_not_sampled() -> None:
    catalogue = FromScratch(content=content()).catalogue(CLICKS)

    assert list(catalogue.item_ids[-2:]) == ["g", "h"]
    assert catalogue.counts[-2:].tolist() == [0, 0]
    sampler = NegativeSampler(catalogue.counts[catalogue.counts > 0], 0.0, CPU)
    assert int(sampler.draw(torch.arange(1000, dtype=torch.float64) / 1000).max()) < CLICKED
