"""The bundle that finetuning continues: read, verified, and asked its golden sessions once more.

The golden sessions are answered by the weights that will be trained on, not by the TorchScript
beside them, so what is continued is what was served.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from data.sessions import Sessions, reindex
from recsys.blend import Blend
from recsys.bundle import load_bundle
from recsys.bundle_files import GOLDEN, WEIGHTS
from recsys.catalogue import Catalogue
from recsys.errors import BadRecipe, BundleRefused
from recsys.golden import check_golden, read_golden
from recsys.manifest import Manifest
from recsys.model import ModelSize
from training.evaluate import Evaluation, evaluate
from training.recipe import Recipe, checked_recipe
from training.weights import Weights, eager_predictor


@dataclass(frozen=True)
class Parent:
    """The bundle that is continued; its weights have answered its golden sessions."""

    manifest: Manifest
    catalogue: Catalogue
    weights: Weights
    recipe: Recipe
    blend: Blend | None = None

    @property
    def model_id(self) -> str:
        return self.manifest.model_id

    @property
    def lineage(self) -> list[str]:
        """Model ids from the first ancestor, trained from scratch, to the parent."""
        return [*self.manifest.training.get("lineage", []), self.model_id]

    def results(self, test: Sessions) -> dict[str, Evaluation]:
        """What the stale model reaches; nothing where it knows none of the items to be found."""
        tested = reindex(test, self.catalogue.item_ids)
        if not (tested.next_clicks >= 0).any():
            return {}
        predictor = eager_predictor(self.weights, self.catalogue, self.recipe, self.blend)
        return {"parent": evaluate(predictor, tested, len(self.catalogue))}


def read_parent(folder: Path) -> Parent:
    """Bundle folder → what can be continued; raises `BundleRefused`."""
    bundle = load_bundle(folder)
    manifest, size = bundle.manifest, bundle.manifest.size
    try:
        recipe = checked_recipe(manifest.recipe)
    except BadRecipe as wrong:
        raise BundleRefused(f"{folder}: {wrong} Train the bundle anew.") from wrong
    if (recipe.size(size.items), recipe.window) != (size, manifest.window):
        raise BundleRefused(f"{folder}: its recipe is not that of its model. Train it anew.")
    lineage = manifest.training.get("lineage", [])
    if not isinstance(lineage, list) or not all(isinstance(name, str) for name in lineage):
        raise BundleRefused(f"{folder}: its lineage is no list of model ids. Train it anew.")
    weights = _read_weights(folder / WEIGHTS, size)
    predictor = eager_predictor(weights, bundle.catalogue, recipe, bundle.blend)
    check_golden(predictor, read_golden(folder / GOLDEN))
    return Parent(manifest, bundle.catalogue, weights, recipe, bundle.blend)


def _read_weights(path: Path, size: ModelSize) -> Weights:
    weights = Weights.fresh(size, torch.Generator())
    found, wanted = load_file(path), weights.tensors()
    odd = sorted(found.keys() ^ wanted.keys())
    odd += [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    if odd:
        raise BundleRefused(f"{path}: {', '.join(odd)} are not those of this model. Train it anew.")
    weights.load(found)
    return weights
