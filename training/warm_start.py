"""Warm start: catalogue and initial weights of a run that continues a bundle with new clicks.

Old items keep their order and their rows; new items follow in the order in which the new clicks
first name them. A new item's row is the mean of the rows of the old items clicked right before
or after it; without any, it is where its content places it, or else the mean of all old rows.

An item that the bundle placed by its content alone has no row of its own. It is new when it is
clicked; until then it stands behind the items with clicks, as long as the items file has it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from data.batches.selection import Selection
from data.content import CANNOT, ItemContent
from data.sessions import Counted, Sessions, known_items, reindex
from recsys.bundle.golden import check_golden, read_golden
from recsys.bundle.layout import GOLDEN, NEWEST_CLICKS, NEWEST_MS, WEIGHTS
from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import Manifest
from recsys.catalogue.catalogue import Catalogue
from recsys.content.encoder import ContentEncoder
from recsys.errors import BadInput, BadRecipe, BundleRefused
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.gru4rec import ModelSize
from recsys.model.recent_popularity import RecentPopularity
from recsys.neighbours.blend import Blend
from training.checkpoint import Additions
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.trending import going_on
from training.model.content import CONTENT_VERSION, ContentFeatures, ContentWeights
from training.model.event_types import check_names
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe, checked_recipe, names_of
from training.trainer import ItemTexts, texts_of

BLEND_SETTINGS = (
    "blend",
    "blend_weight",
    "neighbours",
    "candidates",
    "idf",
    "click_decay",
    "age_decay_days",
    "distance_decay",
)


@dataclass(frozen=True)
class BaseModel:
    """Bundle to continue, whose weights gave the lists of its golden sessions."""

    manifest: Manifest
    catalogue: Catalogue
    weights: Weights
    recipe: Recipe
    blend: Blend | None = None
    recent: RecentPopularity | None = None
    content: ContentEncoder | None = None

    @property
    def clicked_ids(self) -> tuple[str, ...]:
        """Return the ids of the items with rows of their own, which come first."""
        catalogue = self.catalogue
        count = len(catalogue) if self.content is None else np.count_nonzero(catalogue.counts)
        return tuple(catalogue.item_ids[: int(count)])

    @property
    def model_id(self) -> str:
        return self.manifest.model_id

    @property
    def seen_until_ms(self) -> int:
        """Return the time from which on a session is new to the weights."""
        return seen_until_ms(self.manifest)

    @property
    def lineage(self) -> list[str]:
        """Return the model ids from the first ancestor, trained from scratch, to this model."""
        return [*self.manifest.training.get("lineage", []), self.model_id]

    @property
    def recipe_to_continue(self) -> Recipe:
        """Return the recipe with the weight of the blend, which was perhaps chosen."""
        blend = self.manifest.blend
        if blend is None:
            return dataclasses.replace(self.recipe, blend="none", blend_weight=0.0)
        return dataclasses.replace(self.recipe, blend_weight=blend.weight)

    def keeps_blend(self, recipe: Recipe) -> bool:
        """Return whether a recipe says no more of the blend than that of this model."""
        own = self.recipe_to_continue
        return all(getattr(recipe, name) == getattr(own, name) for name in BLEND_SETTINGS)

    @property
    def additions(self) -> Additions:
        """Return the repeat term, the blend, recent popularity and the term of new items.

        A term of a bundle without similar items is for other scores.
        """
        content = self.content
        return Additions(
            self.manifest.repeats,
            str(self.manifest.training.get("repeats", "none")),
            None if self.blend is None else self.blend.settings,
            self.manifest.recent_popularity,
            new_items=None if content is None or content.similar is None else content.new_items,
        )

    def results(self, test: Sessions, counted: Sessions) -> dict[str, Evaluation]:
        """Return the evaluation of this model as `parent`; empty where it knows no target item.

        Args:
            test: Sessions whose next clicks are ranked.
            counted: All sessions of that time, whose clicks count where clicks decay.
        """
        tested = reindex(test, self.catalogue.item_ids)
        if not (tested.next_clicks >= 0).any():
            return {}
        predictor = eager_predictor(
            self.weights,
            self.catalogue,
            self.recipe,
            self.blend,
            self.manifest.repeats,
            self.recent,
        )
        scorer = going_on(predictor, reindex(counted, self.catalogue.item_ids))
        return {"parent": evaluate(scorer, tested, len(self.catalogue))}


def seen_until_ms(manifest: Manifest) -> int:
    """Return the time after a model's last training click, in ms; 0 where its manifest has none."""
    cut_off = manifest.training.get("cut_off")
    try:
        last = datetime.fromisoformat(cut_off if isinstance(cut_off, str) else "")
    except ValueError:
        return 0
    return 1000 * (math.floor(last.timestamp()) + 1)  # a cut-off has whole seconds


