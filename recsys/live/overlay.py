"""Overlay of a bundle: entries of the live catalogue, applied to its predictor.

An overlay takes entries in any order and any number. `predictor` returns an immutable predictor of
what it has so far: the model of the bundle, items that may not be shown, changed attributes, and
new items, whose vectors the content encoder of the bundle computes. A new item that cannot have a
vector is not placed: the predictor does not know it.

The vector of an item that the bundle knows stays as it was trained: its clicks say more than its
content, and only a training can weigh both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import CategoricalAttribute
from recsys.catalogue.id_map import StringArray
from recsys.catalogue.overlay import CatalogueChanges, ItemRows, OverlaidCatalogue
from recsys.errors import WrongContent
from recsys.live.entry import ItemEntry, is_number, text_of
from recsys.predictor import Predictor
from recsys.retrieval.new_items import PlacedItems

FIRST_ROWS = 64  # room of a table at first; it doubles

Texts = Mapping[str, str | None]  # attribute → text


@dataclass(frozen=True, slots=True)
class OverlayCounts:
    """Sizes of an overlay, for metrics."""

    changed: int = 0  # items of the bundle with changed attributes
    unavailable: int = 0  # items of the bundle and placed items that may not be shown
    placed: int = 0  # new items with a vector
    not_placed: int = 0  # new items without one


@dataclass(frozen=True, slots=True)
class _NewItem:
    available: bool
    texts: Texts
    vector: Tensor  # (H,) float32
    bias: float
    digest: bytes


class Overlay:
    """Entries of the live catalogue, bound to the predictor of a bundle."""

    def __init__(self, predictor: Predictor) -> None:
        """Bind to a predictor without an overlay."""
        self._base = predictor
        self._recount: Callable[[Predictor], Predictor] = _as_it_is
        self._attributes = predictor.catalogue.attributes
        self._available = np.ones(len(predictor.catalogue), dtype=bool)
        self._place_of: dict[int, int] = {}  # item index → row of the table
        self._changed = _Table(list(self._attributes))
        self._new: dict[str, _NewItem] = {}
        self._not_placed: set[str] = set()
        self._placed: tuple[PlacedItems, ItemRows, list[str]] | None = None  # None: to be made

    @property
    def counts(self) -> OverlayCounts:
        """Return how many items of each kind there are."""
        gone = int(np.count_nonzero(~self._available))
        gone += sum(not item.available for item in self._new.values())
        return OverlayCounts(len(self._place_of), gone, len(self._new), len(self._not_placed))

    def apply(self, entries: Mapping[str, ItemEntry | None]) -> None:
        """Take entries, each the whole entry of its item; None: the item has none any more."""
        new: dict[str, ItemEntry] = {}
        for item_id, entry in entries.items():
            index = self._base.catalogue.find(item_id)
            if index is not None:
                self._change(index, entry or ItemEntry())
            elif entry is None:
                self._forget(item_id)
            else:
                new[item_id] = entry
        self._place(new)

    def recount(self, change: Callable[[Predictor], Predictor]) -> None:
        """Count clicks otherwise from now on.

        Args:
            change: returns the same predictor with the counts of its items, the new ones too.
        """
        self._base, self._recount = change(self._base), change

    def predictor(self) -> Predictor:
        """Return a predictor with the entries so far; that of the bundle if nothing differs."""
        new, rows, ids = self._new_items()
        shown = np.array([self._new[item_id].available for item_id in ids], dtype=bool)
        available = np.concatenate([self._available, shown])
        if available.all() and not self._place_of and not ids:
            return self._base
        items, changed = self._changed.rows(self._place_of)
        place_of_id = {item_id: place for place, item_id in enumerate(ids)}
        mask = None if available.all() else AllowedItems.of_mask(available)
        changes = CatalogueChanges(mask, items, changed, place_of_id, rows)
        catalogue = OverlaidCatalogue(self._base.catalogue, changes)
        overlaid = self._base.with_overlay(catalogue, new)
        return self._recount(overlaid) if ids else overlaid  # the base has counts of its items

    def _change(self, index: int, entry: ItemEntry) -> None:
        self._available[index] = entry.available
        if not entry.attributes and index not in self._place_of:
            return
        place = self._place_of.setdefault(index, len(self._place_of))
        texts = {name: texts[index] for name, texts in self._attributes.items()}
        self._changed.put(place, {**texts, **self._fitting(entry)})

    def _fitting(self, entry: ItemEntry) -> Texts:
        """Return the attributes that the bundle has, too, and whose values fit its own."""
        texts = {name: text_of(value) for name, value in entry.attributes.items()}
        return {
            name: text
            for name, text in texts.items()
            if name in self._attributes
            and (is_number(text) or self._attributes[name].numbers is None)
        }

    def _place(self, entries: Mapping[str, ItemEntry]) -> None:
        """Compute the vectors of new items, of all together."""
        placed: dict[str, ItemEntry] = {}
        for item_id, entry in entries.items():
            if self._is_placeable(entry):
                placed[item_id] = entry
            else:
                self._forget(item_id)
                self._not_placed.add(item_id)
        if not placed:
            return
        content = self._base.content
        assert content is not None, "without an encoder no item is placeable"
        items = [(entry.attributes, entry.vectors) for entry in placed.values()]
        vectors, biases = content.encode(items)
        rows = zip(placed.items(), vectors, biases.tolist(), strict=True)
        for (item_id, entry), vector, bias in rows:
            self._new[item_id] = _NewItem(
                entry.available, self._fitting(entry), vector, bias, entry.digest
            )
            self._not_placed.discard(item_id)
        self._placed = None

    def _is_placeable(self, entry: ItemEntry) -> bool:
        content = self._base.content
        if content is None or not self._base.shares_inputs or not entry.has_content:
            return False
        try:
            content.check(entry.attributes, entry.vectors)
        except WrongContent:  # another bundle accepted it
            return False
        return True

    def _forget(self, item_id: str) -> None:
        self._not_placed.discard(item_id)
        if self._new.pop(item_id, None) is not None:
            self._placed = None

    def _new_items(self) -> tuple[PlacedItems, ItemRows, list[str]]:
        """Return the new items in the order of their ids, which is the same in every process."""
        if self._placed is None:
            ids = sorted(self._new)
            items = [self._new[item_id] for item_id in ids]
            vectors = [item.vector for item in items]
            new = PlacedItems(
                torch.stack(vectors) if vectors else torch.zeros(0, self._base.hidden),
                torch.tensor([item.bias for item in items], dtype=torch.float32),
                [item.digest for item in items],
                len(self._available),
            )
            columns = {
                name: CategoricalAttribute.of([item.texts.get(name) for item in items])
                for name in self._attributes
            }
            self._placed = new, ItemRows(columns, len(ids)), ids
        return self._placed


def _as_it_is(predictor: Predictor) -> Predictor:
    return predictor


class _Table:
    """Growing table of texts, with a column for each attribute."""

    def __init__(self, names: Sequence[str]) -> None:
        self._columns = {name: _Column() for name in names}
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)  # rows, by item index
        self._items: NDArray[np.int64] = np.zeros(0, np.int64)  # item indices, rising

    def put(self, row: int, texts: Texts) -> None:
        for name, text in texts.items():
            self._columns[name].put(row, text)

    def rows(self, place_of: Mapping[int, int]) -> tuple[NDArray[np.int64], ItemRows]:
        """Return the item indices, rising, and their texts.

        place_of: item index → row, in the order of the rows.
        """
        if len(place_of) > len(self._items):
            items = np.fromiter(place_of, np.int64, len(place_of))
            self._order = np.argsort(items)
            self._items = items[self._order]
        columns = {name: column.frozen(self._order) for name, column in self._columns.items()}
        return self._items, ItemRows(columns, len(self._items))


class _Column:
    """Growing column of texts, each distinct text stored once."""

    def __init__(self) -> None:
        self._codes = np.full(FIRST_ROWS, -1, dtype=np.int32)
        self._code_of: dict[str, int] = {}
        self._values = StringArray.of([])
        self._frozen: CategoricalAttribute | None = None  # None: changed since

    def put(self, row: int, text: str | None) -> None:
        while row >= len(self._codes):
            self._codes = np.concatenate([self._codes, np.full_like(self._codes, -1)])
        code = -1 if text is None else self._code_of.setdefault(text, len(self._code_of))
        if self._codes[row] != code:
            self._codes[row], self._frozen = code, None

    def frozen(self, order: NDArray[np.int64]) -> CategoricalAttribute:
        """Return the texts of these rows, in this order."""
        if self._frozen is None or len(self._frozen) != len(order):
            if len(self._code_of) != len(self._values):
                self._values = StringArray.of(list(self._code_of))
            self._frozen = CategoricalAttribute(self._values, self._codes[order])
        return self._frozen
