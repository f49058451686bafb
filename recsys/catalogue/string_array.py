"""Array of strings in few bytes: all characters end to end, and the offset where each string ends.

A Python string takes 50 bytes beside its characters, in every process, and the garbage collector
visits each. A `StringArray` is one object.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)
CHUNK = 65_536  # Python strings that exist at a time during iteration


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


def buffer_values(array: pa.Array, kind: type[Number], count: int | None = None) -> NDArray[Number]:
    """Return the numbers of a pyarrow array without a copy; a null has an unspecified value.

    `to_numpy` of pyarrow loads pandas where it is installed: 25 MB for every process.
    """
    values = np.frombuffer(array.buffers()[1] or b"", kind)
    return values[array.offset : array.offset + (len(array) if count is None else count)]
