"""Small bundle with random weights whose model places new items by brand, price and image."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from data.content import ContentColumn, ItemContent
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from tests.support.bundles.model_kinds import random_weights, recipe_of
from training.export import Export, write_bundle
from training.model.content import ContentFeatures, ContentWeights
from training.model.weights import Weights, eager_predictor

ITEMS = 12
IDS = [f"item-{number}" for number in range(ITEMS)]
BRANDS = ["Ada", "Bob", "Cy"] * 4
PRICES = [float(5 * number) for number in range(ITEMS)]
RECIPE = recipe_of("gru shared cosine")


def content_catalogue() -> Catalogue:
    prices = [f"{price:g}" for price in PRICES]
    return Catalogue(IDS, np.arange(ITEMS, 0, -1), {"brand": BRANDS, "price": prices})


def content_weights() -> Weights:
    """Return random weights; an image is a vector of two numbers."""
    generator = torch.Generator().manual_seed(8)
    columns = (
        ContentColumn(
            "brand",
            "categorical",
            texts=pa.array([[b] for b in BRANDS], pa.large_list(pa.string())),
        ),
        ContentColumn("price", "numeric", numbers=np.array(PRICES)),
        ContentColumn(
            "image",
            "vector",
            matrix=torch.randn(ITEMS, 2, generator=generator).numpy(),
            rows=np.arange(ITEMS),
        ),
    )
    features = ContentFeatures.of(ItemContent(pa.array(IDS), columns), IDS, ITEMS)
    content = ContentWeights.fresh(features, RECIPE.hidden, generator)
    return dataclasses.replace(random_weights(RECIPE, ITEMS), content=content)


def content_predictor() -> Predictor:
    return eager_predictor(content_weights(), content_catalogue(), RECIPE)


def write_content_bundle(out: Path) -> Path:
    golden = [IDS[:3], [IDS[4]]]
    write_bundle(out, Export(content_weights(), content_catalogue(), RECIPE, {}, {}, golden))
    return out
