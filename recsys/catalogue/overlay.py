"""Catalogue with an overlay: changed attributes, items that may not be shown, and new items.

The catalogue of the bundle stays as it is, with all that it has cached. Changed items are rows of a
small table beside it, and so are new items, whose indices follow those of the bundle. A result for
all items is that of the bundle with the rows of both tables put in its place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import CategoricalAttribute, Range
from recsys.catalogue.catalogue import Catalogue, Filter
from recsys.catalogue.id_map import StringArray

FEW_SHARE = 0.25  # of the items: so few are handled as indices
RowsFunction = Callable[[CategoricalAttribute, NDArray[np.int64]], NDArray[Any]]
RowValues = tuple[NDArray[Any], NDArray[Any]]  # of the changed items, and of the new ones


@dataclass(frozen=True, slots=True)
class ItemRows:
    """Attributes of some items: attribute → a text or None for each row."""

    columns: Mapping[str, CategoricalAttribute]
    count: int


@dataclass(frozen=True, slots=True)
class CatalogueChanges:
    """Changes of a catalogue of N items."""

    available: AllowedItems | None  # of all items, new ones too; None where every item is available
    changed_items: NDArray[np.int64]  # item index of each row of `changed`, rising
    changed: ItemRows  # all attributes of the changed items
    new_ids: Mapping[str, int]  # item id → place among the new items
    new: ItemRows  # all attributes of the new items


class OverlaidIds(StringArray):
    """Item ids of the bundle, followed by those of new items."""

    def __init__(self, base: StringArray, more: StringArray) -> None:
        self._base, self._more = base, more

    @property
    def array(self) -> pa.StringArray:
        """The strings as a pyarrow array, copied."""
        return pa.concat_arrays([self._base.array, self._more.array])

    def __len__(self) -> int:
        return len(self._base) + len(self._more)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        return self.take([index % len(self)])[0]

    def take(self, indices: Any) -> list[str]:
        """Return the strings at these indices, which are not negative."""
        count, base, more = len(self._base), self._base, self._more
        return [base[i] if i < count else more[i - count] for i in indices]


class OverlaidAttribute(CategoricalAttribute):
    """Attribute of N items of a bundle, with changed items and new ones."""

    def __init__(self, base: CategoricalAttribute, name: str, changes: CatalogueChanges) -> None:
        self._base, self._name, self._changes = base, name, changes
        self._changed, self._new = changes.changed.columns[name], changes.new.columns[name]

    @property
    def array(self) -> pa.StringArray:
        return pa.array(self, pa.string())

    def __len__(self) -> int:
        return len(self._base) + len(self._new)

    def _text(self, index: int) -> str | None:
        if index >= len(self._base):
            return self._new[index - len(self._base)]
        place = int(np.searchsorted(self._changes.changed_items, index))
        if place < len(self._changed) and self._changes.changed_items[place] == index:
            return self._changed[place]
        return self._base[index]

    def __iter__(self) -> Iterator[str | None]:
        return (self[index] for index in range(len(self)))

    def items_in(self, wanted: Sequence[str]) -> AllowedItems:
        """Return the items whose string is one of these; see `CategoricalAttribute.items_in`."""
        rows = self._of_rows(lambda attribute, rows: attribute.is_in(wanted, rows))
        return put_over(self._base.items_in(wanted), rows, self._changes)

    def items_within(self, bounds: Range) -> AllowedItems:
        """Return the items whose number is within the bounds."""
        rows = self._of_rows(lambda attribute, rows: attribute.is_within(bounds, rows))
        return put_over(self._base.items_within(bounds), rows, self._changes)

    def is_in(self, wanted: Sequence[str], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (n,) bool for n items; see `CategoricalAttribute.is_in`."""
        return self._of_items(items, lambda attribute, rows: attribute.is_in(wanted, rows))

    def is_within(self, bounds: Range, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (n,) bool for n items; see `CategoricalAttribute.is_within`."""
        return self._of_items(items, lambda attribute, rows: attribute.is_within(bounds, rows))

    def weights(
        self, weight_of: Mapping[str, float], items: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return (n,) float64 for n items; see `CategoricalAttribute.weights`."""
        return self._of_items(items, lambda attribute, rows: attribute.weights(weight_of, rows))

    @property
    def numbers(self) -> NDArray[np.float64] | None:
        """The numbers of the bundle's strings; None where one is not a finite number."""
        return self._base.numbers

    def matches(self, test: Callable[[pa.StringArray], pa.BooleanArray]) -> NDArray[np.bool_]:
        """Return (N + new,) bool; see `CategoricalAttribute.matches`."""
        mask = np.concatenate([self._base.matches(test), self._new.matches(test)])
        mask[self._changes.changed_items] = self._changed.matches(test)
        return mask

    def most_frequent(self, count: int) -> tuple[int, list[tuple[str, int]]]:
        """Return the number of distinct strings, and the most frequent with their frequencies.

        It copies the strings of all items.
        """
        return CategoricalAttribute.of(self.array).most_frequent(count)

    def _of_rows(self, of: RowsFunction) -> RowValues:
        return of(self._changed, np.arange(len(self._changed))), of(
            self._new, np.arange(len(self._new))
        )

    def _of_items(self, items: NDArray[np.int64], of: RowsFunction) -> NDArray[Any]:
        """Return values of items, each from the table that has its row."""
        known, changed_items = len(self._base), self._changes.changed_items
        is_new = items >= known
        values = of(self._base, np.where(is_new, 0, items))
        if len(changed_items):
            places = np.searchsorted(changed_items, items)
            changed = changed_items.take(places, mode="clip") == items
            values[changed] = of(self._changed, places[changed])
        if is_new.any():
            values[is_new] = of(self._new, items[is_new] - known)
        return values


class OverlaidCatalogue(Catalogue):
    """Catalogue of a bundle with N items, with changes and new items."""

    def __init__(self, base: Catalogue, changes: CatalogueChanges) -> None:
        """Join both; nothing that grows with N is computed but for new items."""
        self._base, self._changes = base, changes
        self.available = changes.available
        self.new_count = changes.new.count
        self.item_ids = OverlaidIds(base.item_ids, StringArray.of(list(changes.new_ids)))
        self.attributes = {
            name: OverlaidAttribute(attribute, name, changes)
            for name, attribute in base.attributes.items()
        }
        self.find = self._find
        self._allowed = lru_cache(maxsize=base.cached_sets)(self._wanted)

    @cached_property
    def counts(self) -> NDArray[np.int64]:  # type: ignore[override]
        """(N + new,) int64 clicks in training; new items have none."""
        return np.concatenate([self._base.counts, np.zeros(self.new_count, np.int64)])

    @cached_property
    def by_popularity(self) -> NDArray[np.int32]:
        """(N + new,) item indices, the most clicked first, new items last."""
        order, count = self._base.by_popularity, len(self._base)
        if not self.new_count:
            return order
        return np.concatenate([order, np.arange(count, count + self.new_count, dtype=order.dtype)])

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """(N + new,) float32 in (0, 1]; items of the bundle keep theirs, new ones are below."""
        popularity = self._base.popularity
        if not self.new_count:
            return popularity
        below = np.linspace(popularity.min(), 0, self.new_count + 1, endpoint=False)[1:]
        return np.append(popularity, below.astype(np.float32))

    def _find(self, item_id: str) -> int | None:
        index = self._base.find(item_id)
        if index is None and self.new_count:
            place = self._changes.new_ids.get(item_id)
            index = None if place is None else len(self._base) + place
        return index

    def _wanted(self, key: frozenset[tuple[str, frozenset[str] | Range]]) -> AllowedItems:
        wanted = {
            name: values if isinstance(values, Range) else sorted(values) for name, values in key
        }
        rows = _passing(self._changes.changed, wanted), _passing(self._changes.new, wanted)
        items = put_over(self._base.allowed(wanted), rows, self._changes)
        return items if self.available is None else items & self.available


def _passing(rows: ItemRows, wanted: Filter) -> NDArray[np.bool_]:
    """Return which rows pass a filter."""
    every = np.arange(rows.count)
    passing = np.ones(rows.count, dtype=bool)
    for name, values in wanted.items():
        column = rows.columns[name]
        passing &= (
            column.is_within(values, every)
            if isinstance(values, Range)
            else column.is_in(values, every)
        )
    return passing


def put_over(base: AllowedItems, rows: RowValues, changes: CatalogueChanges) -> AllowedItems:
    """Return allowed items with the rows of an overlay in their place.

    Args:
        base: those of N items.
        rows: whether a changed item is allowed, and a new one.
        changes: where the changed rows belong.
    """
    changed, new = rows
    if base.share < FEW_SHARE:  # without a mask of all items
        items, edited = base.indices, changes.changed_items
        places = np.searchsorted(edited, items)
        kept = items[edited.take(places, mode="clip") != items] if len(edited) else items
        more = edited[changed], base.total + np.flatnonzero(new)
        indices = np.concatenate([kept, *more]).astype(np.int32)
        return AllowedItems.of_indices(indices, base.total + len(new))
    mask = np.concatenate([base.mask, new])
    mask[changes.changed_items] = changed
    return AllowedItems.of_mask(mask)
