"""Hash index: the position of a string among millions, in a microsecond and about 10 bytes each.

Positions are sorted by the hash of their string; the first bits of a hash select the few positions
to compare. Python's own hash has a secret seed, so a client cannot choose strings that collide;
colliding strings are compared one by one.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.string_array import StringArray

HASH_BITS = 64
HASH_MASK = (1 << HASH_BITS) - 1  # turns a hash into an unsigned number


class IdMap:
    """Map from a string to its position."""

    def __init__(self, texts: StringArray, hash_of: Callable[[str], int] = hash) -> None:
        self._texts, self._hash_of = texts, hash_of
        bits = max(len(texts), 1).bit_length()  # one to two buckets for each string
        self._shift = HASH_BITS - bits
        signed = np.fromiter(map(hash_of, texts), np.int64, len(texts))
        order = np.argsort(signed.view(np.uint64))
        hashes = signed.view(np.uint64)[order]
        buckets = (hashes >> np.uint64(self._shift)).astype(np.int64)
        ends = np.zeros((1 << bits) + 1, dtype=np.int32)
        np.cumsum(np.bincount(buckets, minlength=1 << bits), out=ends[1:])
        self._ends, self._positions = ends.data, order.astype(np.int32).data
        self.duplicate = next(self._duplicates(hashes), None)  # a string at two positions

    def find(self, text: str) -> int | None:
        """Return the position of the string, or None."""
        bucket = (self._hash_of(text) & HASH_MASK) >> self._shift
        texts, positions = self._texts, self._positions
        for at in range(self._ends[bucket], self._ends[bucket + 1]):
            position = positions[at]
            if texts[position] == text:
                return position
        return None

    def _duplicates(self, hashes: NDArray[np.uint64]) -> Iterator[str]:
        """Yield strings that occur twice; hashes: sorted, as the positions are."""
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        seen: set[str] = set()
        for at in dict.fromkeys(np.stack([same, same + 1], axis=1).ravel().tolist()):
            text = self._texts[self._positions[at]]
            if text in seen:
                yield text
            seen.add(text)
