"""Scan of the allowed items in 8 bits that overlooks none of the best.

The codes stand in an order in which items with equal attributes are neighbours, so a filter reads a
few runs of memory. A product of codes differs from the score at most by

    ‖d‖ · ‖c‖ + ‖q‖ · ‖e‖        q = r + d: the query and its rounding, x = c + e: the item's

in steps of the codes (Cauchy and Schwarz), where no number of e is above 1/2. Every item whose
product is within twice this bound of the n-th largest is a candidate, so the n best are among them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import largest
from recsys.retrieval.candidates import with_bias
from recsys.retrieval.int8 import STEPS, Int8Codes, int8_product

CODES_AT_ONCE = 32_768  # multiplied together
COPIED_AT_ONCE = 8_192  # copied to be multiplied, which stay in the cache
SIDE_BY_SIDE = 16  # runs, of the mean of a filter: so many are read where they are
RUN = 64  # codes that are read together, 9 KB of 128 numbers
PRODUCTS_AT_ONCE = 8_000_000  # 32 MB
MAX_CANDIDATES = 100_000  # of one query; where rounding leaves more, the scan gives up
ROUNDING = 1e-5  # of the bound, for the arithmetic in float32
INT32 = torch.iinfo(torch.int32)
MOST_RUNS = 0.8  # of all; to read more, no run is left out


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

    @torch.inference_mode()
    def best(
        self, queries: NDArray[np.float32], count: int, allowed: AllowedItems | None = None
    ) -> NDArray[np.int64] | None:
        """Return candidates that hold the allowed items with the highest scores.

        Args:
            queries: (B, H) float32.
            count: candidates hold the `count` best, and all items that score as the last of them.
            allowed: None for every item.

        Returns:
            (B, C) int64 items, in no order, -1 fills a row; None where a query would have more
            than `MAX_CANDIDATES`.
        """
        torch.get_num_threads()  # applies torch's setting to this thread, as _int_mm does not
        runs = self._runs(allowed)
        vectors = with_bias(queries, 1.0)
        at_once = max(PRODUCTS_AT_ONCE // max(runs.size, 1), 1)
        found = [
            items
            for at in range(0, len(queries), at_once)
            for items in self._codes.best(vectors[at : at + at_once], count, runs)
        ]
        most = max(map(len, found))
        if most > MAX_CANDIDATES:
            return None
        filled = np.full((len(found), most), -1, dtype=np.int64)
        for row, items in zip(filled, found, strict=True):
            row[: len(items)] = items
        return filled

    def _runs(self, allowed: AllowedItems | None) -> "_Runs":
        if allowed is None:
            return self._codes.all_runs
        runs = self._runs_of.get(allowed)
        if runs is None:
            runs = self._runs_of[allowed] = self._codes.runs_of(allowed)
        return runs


@dataclass(frozen=True)
class _Runs:
    """Runs of codes to read, and which of these codes are not allowed."""

    numbers: NDArray[np.int64] | None  # of the runs, rising; None for all
    barred: Tensor  # (size,) bool

    @property
    def size(self) -> int:
        return len(self.barred)


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
        return _Runs(None, torch.arange(len(self.items)) >= self.total)

    def runs_of(self, allowed: AllowedItems) -> _Runs:
        """Return the runs that hold the allowed items."""
        places = self.places[allowed.indices]
        run, within = places // RUN, places % RUN
        touched = np.zeros(len(self.items) // RUN, dtype=bool)
        touched[run] = True
        numbers = np.flatnonzero(touched)
        if len(numbers) > MOST_RUNS * len(touched):
            numbers, touched = np.arange(len(touched)), np.ones_like(touched)
        barred = np.ones((len(numbers), RUN), dtype=bool)
        barred[(np.cumsum(touched) - 1)[run], within] = False
        return _Runs(None if touched.all() else numbers, torch.from_numpy(barred.ravel()))

    def best(
        self, vectors: NDArray[np.float32], count: int, runs: _Runs
    ) -> list[NDArray[np.int64]]:
        """Return the (C,) candidates of each query in some runs; see `ItemScan.best`.

        Args:
            vectors: (B, width) float32, queries with their last number.
            count: see `ItemScan.best`.
            runs: the runs.
        """
        scaled = torch.from_numpy(vectors) * self.steps
        exact = scaled * (STEPS / scaled.abs().amax(dim=1, keepdim=True).clamp(min=1e-30))
        rounded = exact.round()
        differ = torch.linalg.vector_norm(exact - rounded, dim=1) * self.longest
        differ += torch.linalg.vector_norm(exact, dim=1) * (0.5 * math.sqrt(len(self.steps)))
        products = self._products(rounded.to(torch.int8), runs)
        last = largest(products, min(count, runs.size))[0].amin(dim=1) if runs.size else differ
        least = (last.double() - 2 * (1 + ROUNDING) * differ.double()).floor()
        least = least.nan_to_num(INT32.max).clamp(min=INT32.min + 1)  # a state of NaN finds nothing
        found = []
        for row, bound in zip(products.numpy(), least.to(torch.int64).tolist(), strict=True):
            found.append(self._items_at(np.flatnonzero(row >= bound), runs))
        return found

    def _items_at(self, places: NDArray[np.int64], runs: _Runs) -> NDArray[np.int64]:
        if runs.numbers is not None:
            places = runs.numbers[places // RUN] * RUN + places % RUN
        return self.items[places].astype(np.int64)

    def _products(self, queries: Tensor, runs: _Runs) -> Tensor:
        """Return the products with codes of some runs, the least int32 where one is not allowed.

        Args:
            queries: (B, width) int8.
            runs: the runs.

        Returns:
            (B, runs.size) int32.
        """
        products, start = torch.empty((len(queries), runs.size), dtype=torch.int32), 0
        for codes in self._read(runs):
            part = products[:, start : start + len(codes)]
            whole = part if len(queries) == 1 else torch.empty_like(part)  # written as one piece
            int8_product(queries, codes.t(), whole)
            if whole is not part:
                part.copy_(whole)
            start += len(codes)
        return products.masked_fill_(runs.barred, INT32.min)

    def _read(self, runs: _Runs) -> Iterator[Tensor]:
        """Yield the codes of some runs, a part at a time; runs side by side are not copied."""
        numbers = runs.numbers
        if numbers is None:
            yield from torch.split(self.codes, CODES_AT_ONCE)
            return
        ends = np.flatnonzero(np.diff(numbers) > 1) + 1
        if len(ends) * SIDE_BY_SIDE < len(numbers):
            for part in np.split(numbers, ends):
                beside = self.codes[part[0] * RUN : (part[-1] + 1) * RUN]
                yield from torch.split(beside, CODES_AT_ONCE)
        else:
            by_run = self.codes.view(-1, RUN * self.codes.size(1))
            for some in torch.split(torch.from_numpy(numbers), COPIED_AT_ONCE // RUN):
                yield by_run.index_select(0, some).view(-1, self.codes.size(1))
