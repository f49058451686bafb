"""Term of new items: chosen for scores with the counts of clicks, where these go on."""

import dataclasses

import numpy as np
import pyarrow as pa
import torch

from data.batches.selection import Selection
from data.content import ContentColumn, ItemContent
from data.sessions import Sessions
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from tests.support.bundles.model_kinds import random_weights, recipe_of
from training.additions.chooser import chooser_of
from training.additions.new_items import choose_new_item_term
from training.additions.recent_popularity import recent_of
from training.model.content import ContentFeatures, ContentWeights
from training.model.weights import eager_predictor
from training.recipe import Recipe

CLICKED, ITEMS = 100, 200
IDS = tuple(f"i{item}" for item in range(ITEMS))
RECIPE = Recipe(hidden=8, blend="none", repeats="none")


def with_new_items() -> Predictor:
    """Return an untrained predictor with content, which has clicks of the first items only."""
    recipe, generator = recipe_of("gru shared cosine"), torch.Generator().manual_seed(1)
    kinds = pa.array([[str(item // 10)] for item in range(ITEMS)], pa.large_list(pa.string()))
    content = ItemContent(pa.array(IDS), (ContentColumn("kind", "categorical", texts=kinds),))
    features = ContentFeatures.of(content, IDS, CLICKED)
    learned = ContentWeights.fresh(features, recipe.hidden, generator)
    weights = dataclasses.replace(random_weights(recipe, CLICKED), content=learned)
    counts = np.repeat([5, 0], [CLICKED, ITEMS - CLICKED])
    return eager_predictor(weights, Catalogue(IDS, counts), recipe)


def trends(seed: int, sessions: int, first_ms: int, items: int) -> Sessions:
    """Return sessions that run at the same time; every 1,000 s ten others of the items trend."""
    random = np.random.default_rng(seed)
    start_ms = first_ms + 10_000 * np.arange(sessions)
    kind = start_ms // 1_000_000 * 37 % (items // 10)
    clicked = np.repeat(10 * kind, 4) + random.integers(0, 10, 4 * sessions)
    time_ms = np.repeat(start_ms, 4) + 30_000 * np.tile(np.arange(4), sessions)
    return Sessions(clicked.astype(np.int32), time_ms, np.arange(sessions + 1) * 4, IDS)


def test_the_term_is_that_of_scores_with_counts_that_go_on() -> None:
    """Clicks tell new items apart, so that no shift has to keep all of them below the others."""
    predictor = with_new_items()
    train = Selection(trends(1, 2500, 0, CLICKED))
    valid = trends(2, 500, 25_000_000, ITEMS)

    additions = chooser_of(RECIPE)(predictor, train, valid)

    recent = recent_of(additions.recent, predictor.catalogue, train)
    assert recent is not None
    assert recent.is_trending
    with_counts = choose_new_item_term(RECIPE, predictor.with_recent(recent), valid)
    assert additions.new_items == with_counts.term
    assert additions.new_items != choose_new_item_term(RECIPE, predictor, valid).term