def read_base_model(folder: Path) -> BaseModel:
    """Return the bundle of this folder as a base model.

    Raises:
        BundleRefused: It is damaged, or its recipe or lineage cannot be used.
    """
    bundle = load_bundle(folder)
    manifest, size = bundle.manifest, bundle.manifest.size
    try:
        recipe = checked_recipe(manifest.recipe)
    except BadRecipe as wrong:
        raise BundleRefused(f"{folder}: {wrong} Train the bundle anew.") from wrong
    types = manifest.event_types or NO_EVENT_TYPES
    if (recipe.size(size.items, types.count), recipe.window) != (size, manifest.window):
        raise BundleRefused(f"{folder}: its recipe is not that of its model. Train it anew.")
    lineage = manifest.training.get("lineage", [])
    if not isinstance(lineage, list) or not all(isinstance(name, str) for name in lineage):
        raise BundleRefused(f"{folder}: its lineage is no list of model ids. Train it anew.")
    weights = _read_weights(folder / WEIGHTS, size, types)
    catalogue, blend, recent = bundle.catalogue, bundle.blend, bundle.recent
    predictor = eager_predictor(weights, catalogue, recipe, blend, manifest.repeats, recent)
    check_golden(predictor, read_golden(folder / GOLDEN))
    return BaseModel(manifest, catalogue, weights, recipe, blend, recent, bundle.content)


def _read_weights(path: Path, size: ModelSize, types: EventTypes) -> Weights:
    weights = Weights.fresh(size, torch.Generator(), types)
    stored, expected = load_file(path), weights.tensors()
    for name in (NEWEST_CLICKS, NEWEST_MS):
        stored.pop(name, None)
    wrong = sorted(stored.keys() ^ expected.keys())
    wrong += [
        name for name in expected if name in stored and stored[name].shape != expected[name].shape
    ]
    if wrong:
        raise BundleRefused(
            f"{path}: {', '.join(wrong)} are not those of this model. Train it anew."
        )
    weights.load(stored)
    return dataclasses.replace(weights, is_exported=True)


def continued_items(
    old: Sequence[str], clicked: Sequence[str], *, drop_vanished: bool
) -> tuple[str, ...]:
    """Return the old ids in their order, without vanished ones on request, then the new ids."""
    clicked_ids, known = set(clicked), set(old)
    remaining = [item_id for item_id in old if item_id in clicked_ids or not drop_vanished]
    return (*remaining, *(item_id for item_id in clicked if item_id not in known))


