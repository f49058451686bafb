"""Postings: the items in the order of a key, so that the items of one key stand together.

4 bytes for each item with a key, and 8 for each key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems


@dataclass(frozen=True)
class Postings:
    """Items of each key 0, 1, …: rows[starts[key]] … rows[starts[key + 1] - 1], rising."""

    rows: NDArray[np.int32]
    starts: NDArray[np.int64]  # (keys + 1,)
    total: int  # N

    @classmethod
    def of(cls, keys: NDArray[np.integer[Any]], count: int) -> "Postings":
        """Sort the items.

        Args:
            keys: (N,) key of each item, -1 for an item without one.
            count: number of keys.
        """
        sizes = np.bincount(keys + 1, minlength=count + 1)
        rows = np.argsort(keys, kind="stable")[sizes[0] :].astype(np.int32)
        rows.flags.writeable = False
        return cls(rows, np.concatenate([[0], np.cumsum(sizes[1:])]), len(keys))

    def of_keys(self, keys: Sequence[int]) -> AllowedItems:
        """Return the items of some keys, each given once."""
        parts = [self._rows(key, key + 1) for key in keys]
        rows = parts[0] if len(parts) == 1 else np.concatenate([self._rows(0, 0), *parts])
        return AllowedItems.of_indices(rows, self.total)

    def between(self, first: int, end: int) -> AllowedItems:
        """Return the items of the keys `first` … `end` - 1."""
        return AllowedItems.of_indices(self._rows(first, end), self.total)

    def _rows(self, first: int, end: int) -> NDArray[np.int32]:
        return self.rows[self.starts[first] : self.starts[end]]
