"""Set of items that a list may hold, stored as item indices or as a mask, whichever is smaller.

A list asks it which of some candidates it holds, which takes no longer in a larger catalogue. One
object stands for one filter: caches know it by its identity, and it counts the bytes of all that is
made of it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

INDEX_BYTES = 4  # of an item index, where a mask has one byte for each item
SET_BYTES = 1_000  # of the objects of one set, about

Stored = TypeVar("Stored", NDArray[np.int32], NDArray[np.bool_])


@dataclass(slots=True)
class _Ledger:
    """Bytes of a set and of what was made of it, which count in the set that it is a part of."""

    part_of: "_Ledger | None" = None
    bytes: int = 0

    def add(self, count: int) -> None:
        self.bytes += count
        if self.part_of is not None:
            self.part_of.add(count)


@dataclass(frozen=True, eq=False)
class AllowedItems:
    """Some of N items; `of_mask` and `of_indices` make it."""

    total: int  # N
    count: int
    _few: NDArray[np.int32] | None  # (count,) rising; None where there is a mask
    _mask: NDArray[np.bool_] | None  # (N,)
    ledger: _Ledger = field(default_factory=_Ledger)

    def __post_init__(self) -> None:
        arrays = [array for array in (self._few, self._mask) if array is not None]
        self.add_bytes(SET_BYTES + sum(array.nbytes for array in arrays))

    @classmethod
    def of_mask(
        cls, mask: NDArray[np.bool_], part_of: "AllowedItems | None" = None
    ) -> "AllowedItems":
        """Return the items where the mask, (N,) bool, is true.

        The array may be kept, so do not change it. part_of: the set that keeps this one.
        """
        count, ledger = int(np.count_nonzero(mask)), _ledger_in(part_of)
        if _are_few(count, len(mask)):
            few = _read_only(np.flatnonzero(mask).astype(np.int32))
            return cls(len(mask), count, few, None, ledger)
        return cls(len(mask), count, None, _read_only(mask), ledger)

    @classmethod
    def of_indices(
        cls, indices: NDArray[np.int32], total: int, part_of: "AllowedItems | None" = None
    ) -> "AllowedItems":
        """Return these items of N = `total`; (count,) int32, each item once, in any order.

        The array may be kept, so do not change it. part_of: the set that keeps this one.
        """
        ledger = _ledger_in(part_of)
        if _are_few(len(indices), total):
            rising = bool((indices[1:] > indices[:-1]).all())
            few = indices if rising else np.sort(indices)
            return cls(total, len(indices), _read_only(few), None, ledger)
        return cls(total, len(indices), None, _read_only(_mask_of(indices, total)), ledger)

    @property
    def bytes(self) -> int:
        """Return the bytes of the set and of all that was made of it; parts of it may be gone."""
        return self.ledger.bytes

    def add_bytes(self, count: int) -> None:
        """Count bytes that are kept as long as the set."""
        self.ledger.add(count)

    @cached_property
    def indices(self) -> NDArray[np.int32]:
        """The items, (count,) int32, rising and read-only."""
        if self._few is not None:
            return self._few
        assert self._mask is not None
        self.add_bytes(INDEX_BYTES * self.count)
        return _read_only(np.flatnonzero(self._mask).astype(np.int32))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(N,) bool, true for the items; read-only. Takes N bytes."""
        if self._mask is not None:
            return self._mask
        self.add_bytes(self.total)
        return _read_only(_mask_of(self.indices, self.total))

    def first(self, total: int) -> "AllowedItems":
        """Return those of the first `total` items; the same object for the same number."""
        if total == self.total:
            return self
        if total not in self._firsts:
            indices = self.indices
            first = indices[: int(np.searchsorted(indices, total))]
            self._firsts[total] = AllowedItems.of_indices(first, total, self)
        return self._firsts[total]

    @cached_property
    def _firsts(self) -> "dict[int, AllowedItems]":
        """Number of items → those among so many first ones."""
        return {}

    def holds(self, items: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which of these items are allowed, in the shape of `items`: indices from 0."""
        if self._mask is not None:
            held: NDArray[np.bool_] = self._mask[items]
            return held
        if not self.count:
            return np.zeros(items.shape, dtype=bool)
        items = items.astype(self.indices.dtype, copy=False)  # else numpy converts all indices
        places = np.searchsorted(self.indices, items)
        equal: NDArray[np.bool_] = self.indices.take(places, mode="clip") == items
        return equal

    def __and__(self, other: "AllowedItems") -> "AllowedItems":
        """Return the items that are in both; the same object again while both are in use."""
        smaller, larger = (self, other) if self.count <= other.count else (other, self)
        both = larger._shared.get(smaller)
        if both is None:
            if _are_few(smaller.count, self.total):
                indices = smaller.indices
                held = indices[larger.holds(indices)]
                both = AllowedItems.of_indices(held, self.total, larger)
            else:
                both = AllowedItems.of_mask(smaller.mask & larger.mask, larger)
            larger._shared[smaller] = both
        return both

    @cached_property
    def _shared(self) -> "WeakKeyDictionary[AllowedItems, AllowedItems]":
        """Smaller set → the items that are in both."""
        return WeakKeyDictionary()

    @property
    def share(self) -> float:
        """Return the part of all items that is allowed, 0 to 1."""
        return self.count / self.total


def _ledger_in(part_of: AllowedItems | None) -> _Ledger:
    return _Ledger(None if part_of is None else part_of.ledger)


def _are_few(count: int, total: int) -> bool:
    return INDEX_BYTES * count <= total


def _mask_of(indices: NDArray[np.int32], total: int) -> NDArray[np.bool_]:
    mask = np.zeros(total, dtype=bool)
    mask[indices] = True
    return mask


def _read_only(array: Stored) -> Stored:
    view = array.view()
    view.flags.writeable = False
    return view
