"""Item ids in few bytes: an array of strings, and a hash index from a string to its position.

A Python string takes 50 bytes beside its characters, in every process, and the garbage collector
visits each. A `StringArray` is one object: all characters end to end, and the offset where each
string ends. Attributes of items are stored in such arrays, too.

An `IdMap` finds the position of a string among millions, in a microsecond and about 10 bytes each.
Positions are sorted by the hash of their string; the first bits of a hash select the few positions
to compare. Python's own hash has a secret seed, so a client cannot choose strings that collide;
colliding strings are compared one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)
CHUNK = 65_536  # Python strings that exist at a time during iteration
HASH_BITS = 64
HASH_MASK = (1 << HASH_BITS) - 1  # turns a hash into an unsigned number


class StringArray(Sequence[str]):
    """Immutable sequence of N strings, none missing."""

    def __init__(self, array: pa.StringArray) -> None:
        """Copy an array; a null becomes an unspecified string."""
        characters = array.buffers()[2]
        self._characters = b"" if characters is None else characters.to_pybytes()
        ends = (
            buffer_values(array, np.int32, len(array) + 1) if len(array) else np.zeros(1, np.int32)
        )
        self._ends = ends.copy().data  # read as Python numbers, a third of the time of numpy's

    @classmethod
    def of(cls, texts: Iterable[str]) -> "StringArray":
        """Return an array of these strings, or the argument where it is one."""
        if isinstance(texts, cls):
            return texts
        array = pa.array(texts, pa.string())
        assert array.null_count == 0, "no string is missing"
        return cls(array)

    @property
    def array(self) -> pa.StringArray:
        """The strings as a pyarrow array, without a copy."""
        buffers = pa.py_buffer(self._ends), pa.py_buffer(self._characters)
        return pa.StringArray.from_buffers(len(self), *buffers)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        if index < 0:
            index = range(len(self))[index]
        return self._characters[self._ends[index] : self._ends[index + 1]].decode()

    def take(self, indices: Iterable[int]) -> list[str]:
        """Return the strings at these indices, which are not negative."""
        characters, ends = self._characters, self._ends
        return [characters[ends[i] : ends[i + 1]].decode() for i in indices]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            yield from self.array[start : start + CHUNK].to_pylist()


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


def buffer_values(array: pa.Array, kind: type[Number], count: int | None = None) -> NDArray[Number]:
    """Return the numbers of a pyarrow array without a copy; a null has an unspecified value.

    `to_numpy` of pyarrow loads pandas where it is installed: 25 MB for every process.
    """
    values = np.frombuffer(array.buffers()[1] or b"", kind)
    return values[array.offset : array.offset + (len(array) if count is None else count)]
