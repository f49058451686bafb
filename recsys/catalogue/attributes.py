"""Many texts in few bytes: their letters end to end, and where each one ends.

A Python string takes 50 bytes beside its letters, in every process anew, and the garbage collector
and a fork see each of them. `StringArray` are N strings, `CategoricalAttribute` N strings of which
many are alike or missing; both read like sequences of strings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)
AT_ONCE = 65_536  # strings that exist while all of them are gone through


class StringArray(Sequence[str]):
    """N strings, none missing."""

    def __init__(self, array: pa.StringArray) -> None:
        """array: is copied; where it has a null, any text may stand."""
        letters = array.buffers()[2]
        self._letters = b"" if letters is None else letters.to_pybytes()
        ends = numbers(array, np.int32, len(array) + 1) if len(array) else np.zeros(1, np.int32)
        self._ends = ends.copy().data  # read as Python numbers, a third of the time of numpy's

    @classmethod
    def of(cls, texts: Iterable[str]) -> "StringArray":
        if isinstance(texts, cls):
            return texts
        array = pa.array(texts, pa.string())
        assert array.null_count == 0, "texts are all there"
        return cls(array)

    @property
    def array(self) -> pa.StringArray:
        """The same letters, as pyarrow reads them."""
        buffers = pa.py_buffer(self._ends), pa.py_buffer(self._letters)
        return pa.StringArray.from_buffers(len(self), *buffers)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self.take(range(*at.indices(len(self))))
        if at < 0:
            at = range(len(self))[at]
        return self._letters[self._ends[at] : self._ends[at + 1]].decode()

    def take(self, places: Iterable[int]) -> list[str]:
        """The texts at these places, from 0 on."""
        letters, ends = self._letters, self._ends
        return [letters[ends[at] : ends[at + 1]].decode() for at in places]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            yield from self.array[start : start + AT_ONCE].to_pylist()


class CategoricalAttribute(Sequence[str | None]):
    """N strings, some missing: texts, and for each place which of them."""

    def __init__(self, values: StringArray, codes: NDArray[np.integer[Any]]) -> None:
        """values: every text at least once; codes: (N,) places in them, -1 where one is missing."""
        self._values = values
        self._codes = codes.astype(np.min_scalar_type(-max(len(values), 1)))

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "CategoricalAttribute":
        """Each text is kept once, unless most of them differ: finding that out would take longest.

        texts: strings, or a pyarrow array of them.
        """
        if isinstance(texts, cls):
            return texts
        array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        some = array[:AT_ONCE]
        if 2 * pc.count_distinct(some).as_py() > len(some):
            return cls(StringArray(array), _without(array, np.arange(len(array), dtype=np.int32)))
        coded = array.dictionary_encode()
        return cls(StringArray(coded.dictionary), _without(array, numbers(coded.indices, np.int32)))

    @property
    def array(self) -> pa.StringArray:
        codes = pa.array(self._codes.astype(np.int32), mask=self._codes < 0)
        return pa.DictionaryArray.from_arrays(codes, self._values.array).dictionary_decode()

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, at: int) -> str | None: ...
    @overload
    def __getitem__(self, at: slice) -> list[str | None]: ...
    def __getitem__(self, at: int | slice) -> str | list[str | None] | None:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        code = int(self._codes[at])
        return None if code < 0 else self._values[code]

    def __iter__(self) -> Iterator[str | None]:
        values: list[str | None] = [*self._values, None]  # the last for -1
        return (values[code] for code in self._codes.tolist())

    def one_of(self, wanted: Sequence[str]) -> NDArray[np.bool_]:
        """(N,) bool: whose text is one of these; a missing one never is.

        All distinct texts are compared, milliseconds for a million, then N small numbers.
        """
        # as bytes: half a surrogate pair, which a client may send, is no text, and equals none
        letters = [text.encode("utf-8", "surrogatepass") for text in wanted]
        ends = pa.py_buffer(np.cumsum([0, *map(len, letters)], dtype=np.int32))
        buffers = [None, ends, pa.py_buffer(b"".join(letters))]
        sought = pa.BinaryArray.from_buffers(pa.binary(), len(letters), buffers)
        return self.passing(lambda texts: pc.is_in(texts.cast(pa.binary()), value_set=sought))

    def passing(self, test: Callable[[pa.StringArray], pa.BooleanArray]) -> NDArray[np.bool_]:
        """(N,) bool: whose text passes; a missing one never does.

        test: is given all distinct texts at once.
        """
        passed = np.zeros(len(self._values) + 1, dtype=bool)  # the last for -1
        passed[numbers(pc.indices_nonzero(test(self._values.array)), np.uint64)] = True
        passed[-1] = False
        found: NDArray[np.bool_] = passed[self._codes]
        return found

    def most_frequent(self, count: int) -> tuple[int, list[tuple[str, int]]]:
        """How many distinct texts there are, and so many of them with how often each one stands."""
        times = np.bincount(self._codes[self._codes >= 0], minlength=len(self._values))
        if len(self._values) == len(self):  # each text may stand for itself: see `of`
            counted = pc.value_counts(self._values.array.filter(pa.array(times > 0)))
            values, times = StringArray(counted.field(0)), numbers(counted.field(1), np.int64)
        else:
            values = self._values
        best = np.argsort(-times, kind="stable")[:count]
        return len(values), list(zip(values.take(best.tolist()), times[best].tolist(), strict=True))


def numbers(array: pa.Array, kind: type[Number], count: int | None = None) -> NDArray[Number]:
    """A pyarrow array's own numbers, what stands at nulls included.

    Its `to_numpy` would load pandas, where there is one: 25 MB for every process.
    """
    found = np.frombuffer(array.buffers()[1] or b"", kind)
    return found[array.offset : array.offset + (len(array) if count is None else count)]


def _without(array: pa.Array, codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """The codes, -1 where the array has a null."""
    bits = array.buffers()[0]
    if bits is None:
        return codes
    valid = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return np.where(valid[array.offset : array.offset + len(array)] == 1, codes, np.int32(-1))