@dataclass(frozen=True)
class WarmStart:
    """Initialiser with the weights of a bundle."""

    base_model: BaseModel
    drop_vanished: bool = False  # drop the items without new clicks
    attributes: ItemTexts = field(default_factory=dict)
    only_newer: bool = False  # the weights learn from sessions after the bundle's cut-off alone
    content: ItemContent | None = None  # of the items file, where the bundle learned from content

    @property
    def fingerprint(self) -> str:
        """Return a text that differs between warm starts."""
        newer = " only_newer" if self.only_newer else ""
        content = "" if self.content is None else f" {self.content.digest} {CONTENT_VERSION}"
        return f"{self.base_model.model_id} drop_vanished={self.drop_vanished}{newer}{content}"

    def with_items(self, attributes: ItemTexts, content: ItemContent | None) -> "WarmStart":
        """Return the warm start with what the items file has of the items.

        Raises:
            BadInput: Its vectors are not as long as those that the bundle learned from.
        """
        base = self.base_model.content
        if base is not None and content is not None:
            lengths = {one.name: one.length for one in base.schema.fields}
            problems = [
                f"vectors {one.name!r} have {one.length:,} numbers, and those of the bundle "
                f"{lengths[one.name]:,}. Give vectors of the same encoder, or train anew."
                for one in content.columns
                if one.length != lengths[one.name]
            ]
            if problems:
                raise BadInput(CANNOT, problems)
        return dataclasses.replace(self, attributes=attributes, content=content)

    def learned_part(self, sessions: Selection) -> Selection:
        """Return the sessions, or those that begin after the bundle's cut-off.

        Raises:
            BadInput: None begins after it.
        """
        if not self.only_newer:
            return sessions
        newer = sessions.from_time(self.base_model.seen_until_ms)
        if len(newer) == 0:
            raise BadInput(
                "The clicks cannot continue this bundle",
                [
                    f"none of their {len(sessions):,} sessions begins after its cut-off "
                    f"{self.base_model.manifest.training.get('cut_off')}. Give newer clicks."
                ],
            )
        return newer

    def catalogue(self, sessions: Counted) -> Catalogue:
        """Return old and new items with the counts of the new clicks.

        A vanished item counts one click, so that it can be sampled. Items that have content alone
        come last, with a count of 0: old ones in their order, then those of the items file.

        Raises:
            BadInput: None of the clicked items is an old one.
        """
        clicked, old = known_items(sessions), self.base_model.clicked_ids
        if not set(clicked) & set(old):
            raise BadInput(
                "The clicks cannot continue this bundle",
                [
                    f"none of their {len(clicked):,} items is among its {len(old):,}. Check that "
                    "item ids are written alike, or train a bundle from scratch."
                ],
            )
        item_ids = continued_items(old, clicked, drop_vanished=self.drop_vanished)
        clicks = dict(zip(sessions.item_ids, sessions.counts().tolist(), strict=True))
        counts = np.array([max(clicks.get(item_id, 0), 1) for item_id in item_ids], dtype=np.int64)
        if self.content is not None:
            ids = dict.fromkeys(self.content.ids.to_pylist())
            placed = [i for i in self.base_model.catalogue.item_ids[len(old) :] if i in ids]
            others = {*item_ids, *old}
            item_ids += tuple(i for i in dict.fromkeys([*placed, *ids]) if i not in others)
            counts = np.pad(counts, (0, len(item_ids) - len(counts)))
        return Catalogue(item_ids, counts, texts_of(self.attributes, item_ids))

    def event_types(self, train: Sessions, recipe: Recipe) -> EventTypes:
        """Return the types of the bundle; a type that only the new clicks have is unknown to it.

        Raises:
            BadRecipe: The recipe names a type that the bundle does not know.
        """
        types = self.base_model.weights.event_types
        check_names(recipe, types.names)
        return dataclasses.replace(types, exclude_after=names_of(recipe.exclude_after))

    def weights(
        self, catalogue: Catalogue, indexed: Selection, recipe: Recipe, generator: torch.Generator
    ) -> Weights:
        """Return the bundle's weights, with rows for the new items."""
        base = self.base_model
        clicked, old = int(np.count_nonzero(catalogue.counts)), len(base.clicked_ids)
        old_indices = base.catalogue.find_all(catalogue.item_ids[:clicked])
        rows = torch.from_numpy(old_indices[(old_indices >= 0) & (old_indices < old)])
        beside = clicked_beside(indexed, len(rows), clicked)
        types = self.event_types(indexed.log, recipe)
        weights = Weights.fresh(recipe.size(clicked, types.count), generator, types)
        content = self._content_weights(catalogue, clicked)
        alone: dict[str, Tensor] = {}
        if content is not None and base.content is not None:
            vectors, biases = base.content.place(content.parts(len(rows))[: clicked - len(rows)])
            alone = {"matrix": vectors, "bias": biases - base.content.new_items.shift}
        recurrent = dict(weights.model.named_parameters())
        weights.load(
            {
                name: tensor
                if name in recurrent
                else _with_new_rows(tensor[rows], beside, alone.get(name))
                for name, tensor in base.weights.tensors().items()
            }
        )
        return dataclasses.replace(weights, content=content)

    def _content_weights(self, catalogue: Catalogue, clicked: int) -> ContentWeights | None:
        """Return the content of the bundle for this catalogue, None without content."""
        base = self.base_model.content
        if base is None or self.content is None:
            return None
        features = ContentFeatures.of(self.content, tuple(catalogue.item_ids), clicked, base)
        return ContentWeights.continued(features, base)

    def record(self, sessions: Sessions) -> dict[str, Any]:
        """Return the manifest's record of the warm start."""
        clicked, old = set(known_items(sessions)), set(self.base_model.clicked_ids)
        return {
            "parent": self.base_model.model_id,
            "lineage": self.base_model.lineage,
            "new_items": len(clicked - old),
            "vanished_items": len(old - clicked),
            "drop_vanished": self.drop_vanished,
            **({"only_newer": True} if self.only_newer else {}),
        }

    def summary(self, sessions: Sessions) -> str:
        """Return one line about old, vanished and new items, for the console."""
        record = self.record(sessions)
        fate = "dropped" if self.drop_vanished else "kept"
        return (
            f"Going on from model {self.base_model.model_id}: "
            f"{len(self.base_model.clicked_ids):,} items, "
            f"{record['vanished_items']:,} of them without new clicks ({fate}), and "
            f"{record['new_items']:,} new ones."
        )


