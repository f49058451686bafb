"""Scan of the allowed items in 8 bits that overlooks none of the best.

The codes stand in an order in which items with equal attributes are neighbours, so a filter reads a
few runs of memory. A product of codes differs from the score at most by

    ‖d‖ · ‖c‖ + ‖q‖ · ‖e‖        q = r + d: the query and its rounding, x = c + e: the item's

in steps of the codes (Cauchy and Schwarz), where no number of e is above 1/2. Every item whose
product is within twice this bound of the n-th largest is a candidate, so the n best are among them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import largest
from recsys.retrieval.candidates import with_bias
from recsys.retrieval.int8 import Int8Codes, in_steps, int8_product, rounded

CODES_AT_ONCE = 65_536  # multiplied together
COPIED_AT_ONCE = 8_192  # copied to be multiplied, which stay in the cache
SIDE_BY_SIDE = 16  # runs of a mean stretch: so long ones are read where they are
RUN = 64  # codes that are read together, 9 KB of 128 numbers
PRODUCTS_AT_ONCE = 8_000_000  # 32 MB
SHORT_SCAN = 100_000  # codes, which take a millisecond
MAX_CANDIDATES = 100_000  # of one query; where rounding leaves more, the scan gives up
ROUNDING = 1e-5  # of the bound, for the arithmetic in float32
INT32 = torch.iinfo(torch.int32)
MOST_RUNS = 0.8  # of all; to read more, no run is left out
GROUPS = 2047  # of products, whose maxima are sorted; odd, for allowed items at equal distances
GROUPS_PER_ITEM = 8  # to find; with fewer groups too many items would share one


class ItemScan:
    """Codes of all items, made at the first scan: 0.4 s and 150 MB for a million of 128 numbers."""

    def __init__(
        self, matrix: Tensor, bias: Tensor, order: Callable[[], NDArray[np.int32]]
    ) -> None:
        """Hold the item vectors.

        Args:
            matrix: (N, H) float32.
            bias: (N,) float32.
            order: returns all items, (N,) int32, those that filters select together as neighbours.
        """
        self._matrix, self._bias, self._order = matrix, bias, order
        self._runs_of: WeakKeyDictionary[AllowedItems, _Runs] = WeakKeyDictionary()

    @cached_property
    def _codes(self) -> "_OrderedCodes":
        return _OrderedCodes.of(self._matrix, self._bias, self._order())

    def is_short(self, allowed: AllowedItems) -> bool:
        """Return whether a scan of these items reads few codes; not before the codes are made."""
        made = "_codes" in vars(self)
        return made and allowed.count <= SHORT_SCAN and self._runs(allowed).size <= SHORT_SCAN

    def best(
        self,
        queries: NDArray[np.float32],
        counts: Sequence[int],
        allowed: Sequence[AllowedItems | None],
    ) -> list[NDArray[np.int64] | None]:
        """Return candidates that hold the allowed items with the highest scores.

        Queries that allow the same items are multiplied together.

        Args:
            queries: (B, H) float32.
            counts: B numbers; candidates hold so many of the best, and all items that score as the
                last of them.
            allowed: of each query, None for every item.

        Returns:
            B arrays of items, (C,) int64, in no order; None where there would be more than
            `MAX_CANDIDATES`.
        """
        torch.get_num_threads()  # applies torch's setting to this thread, as _int_mm does not
        rows_of: dict[AllowedItems | None, list[int]] = defaultdict(list)
        for row, items in enumerate(allowed):
            rows_of[items].append(row)
        rounded, errors = self._codes.rounded(with_bias(queries, 1.0))
        found: list[NDArray[np.int64] | None] = [None] * len(queries)
        for items, alike in rows_of.items():
            runs = self._runs(items)
            at_once = max(PRODUCTS_AT_ONCE // max(runs.size, 1), 1)
            for rows in (alike[at : at + at_once] for at in range(0, len(alike), at_once)):
                count = max(counts[row] for row in rows)
                best = self._codes.best(rounded[rows], errors[rows], count, runs)
                for row, candidates in zip(rows, best, strict=True):
                    found[row] = candidates if len(candidates) <= MAX_CANDIDATES else None
        return found

    def _runs(self, allowed: AllowedItems | None) -> "_Runs":
        if allowed is None:
            return self._codes.all_runs
        runs = self._runs_of.get(allowed)
        if runs is None:
            runs = self._runs_of[allowed] = self._codes.runs_of(allowed)
            allowed.add_bytes(runs.bytes)
        return runs


@dataclass(frozen=True)
class _Runs:
    """Stretches of codes to read, and which of these codes are not allowed."""

    starts: NDArray[np.int64]  # (stretches,) place of the first code of each
    ends: NDArray[np.int64]  # (stretches,) number of codes up to the end of each
    copied: bool  # every stretch is a whole run, which is copied to be multiplied
    barred: Tensor | None  # (size,) bool; None where all are allowed

    @classmethod
    def of(
        cls, starts: NDArray[Any], sizes: NDArray[Any], copied: bool, places: NDArray[np.int32]
    ) -> "_Runs":
        """Return the runs of stretches, rising, that hold these allowed places, (count,)."""
        starts, ends, barred = starts.astype(np.int64), np.cumsum(sizes, dtype=np.int64), None
        size = int(ends[-1]) if len(ends) else 0
        if len(places) < size:
            if len(starts) > 1:
                stretch = np.searchsorted(starts, places, side="right") - 1
                places = places + (ends - sizes - starts)[stretch]
            else:
                places = places - int(starts[0])
            mask = np.ones(size, dtype=bool)
            mask[places] = False
            barred = torch.from_numpy(mask)
        return cls(starts, ends, copied, barred)

    @property
    def size(self) -> int:
        """Return how many codes are read."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def bytes(self) -> int:
        """Return the bytes of the arrays, with the one that `places` makes."""
        barred = 0 if self.barred is None else self.barred.nbytes
        return 2 * self.starts.nbytes + self.ends.nbytes + barred

    def places(self, read: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of codes; read: their numbers in the order in which they are read."""
        if len(self.starts) == 1:
            return read + int(self.starts[0])
        stretch = np.searchsorted(self.ends, read, side="right")
        places: NDArray[np.int64] = read + (self._stops - self.ends)[stretch]
        return places

    @cached_property
    def _stops(self) -> NDArray[np.int64]:
        """(stretches,) place after the last code of each."""
        return self.starts + np.diff(self.ends, prepend=0)

    def read(self, codes: Tensor) -> Iterator[Tensor]:
        """Yield the stretches of all codes, (places, width) int8, a part at a time."""
        if self.copied:
            by_run = codes.view(-1, RUN * codes.size(1))
            for some in torch.split(torch.from_numpy(self.starts // RUN), COPIED_AT_ONCE // RUN):
                yield by_run.index_select(0, some).view(-1, codes.size(1))
            return
        for start, stop in zip(self.starts.tolist(), self._stops.tolist(), strict=True):
            for first in range(start, stop, CODES_AT_ONCE):
                yield codes[first : min(first + CODES_AT_ONCE, stop)]


@dataclass(frozen=True)
class _OrderedCodes:
    """Codes in an order of the items, filled up to whole runs."""

    codes: Tensor  # (runs * RUN, width) int8
    steps: Tensor  # (width,) float32
    longest: float  # the length of the longest code
    items: NDArray[np.int32]  # (runs * RUN,) item of each code
    total: int  # N

    @classmethod
    def of(cls, matrix: Tensor, bias: Tensor, order: NDArray[np.int32]) -> "_OrderedCodes":
        rest = -len(order) % RUN
        items = np.concatenate([order, order[:1].repeat(rest)])
        made = Int8Codes.of(matrix, bias, 1.0, items.astype(np.int64))
        parts = torch.split(made.codes, CODES_AT_ONCE)
        longest = max(float(torch.linalg.vector_norm(part.float(), dim=1).max()) for part in parts)
        return cls(made.codes, made.steps, longest, items, len(order))

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """(N,) place of each item."""
        places = np.empty(self.total, dtype=np.int32)
        places[self.items[: self.total]] = np.arange(self.total, dtype=np.int32)
        return places

    @cached_property
    def all_runs(self) -> _Runs:
        return _Runs(np.zeros(1, np.int64), np.array([self.total]), False, None)

    def runs_of(self, allowed: AllowedItems) -> _Runs:
        """Return the runs that hold the allowed items."""
        places, all_codes = self.places[allowed.indices], (np.zeros(1), np.array([self.total]))
        if allowed.share > MOST_RUNS:
            return _Runs.of(*all_codes, False, places)
        places.sort()
        run = places // RUN
        numbers = run[np.diff(run, prepend=-1) > 0]
        if len(numbers) * RUN > MOST_RUNS * self.total:
            return _Runs.of(*all_codes, False, places)
        first = np.flatnonzero(np.diff(run, prepend=-2) > 1)  # no run of a stretch is left out
        if len(first) == 1 or len(first) * SIDE_BY_SIDE < len(numbers):
            last = np.append(first[1:], len(places)) - 1
            return _Runs.of(places[first], places[last] + 1 - places[first], False, places)
        return _Runs.of(numbers * RUN, np.full(len(numbers), RUN), True, places)

    def rounded(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Return queries in 8 bits, (B, width), and by how much their products differ, (B,).

        vectors: (B, width) float32, queries with their last number.
        """
        exact = in_steps(vectors, self.steps.numpy())
        codes = rounded(exact).numpy()
        errors = _lengths(exact) * (0.5 * math.sqrt(len(self.steps)))
        errors += _lengths(exact - codes) * self.longest
        return codes, errors

    def best(
        self, queries: NDArray[np.int8], errors: NDArray[np.float64], count: int, runs: _Runs
    ) -> list[NDArray[np.int64]]:
        """Return the (C,) candidates of each query in some runs; see `ItemScan.best`.

        Args:
            queries: (B, width) int8.
            errors: (B,) float64, as `rounded` returns them.
            count: see `ItemScan.best`.
            runs: the runs.
        """
        if not runs.size:
            return [np.zeros(0, dtype=np.int64)] * len(queries)
        products = self._products(torch.from_numpy(queries), runs).numpy()
        least = np.floor(
            _at_most_the_last(products, min(count, runs.size)) - 2 * (1 + ROUNDING) * errors
        )
        least[np.isnan(least)] = INT32.max  # a state of NaN finds nothing
        least = np.maximum(least, INT32.min + 1)
        return [
            self.items[runs.places(np.flatnonzero(row >= int(bound)))].astype(np.int64)
            for row, bound in zip(products, least.tolist(), strict=True)
        ]

    def _products(self, queries: Tensor, runs: _Runs) -> Tensor:
        """Return the products with codes of some runs, the least int32 where one is not allowed.

        Args:
            queries: (B, width) int8.
            runs: the runs.

        Returns:
            (B, runs.size) int32.
        """
        products, start = torch.empty((len(queries), runs.size), dtype=torch.int32), 0
        for codes in runs.read(self.codes):
            part = products[:, start : start + len(codes)]
            whole = part if len(queries) == 1 else torch.empty_like(part)  # written as one piece
            int8_product(queries, codes.t(), whole)
            if whole is not part:
                part.copy_(whole)
            start += len(codes)
        return products if runs.barred is None else products.masked_fill_(runs.barred, INT32.min)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the length of each vector, (B,); vectors: (B, width)."""
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def _at_most_the_last(products: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return a number that is not above the `count`-th largest product, (B,).

    It may be the `count`-th largest of the maxima of groups, which are as many products.

    products: (B, size) int32.
    """
    rows, size = products.shape
    if size < 2 * GROUPS or count * GROUPS_PER_ITEM > GROUPS:
        return largest(torch.from_numpy(products), count)[0].amin(dim=1).numpy()
    grouped = products[:, : size // GROUPS * GROUPS].reshape(rows, -1, GROUPS)
    last: NDArray[np.int32] = np.partition(grouped.max(axis=1), -count, axis=1)[:, -count]
    return last
