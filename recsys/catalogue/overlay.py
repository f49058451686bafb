"""Catalogue with an overlay: changed attributes, items that may not be shown, and new items.

The catalogue of the bundle stays as it is, with all that it has cached. Changed items are rows of a
small table beside it, and so are new items, whose indices follow those of the bundle. A result for
all items is that of the bundle with the rows of both tables put in its place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.catalogue.attributes import CategoricalAttribute, Range
from recsys.catalogue.catalogue import Catalogue, Filter, values_mask
from recsys.catalogue.id_map import StringArray


@dataclass(frozen=True, slots=True)
class ItemRows:
    """Attributes of some items: attribute → a text or None for each row."""

    columns: Mapping[str, CategoricalAttribute]
    count: int


@dataclass(frozen=True, slots=True)
class CatalogueChanges:
    """Changes of a catalogue of N items."""

    available: NDArray[np.bool_] | None  # (N + M,), None where every item is available
    changed_items: NDArray[np.int64]  # item index of each row of `changed`, rising
    changed: ItemRows  # all attributes of the changed items
    new_ids: Mapping[str, int]  # item id → place among the new items
    new: ItemRows  # all attributes of the M new items


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
    """Attribute of N items of a bundle, with changed items and M new ones."""

    def __init__(self, base: CategoricalAttribute, name: str, changes: CatalogueChanges) -> None:
        self._base, self._name, self._changes = base, name, changes
        self._changed, self._new = changes.changed.columns[name], changes.new.columns[name]

    @property
    def array(self) -> pa.StringArray:
        return pa.array(self, pa.string())

    def __len__(self) -> int:
        return len(self._base) + len(self._new)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self._base):
            return self._new[index - len(self._base)]
        place = int(np.searchsorted(self._changes.changed_items, index))
        if place < len(self._changed) and self._changes.changed_items[place] == index:
            return self._changed[place]
        return self._base[index]

    def __iter__(self) -> Iterator[str | None]:
        return (self[index] for index in range(len(self)))

    def is_in(self, wanted: Sequence[str]) -> NDArray[np.bool_]:
        """Return (N + M,) bool; see `CategoricalAttribute.is_in`."""
        return self._overlaid(lambda attribute: attribute.is_in(wanted))

    def weights(self, weight_of: Mapping[str, float]) -> NDArray[np.float64]:
        """Return (N + M,) float64; see `CategoricalAttribute.weights`."""
        return self._overlaid(lambda attribute: attribute.weights(weight_of))

    @property
    def numbers(self) -> NDArray[np.float64] | None:  # type: ignore[override]
        """The numbers of the bundle's strings; None where one is not a finite number."""
        return self._base.numbers

    def within(self, bounds: Range) -> NDArray[np.bool_]:
        """Return (N + M,) bool; see `CategoricalAttribute.within`."""
        return self._overlaid(lambda attribute: attribute.within(bounds))

    def matches(self, test: Callable[[pa.StringArray], pa.BooleanArray]) -> NDArray[np.bool_]:
        """Return (N + M,) bool; see `CategoricalAttribute.matches`."""
        return self._overlaid(lambda attribute: attribute.matches(test))

    def most_frequent(self, count: int) -> tuple[int, list[tuple[str, int]]]:
        """Return the number of distinct strings, and the most frequent with their frequencies.

        It copies the strings of all items.
        """
        return CategoricalAttribute.of(self.array).most_frequent(count)

    def _overlaid(self, of: Callable[[CategoricalAttribute], NDArray[Any]]) -> NDArray[Any]:
        return put_over(of(self._base), of(self._changed), of(self._new), self._changes)


class OverlaidCatalogue(Catalogue):
    """Catalogue of a bundle with N items, with changes and M new items."""

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
        self._allowed = lru_cache(maxsize=base.cached_masks)(self._mask)

    @cached_property
    def counts(self) -> NDArray[np.int64]:  # type: ignore[override]
        """(N + M,) int64 clicks in training; new items have none."""
        return np.concatenate([self._base.counts, np.zeros(self.new_count, np.int64)])

    @cached_property
    def by_popularity(self) -> NDArray[np.int32]:
        """(N + M,) item indices, the most clicked first, new items last."""
        return with_new_items_last(self._base.by_popularity, self.new_count)

    def _find(self, item_id: str) -> int | None:
        index = self._base.find(item_id)
        if index is None and self.new_count:
            place = self._changes.new_ids.get(item_id)
            index = None if place is None else len(self._base) + place
        return index

    def _mask(self, key: Any) -> NDArray[np.bool_]:
        wanted: Filter = {
            name: values if isinstance(values, Range) else sorted(values) for name, values in key
        }
        rows = (self._changes.changed, self._changes.new)
        changed, new = (values_mask(each.columns, each.count, key) for each in rows)
        mask = put_over(self._base.allowed(wanted), changed, new, self._changes)
        if self.available is not None:
            mask &= self.available
        mask.flags.writeable = False
        return mask


def put_over(
    base: NDArray[Any], changed: NDArray[Any], new: NDArray[Any], changes: CatalogueChanges
) -> NDArray[Any]:
    """Return values of all items: those of the bundle, of changed items and of new ones.

    Args:
        base: (N,) values.
        changed: a value for each row of `changes.changed`.
        new: (M,) values.
        changes: where the changed rows belong.
    """
    whole = np.concatenate([base, new])
    whole[changes.changed_items] = changed
    return whole


def with_new_items_last(order: NDArray[np.int32], new: int) -> NDArray[np.int32]:
    """Return an order of all items in which the new ones follow those of the bundle."""
    if not new:
        return order
    count = len(order)
    return np.concatenate([order, np.arange(count, count + new, dtype=order.dtype)])