def merged_attributes(
    old: Catalogue | None, read: Mapping[str, Mapping[str, str | None]]
) -> dict[str, dict[str, str | None]]:
    """Return attribute → item id → text: a text that was read replaces the old one."""
    texts: dict[str, dict[str, str | None]] = {}
    if old is not None:
        texts = {n: dict(zip(old.item_ids, v, strict=True)) for n, v in old.attributes.items()}
    for name, values in read.items():
        new = {item_id: text for item_id, text in values.items() if text is not None}
        texts[name] = {**texts.get(name, {}), **new}
    return texts


def clicked_beside(indexed: Sessions | Selection, old: int, items: int) -> Tensor:
    """Count how often each new item was clicked right before or after each old one.

    Args:
        indexed: Sessions of item indices; indices below `old` are old items.
        old: Number of old items.
        items: Number of all items.

    Returns:
        (items - old, old) float32, sparse.
    """
    none = torch.zeros((2, 0), dtype=torch.int64), torch.zeros(0)
    total = torch.sparse_coo_tensor(*none, (items - old, old), check_invariants=True).coalesce()
    for part in Selection.of(indexed).parts():
        total = (total + _clicked_beside(part, old, items)).coalesce()
    return total


def _clicked_beside(indexed: Sessions, old: int, items: int) -> Tensor:
    clicks, session = indexed.items.astype(np.int64), indexed.session_of_click
    together = session[:-1] == session[1:]
    before, after = clicks[:-1][together], clicks[1:][together]
    new, known = np.concatenate([before, after]), np.concatenate([after, before])
    counted = (new >= old) & (known < old)
    where = torch.from_numpy(np.stack([new[counted] - old, known[counted]]))
    ones = torch.ones(where.shape[1])
    size = (items - old, old)
    return torch.sparse_coo_tensor(where, ones, size, check_invariants=True).coalesce()


def _with_new_rows(old: Tensor, beside: Tensor, alone: Tensor | None) -> Tensor:
    """Return (items, …) for the rows of old items, (old, …) float32: new rows follow.

    alone: (new, …) rows of new items that were clicked beside no old one; None: the mean.
    """
    flat = old.reshape(len(old), -1)
    total = torch.sparse.mm(beside, torch.ones(len(old), 1))  # (new, 1)
    mean = torch.sparse.mm(beside, flat) / total.clamp(min=1.0)
    others = flat.mean(0) if alone is None else alone.reshape(-1, flat.shape[1])
    rows = torch.where(total > 0, mean, others)
    return torch.cat([old, rows.reshape(-1, *old.shape[1:])])
