"""Set of items that a list may hold, stored as item indices or as a mask, whichever is smaller.

A list asks it which of some candidates it holds, which takes no longer in a larger catalogue. One
object stands for one filter: caches know it by its identity.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

INDEX_BYTES = 4  # of an item index, where a mask has one byte for each item

Stored = TypeVar("Stored", NDArray[np.int32], NDArray[np.bool_])


@dataclass(frozen=True, eq=False)
class AllowedItems:
    """Some of N items; `of_mask` and `of_indices` make it."""

    total: int  # N
    count: int
    _few: NDArray[np.int32] | None  # (count,) rising; None where there is a mask
    _mask: NDArray[np.bool_] | None  # (N,)

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> "AllowedItems":
        """Return the items where the mask, (N,) bool, is true.

        The array may be kept, so do not change it.
        """
        count = int(np.count_nonzero(mask))
        if _are_few(count, len(mask)):
            return cls(len(mask), count, _read_only(np.flatnonzero(mask).astype(np.int32)), None)
        return cls(len(mask), count, None, _read_only(mask))

    @classmethod
    def of_indices(cls, indices: NDArray[np.int32], total: int) -> "AllowedItems":
        """Return these items of N = `total`; (count,) int32, each item once, in any order.

        The array may be kept, so do not change it.
        """
        if _are_few(len(indices), total):
            rising = bool((indices[1:] > indices[:-1]).all())
            few = indices if rising else np.sort(indices)
            return cls(total, len(indices), _read_only(few), None)
        return cls(total, len(indices), None, _read_only(_mask_of(indices, total)))

    @cached_property
    def indices(self) -> NDArray[np.int32]:
        """The items, (count,) int32, rising and read-only."""
        if self._few is not None:
            return self._few
        assert self._mask is not None
        return _read_only(np.flatnonzero(self._mask).astype(np.int32))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(N,) bool, true for the items; read-only. Takes N bytes."""
        if self._mask is not None:
            return self._mask
        return _read_only(_mask_of(self.indices, self.total))

    def holds(self, items: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which of these items are allowed, in the shape of `items`: indices from 0."""
        if self._mask is not None:
            held: NDArray[np.bool_] = self._mask[items]
            return held
        if not self.count:
            return np.zeros(items.shape, dtype=bool)
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
                both = AllowedItems.of_indices(indices[larger.holds(indices)], self.total)
            else:
                both = AllowedItems.of_mask(smaller.mask & larger.mask)
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
