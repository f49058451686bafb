"""A bundle and new clicks → the items and weights that finetuning begins with.

Old items keep their order and their rows; new ones follow in the order in which the new clicks
first name them. A new item's row is the mean of the rows of the old items clicked right before
or after it; where there are none, the mean of all old rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from data.sessions import Sessions, known_items, reindex
from recsys.bundle.golden import check_golden, read_golden
from recsys.bundle.layout import GOLDEN, WEIGHTS
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import Manifest
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput, BadRecipe, BundleRefused
from recsys.model.gru4rec import ModelSize
from recsys.neighbours.blend import Blend
from training.evaluation.evaluate import Evaluation, evaluate
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe, checked_recipe


@dataclass(frozen=True)
class BaseModel:
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


def read_base_model(folder: Path) -> BaseModel:
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
    return BaseModel(manifest, bundle.catalogue, weights, recipe, bundle.blend)


def _read_weights(path: Path, size: ModelSize) -> Weights:
    weights = Weights.fresh(size, torch.Generator())
    found, wanted = load_file(path), weights.tensors()
    odd = sorted(found.keys() ^ wanted.keys())
    odd += [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    if odd:
        raise BundleRefused(f"{path}: {', '.join(odd)} are not those of this model. Train it anew.")
    weights.load(found)
    return weights


def continued_items(
    old: Sequence[str], clicked: Sequence[str], *, drop_vanished: bool
) -> tuple[str, ...]:
    """Old ids in their order, with those not clicked any more unless they go, then new ids."""
    still, known = set(clicked), set(old)
    kept = [item_id for item_id in old if item_id in still or not drop_vanished]
    return (*kept, *(item_id for item_id in clicked if item_id not in known))


@dataclass(frozen=True)
class WarmStart:
    """Begins with the parent's weights; drop_vanished: items without new clicks go."""

    parent: BaseModel
    drop_vanished: bool = False

    @property
    def mark(self) -> str:
        return f"{self.parent.model_id} drop_vanished={self.drop_vanished}"

    def catalogue(self, sessions: Sessions) -> Catalogue:
        """Counts are the new clicks; a vanished item keeps one, so that it can be drawn."""
        clicked, old = known_items(sessions), self.parent.catalogue.item_ids
        if not set(clicked) & set(old):
            raise BadInput(
                "The clicks cannot continue this bundle",
                [
                    f"none of their {len(clicked):,} items is among its {len(old):,}. Check that "
                    "item ids are written alike, or train a bundle from scratch."
                ],
            )
        item_ids = continued_items(old, clicked, drop_vanished=self.drop_vanished)
        counts = reindex(sessions, item_ids).counts()
        return Catalogue(item_ids, np.maximum(counts, 1))

    def weights(
        self, catalogue: Catalogue, indexed: Sessions, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """The parent's tensors; those with a row for each item are given rows for the new ones."""
        found = self.parent.catalogue.find_all(catalogue.item_ids)
        rows = torch.from_numpy(found[found >= 0])
        beside = clicked_beside(indexed, len(rows), len(catalogue))
        weights = Weights.fresh(recipe.size(len(catalogue)), generator)
        shared = dict(weights.model.named_parameters())
        weights.load(
            {
                name: tensor if name in shared else _with_new_rows(tensor[rows], beside)
                for name, tensor in self.parent.weights.tensors().items()
            }
        )
        return weights

    def record(self, sessions: Sessions) -> dict[str, Any]:
        """What the manifest keeps of where the model comes from."""
        clicked, old = set(known_items(sessions)), set(self.parent.catalogue.item_ids)
        return {
            "parent": self.parent.model_id,
            "lineage": self.parent.lineage,
            "new_items": len(clicked - old),
            "vanished_items": len(old - clicked),
            "drop_vanished": self.drop_vanished,
        }

    def summary(self, sessions: Sessions) -> str:
        """One line for the person who waits."""
        about = self.record(sessions)
        fate = "dropped" if self.drop_vanished else "kept"
        return (
            f"Going on from model {self.parent.model_id}: {len(self.parent.catalogue):,} items, "
            f"{about['vanished_items']:,} of them without new clicks ({fate}), and "
            f"{about['new_items']:,} new ones."
        )


def merged_attributes(
    old: Catalogue | None, read: Mapping[str, Mapping[str, str | None]]
) -> dict[str, dict[str, str | None]]:
    """Attribute → item id → text: what was read wins, else the old catalogue's text stays."""
    texts: dict[str, dict[str, str | None]] = {}
    if old is not None:
        texts = {n: dict(zip(old.item_ids, v, strict=True)) for n, v in old.attributes.items()}
    for name, values in read.items():
        found = {item_id: text for item_id, text in values.items() if text is not None}
        texts[name] = {**texts.get(name, {}), **found}
    return texts


def clicked_beside(indexed: Sessions, old: int, items: int) -> Tensor:
    """How often each new item was clicked right before or after each old one.

    indexed: items below `old` are old ones; returns (items - old, old) float32, sparse.
    """
    clicks, session = indexed.items.astype(np.int64), indexed.session_of_click
    together = session[:-1] == session[1:]
    before, after = clicks[:-1][together], clicks[1:][together]
    new, known = np.concatenate([before, after]), np.concatenate([after, before])
    counted = (new >= old) & (known < old)
    where = torch.from_numpy(np.stack([new[counted] - old, known[counted]]))
    ones = torch.ones(where.shape[1])
    size = (items - old, old)
    return torch.sparse_coo_tensor(where, ones, size, check_invariants=True).coalesce()


def _with_new_rows(kept: Tensor, beside: Tensor) -> Tensor:
    """kept: (old, …) float32; returns (items, …), new rows below."""
    flat = kept.reshape(len(kept), -1)
    total = torch.sparse.mm(beside, torch.ones(len(kept), 1))  # (new, 1)
    mean = torch.sparse.mm(beside, flat) / total.clamp(min=1.0)
    rows = torch.where(total > 0, mean, flat.mean(0))
    return torch.cat([kept, rows.reshape(-1, *kept.shape[1:])])
