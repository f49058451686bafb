"""Categorical attribute: a string or nothing for each item, each distinct string stored once.

An attribute whose strings are all numbers, as a price, has their values, too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.catalogue.id_map import CHUNK, StringArray, buffer_values
from recsys.catalogue.postings import Postings

ITEMS_OF_A_VALUE = 4_096  # fewer are scored where they are


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, None where there is no bound."""

    lt: float | None = None
    lte: float | None = None
    gt: float | None = None
    gte: float | None = None

    def holds(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (n,) bool, true where the number is within every bound; NaN never is."""
        within = ~np.isnan(numbers)
        if self.lt is not None:
            within &= numbers < self.lt
        if self.lte is not None:
            within &= numbers <= self.lte
        if self.gt is not None:
            within &= numbers > self.gt
        if self.gte is not None:
            within &= numbers >= self.gte
        return within

    def places(self, rising: NDArray[np.float64]) -> tuple[int, int]:
        """Return the first of some rising numbers that is within every bound, and the first after.

        Both are equal where none is within.
        """
        first, end = 0, len(rising)
        if self.gt is not None:
            first = int(np.searchsorted(rising, self.gt, "right"))
        if self.gte is not None:
            first = max(first, int(np.searchsorted(rising, self.gte, "left")))
        if self.lt is not None:
            end = int(np.searchsorted(rising, self.lt, "left"))
        if self.lte is not None:
            end = min(end, int(np.searchsorted(rising, self.lte, "right")))
        return first, max(first, end)


class CategoricalAttribute(Sequence[str | None]):
    """Sequence of N strings or None, stored as distinct values and a code for each item."""

    def __init__(self, values: StringArray, codes: NDArray[np.integer[Any]]) -> None:
        """values: each string at least once; codes: (N,) integer indices into them, -1 for None."""
        self._values = values
        self._codes = codes.astype(np.min_scalar_type(-max(len(values), 1)))

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "CategoricalAttribute":
        """Return an attribute of these strings, or the argument where it is one.

        Each string is stored once, unless most of the first ones differ: then all are stored,
        because a search for equal ones would take long.

        texts: strings or None, or a pyarrow array of them.
        """
        if isinstance(texts, cls):
            return texts
        array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        sample = array[:CHUNK]
        if 2 * pc.count_distinct(sample).as_py() > len(sample):
            return cls(
                StringArray(array), _mask_nulls(array, np.arange(len(array), dtype=np.int32))
            )
        encoded = array.dictionary_encode()
        return cls(
            StringArray(encoded.dictionary),
            _mask_nulls(array, buffer_values(encoded.indices, np.int32)),
        )

    @property
    def array(self) -> pa.StringArray:
        codes = pa.array(self._codes.astype(np.int32), mask=self._codes < 0)
        return pa.DictionaryArray.from_arrays(codes, self._values.array).dictionary_decode()

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._text(index)

    def _text(self, index: int) -> str | None:
        code = int(self._codes[index])
        return None if code < 0 else self._values[code]

    def __iter__(self) -> Iterator[str | None]:
        values: list[str | None] = [*self._values, None]  # code -1 is the last
        return (values[code] for code in self._codes.tolist())

    def items_in(self, wanted: Sequence[str]) -> AllowedItems:
        """Return the items whose string is one of these; None never is.

        All distinct strings are compared, milliseconds for a million. The items of one string are
        not searched: they stand together in the postings.
        """
        codes: list[int] = np.flatnonzero(self._has(wanted)).tolist()
        return self._postings.of_keys(codes)

    def is_in(self, wanted: Sequence[str], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (n,) bool for n items, true where the string is one of these; None never is."""
        # code -1 is the last
        mask: NDArray[np.bool_] = np.append(self._has(wanted), False)[self._codes[items]]
        return mask

    def _has(self, wanted: Sequence[str]) -> NDArray[np.bool_]:
        """Return for each distinct string whether it is one of these."""
        texts = self._values.array.cast(pa.binary())
        found = pc.indices_nonzero(pc.is_in(texts, value_set=_as_bytes(wanted)))
        mask = np.zeros(len(texts), dtype=bool)
        mask[buffer_values(found, np.uint64)] = True
        return mask

    def weights(
        self, weight_of: Mapping[str, float], items: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return (n,) float64 for n items, the weight of the string; 0 for others and for None."""
        texts = self._values.array.cast(pa.binary())
        places = pc.index_in(texts, value_set=_as_bytes(list(weight_of))).fill_null(-1)
        weights = np.array([*weight_of.values(), 0.0])  # place -1 is the last
        of_value = np.append(weights[buffer_values(places, np.int32)], 0.0)  # and so is code -1
        of_item: NDArray[np.float64] = of_value[self._codes[items]]
        return of_item

    @cached_property
    def _postings(self) -> Postings:
        """The items of each distinct string. Takes tenths of a second for a million items, once."""
        return Postings.of(self._codes, len(self._values))

    @cached_property
    def numbers(self) -> NDArray[np.float64] | None:
        """The number of each distinct string, float64; None where one is not a finite number.

        A string that no item has is NaN. Takes tenths of a second for a million, once.
        """
        used = np.zeros(len(self._values), dtype=bool)
        used[self._codes[self._codes >= 0]] = True
        texts = self._values.array.filter(pa.array(used))
        try:
            values = buffer_values(texts.cast(pa.float64()), np.float64)
        except pa.ArrowInvalid:
            return None
        if not np.isfinite(values).all():
            return None
        numbers = np.full(len(used), np.nan)
        numbers[used] = values
        return numbers

    @cached_property
    def _by_number(self) -> tuple[NDArray[np.float64], Postings]:
        """The distinct numbers, rising, and the items of each of them; made once."""
        rising, keys = self._number_keys()
        return rising, Postings.of(keys, len(rising))

    def _number_keys(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return the distinct numbers, rising, and each item's place among them, -1 for None."""
        assert self.numbers is not None, "the caller has refused a range of text"
        rising, place = np.unique(self.numbers, return_inverse=True)  # NaN is the last
        known = int(np.count_nonzero(~np.isnan(rising)))
        place_of_value = np.where(place < known, place, -1).astype(np.int32)
        return rising[:known], np.append(place_of_value, np.int32(-1))[self._codes]

    def sort_key(self) -> NDArray[np.integer[Any]] | None:
        """Return (N,) numbers by which items that a filter selects together are neighbours.

        That are the items of a string, or those with numbers near to each other. None where a
        string has so few items that this is of no use.
        """
        if self.numbers is not None:
            return self._number_keys()[1]
        return self._codes if len(self._values) * ITEMS_OF_A_VALUE <= len(self) else None

    def items_within(self, bounds: Range) -> AllowedItems:
        """Return the items whose number is within the bounds; None never is."""
        rising, postings = self._by_number
        return postings.between(*bounds.places(rising))

    def is_within(self, bounds: Range, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (n,) bool for n items, true where the number is within the bounds."""
        assert self.numbers is not None, "the caller has refused a range of text"
        mask: NDArray[np.bool_] = np.append(bounds.holds(self.numbers), False)[self._codes[items]]
        return mask

    def matches(self, test: Callable[[pa.StringArray], pa.BooleanArray]) -> NDArray[np.bool_]:
        """Return (N,) bool, true where the string passes the test; None never does.

        test: receives all distinct strings at once.
        """
        passed = np.zeros(len(self._values) + 1, dtype=bool)  # code -1 is the last
        passed[buffer_values(pc.indices_nonzero(test(self._values.array)), np.uint64)] = True
        passed[-1] = False
        mask: NDArray[np.bool_] = passed[self._codes]
        return mask

    def most_frequent(self, count: int) -> tuple[int, list[tuple[str, int]]]:
        """Return the number of distinct strings, and the most frequent with their frequencies."""
        frequencies = np.bincount(self._codes[self._codes >= 0], minlength=len(self._values))
        if len(self._values) == len(self):  # equal strings may be stored apart: see `of`
            counts = pc.value_counts(self._values.array.filter(pa.array(frequencies > 0)))
            values, frequencies = (
                StringArray(counts.field(0)),
                buffer_values(counts.field(1), np.int64),
            )
        else:
            values = self._values
        top = np.argsort(-frequencies, kind="stable")[:count]
        return len(values), list(
            zip(values.take(top.tolist()), frequencies[top].tolist(), strict=True)
        )


def _as_bytes(texts: Sequence[str]) -> pa.BinaryArray:
    """Return strings as bytes: half a surrogate pair is not UTF-8, and equals no string."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = pa.py_buffer(np.cumsum([0, *map(len, encoded)], dtype=np.int32))
    buffers = [None, ends, pa.py_buffer(b"".join(encoded))]
    return pa.BinaryArray.from_buffers(pa.binary(), len(encoded), buffers)


def _mask_nulls(array: pa.Array, codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the codes, -1 where the array has a null."""
    bits = array.buffers()[0]
    if bits is None:
        return codes
    valid = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return np.where(valid[array.offset : array.offset + len(array)] == 1, codes, np.int32(-1))
