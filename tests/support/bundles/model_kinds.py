"""One small model of every kind, with random weights.

The models are not trained: the laws of states, lists and bundles hold for any weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recsys.bundle.golden import open_predictor
from recsys.catalogue.catalogue import Catalogue
from recsys.model.cells import CELLS
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import EMBEDDINGS
from recsys.predictor import Predictor
from training.export import Export, write_bundle
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe

WIDTHS = {"shared": 0, "separate": 5, "none": 0}
KINDS: Mapping[str, Mapping[str, Any]] = {
    **{
        f"{cell} {embedding}": {
            "cell": cell,
            "embedding": embedding,
            "embedding_width": WIDTHS[embedding],
        }
        for cell in CELLS
        for embedding in EMBEDDINGS
    },
    "gru shared cosine": {"scale": 9.0},
    "lstm separate cosine": {"cell": "lstm", "embedding": "separate", "scale": 9.0},
    "gru none cosine": {"embedding": "none", "scale": 9.0},
}


def recipe_of(kind: str, **settings: Any) -> Recipe:
    """Return a small recipe of that kind; separate embeddings have two layers."""
    layers = 2 if "separate" in kind else 1
    plain = {"hidden": 8, "layers": layers, "scale": 0.0, "window": 3}
    return Recipe(**{**plain, **KINDS[kind], **settings})


TYPES = EventTypes(("cart", "order", "view"), "view", ("order",))


def random_weights(recipe: Recipe, items: int, types: EventTypes = NO_EVENT_TYPES) -> Weights:
    """Return initial weights plus noise: biases are not 0, and vectors not of length 1."""
    generator = torch.Generator().manual_seed(3)
    weights = Weights.fresh(recipe.size(items, types.count), generator, types)
    for tensor in weights.tensors().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return weights


class ModelKinds:
    """One model of every kind over one catalogue, made at the first request."""

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder = folder
        self._catalogue = catalogue

    def eager(self, kind: str) -> Predictor:
        recipe = recipe_of(kind)
        return eager_predictor(self._weights(kind), self._catalogue, recipe)

    def bundle(self, kind: str, **settings: Any) -> Path:
        """Return the folder of a bundle; `settings` change the recipe of the kind."""
        out = self._folder / "-".join([*kind.split(), *map(str, settings.values())])
        if not out.exists():
            ids = self._catalogue.item_ids
            golden = [list(ids[:5]), [ids[7]], ["unknown"]]
            recipe = recipe_of(kind, **settings)
            write_bundle(out, Export(self._weights(kind), self._catalogue, recipe, {}, {}, golden))
        return out

    def typed_bundle(self, kind: str, **settings: Any) -> Path:
        """Return the folder of a bundle whose model has event types; an order excludes its item."""
        out = self._folder / "-".join(["typed", *kind.split()])
        if not out.exists():
            ids = self._catalogue.item_ids
            recipe = recipe_of(kind, **settings, exclude_after="order")
            weights = random_weights(recipe, len(ids), TYPES)
            golden = [list(ids[:3]), [ids[7], ids[7]]]
            events: list[list[str | None]] = [["view", "cart", "order"], [None, "another type"]]
            export = Export(weights, self._catalogue, recipe, {}, {}, golden, golden_events=events)
            write_bundle(out, export)
        return out

    def scripted(self, kind: str) -> Predictor:
        return open_predictor(self.bundle(kind))

    def _weights(self, kind: str) -> Weights:
        return random_weights(recipe_of(kind), len(self._catalogue))
