"""Index of every item in 8 bits: one product of integers for a whole batch of queries.

Each number of a vector is stored as a whole multiple, from -127 to 127, of its column's step. The
steps are multiplied into the query, which is then rounded to 127 multiples of its largest number.
The product is exact in 32 bits, so a query's candidates do not depend on its batch. (faiss computes
one query after another here and reads all codes for each.)

The search keeps the largest score of every `GROUP` items. All items of the best groups are
candidates.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.errors import BundleRefused
from recsys.model.ranking import largest
from recsys.retrieval.candidates import IndexSettings, Windows, index_width, with_bias

STEPS = 127.0
SHORTEST = 1e-30  # step, and largest number of a query, so that none is divided by zero
GROUP = 8  # items of which the largest score is kept
BLOCK = 8192  # items scored at a time, which stay in the cache; a multiple of GROUP
CANDIDATES_PER_GROUP = 2  # candidates for each group that is taken whole
OVERSAMPLING = 4  # candidates for each item of the list, which hides the rounding


# torch has no public product of int8 matrices on a CPU. pyproject.toml bounds the version of torch,
# and a test fails when its private function changes or goes.
# CPU milliseconds for 1,000,000 items of 128 numbers, batches of 1, 4 and 32 queries, one thread
# of an EPYC with AVX512-VNNI, torch 2.13, 2026-11-26:
#   torch._int_mm                           7,  20,  43
#   float32, converted block by block      25,  92, 117
#   bfloat16, stored so                    43,  42,  82    rounds, twice the memory
#   torch.ops.quantized.linear_dynamic     16,  22,  52    deprecated, rounds by the batch's range
int8_matmul: Callable[..., Tensor] | None = getattr(torch, "_int_mm", None)
# Processors without products of 8 bits. Billions of products in a second of CPU, for 128 queries of
# 208 numbers, one thread of an EPYC with AVX2, torch 2.13, 2026-11-29: _int_mm 1.3, float32 28.5,
# bfloat16 3.4.
SLOW_INT_MM = ("AVX2",)


def has_int8_products() -> bool:
    """Return whether the product of int8 matrices is quick on this processor."""
    slow = torch.backends.cpu.get_cpu_capability() in SLOW_INT_MM
    return int8_matmul is not None and not slow


def int8_product(queries: Tensor, columns: Tensor, out: Tensor) -> None:
    """Write the product of two int8 matrices to `out`.

    Args:
        queries: (B, width) int8.
        columns: (width, N) int8; float32 with the same numbers unless `has_int8_products`.
        out: (B, N) int32, overwritten.
    """
    if int8_matmul is None or not has_int8_products():
        out.copy_(queries.float() @ columns.float())  # exact up to a width of 1,040
    else:
        int8_matmul(queries, columns, out=out)


def steps_of(largest: Tensor) -> Tensor:
    """Return the step of each column, (width,); largest: (width,) float32, absolute values."""
    return (largest / STEPS).clamp(min=SHORTEST)


def in_steps(queries: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return queries such that 127 is the largest number of each, to be rounded.

    Args:
        queries: (B, width) float32.
        steps: (width,) float32, of the codes that they are multiplied with.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a state that is not finite
        scaled = queries * steps
        longest = np.maximum(np.abs(scaled).max(axis=1, keepdims=True), SHORTEST)
        scaled *= np.float32(STEPS) / longest
    return scaled


def rounded(scaled: NDArray[np.float32]) -> Tensor:
    """Round queries that `in_steps` made; return (B, width) int8, any codes for NaN."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.rint(scaled).astype(np.int8))


class Int8Codes:
    """Vectors rounded to 8 bits, searched by inner product."""

    def __init__(self, codes: Tensor, steps: Tensor) -> None:
        """Hold the codes.

        Args:
            codes: (N, width) int8.
            steps: (width,) float32, the value of one step of each column.
        """
        self.shape = tuple(codes.shape)
        self.codes, self.steps = codes, steps
        self._grouped = len(codes) // GROUP * GROUP  # the few items beyond are always candidates

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(
        cls,
        matrix: Tensor,
        bias: Tensor,
        bias_unit: float,
        items: NDArray[np.int64] | None = None,
    ) -> "Int8Codes":
        """Round item vectors with their bias, a block at a time.

        Args:
            matrix: (N, H) float32, item vectors.
            bias: (N,) float32.
            bias_unit: see `IndexSettings`.
            items: (C,) int64 item indices, None for all items.

        Returns:
            The codes of C vectors.
        """
        count = len(matrix) if items is None else len(items)

        def vectors(start: int) -> Tensor:
            rows = slice(start, min(start + BLOCK, count))
            taken = rows if items is None else items[rows]
            exact = matrix.numpy()[taken], bias.numpy()[taken] / bias_unit
            return torch.from_numpy(with_bias(*exact))

        largest = torch.zeros(index_width(matrix.size(1)))
        for start in range(0, count, BLOCK):
            largest = torch.maximum(largest, vectors(start).abs().amax(dim=0))
        steps = steps_of(largest)
        codes = torch.empty((count, len(steps)), dtype=torch.int8)
        for start in range(0, count, BLOCK):
            codes[start : start + BLOCK] = (vectors(start) / steps).round_()
        return cls(codes, steps)

    @classmethod
    def read(cls, path: Path) -> "Int8Codes":
        """Memory-map the codes in a file.

        Raises:
            ValueError: the file does not hold codes.
        """
        try:
            with safe_open(path, framework="pt") as file:
                codes, steps = file.get_tensor("codes"), file.get_tensor("steps")
        except (OSError, SafetensorError) as broken:
            raise ValueError(f"not readable ({broken})") from broken
        types = codes.dtype, codes.dim(), steps.dtype, tuple(steps.shape)
        if types != (torch.int8, 2, torch.float32, tuple(codes.shape[1:])):
            raise ValueError(f"holds {types}")
        if not steps.isfinite().all():
            raise ValueError("has steps that are not finite")
        return cls(codes, steps)

    def write(self, path: Path) -> None:
        """Write the codes to one file."""
        save_file({"codes": self.codes.contiguous(), "steps": self.steps}, path)

    def only(self, vectors: NDArray[np.int64]) -> "Int8Codes":
        """Return a copy of some of the codes, in the order of these indices."""
        return Int8Codes(self.codes[torch.from_numpy(vectors)], self.steps)

    @torch.inference_mode()
    def best(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the vectors with the largest products.

        Args:
            queries: (B, width) float32.
            count: vectors to find for each query, at most N.

        Returns:
            (B, count) int64 indices, rising.
        """
        torch.get_num_threads()  # applies torch's setting to this thread, as _int_mm does not
        rounded = self._rounded(queries)
        products = torch.empty((len(queries), len(self)), dtype=torch.int32)
        for start in range(0, len(self), BLOCK):
            codes = self.codes[start : start + BLOCK]
            part = torch.empty((len(queries), len(codes)), dtype=torch.int32)
            int8_product(rounded, codes.t(), part)
            products[:, start : start + len(codes)] = part
        found = np.empty((len(queries), count), dtype=np.int64)
        for row, scores in enumerate(products.numpy()):
            found[row] = np.sort(np.argpartition(scores, len(self) - count)[len(self) - count :])
        return found

    @torch.inference_mode()
    def search(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the items of the groups that hold the largest products.

        Args:
            queries: (B, width) float32.
            count: items to find for each query.

        Returns:
            (B, C) int64 item indices, C at least `count` or N.
        """
        torch.get_num_threads()  # applies torch's setting to this thread, as _int_mm does not
        maxima = self._maxima(self._rounded(queries))
        groups = min(-(-count // CANDIDATES_PER_GROUP), maxima.size(1))
        return self._items_of(largest(maxima, groups)[1].numpy())

    def _rounded(self, queries: NDArray[np.float32]) -> Tensor:
        """Return the queries as (B, width) int8."""
        return rounded(in_steps(queries, self.steps.numpy()))

    def _maxima(self, queries: Tensor) -> Tensor:
        """Return the largest product of each group, (B, groups) int32.

        Group g of a block of m groups holds the block's items g, g + m, g + 2m, …
        """
        parts = [torch.empty((len(queries), 0), dtype=torch.int32)]
        scores = parts[0]
        for start in range(0, self._grouped, BLOCK):
            codes = self.codes[start : min(start + BLOCK, self._grouped)]
            if scores.size(1) != len(codes):
                scores = torch.empty((len(queries), len(codes)), dtype=torch.int32)
            int8_product(queries, codes.t(), scores)
            parts.append(scores.view(len(queries), GROUP, -1).amax(dim=1))
        return torch.cat(parts, dim=1)

    def _items_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items of the groups, and the items without a group: (B, C) int64.

        groups: (B, groups) int64, numbered through all blocks.
        """
        block, within = np.divmod(groups, BLOCK // GROUP)
        in_block = np.minimum(self._grouped - block * BLOCK, BLOCK) // GROUP  # groups of the block
        items = (block * BLOCK + within)[:, :, None] + np.arange(GROUP) * in_block[:, :, None]
        rest = np.arange(self._grouped, len(self))
        others = np.broadcast_to(rest, (len(groups), len(rest)))
        return np.concatenate([items.reshape(len(groups), -1), others], axis=1)


class Int8Index:
    """Candidate index on 8-bit codes of all items."""

    def __init__(self, codes: Int8Codes, settings: IndexSettings) -> None:
        self.settings = settings
        self._codes = codes

    @classmethod
    def of(cls, matrix: Tensor, bias: Tensor, bias_unit: float) -> "Int8Index":
        """Make the index of all items; arguments as those of `Int8Codes.of`."""
        settings = IndexSettings("int8", bias_unit)
        return cls(Int8Codes.of(matrix, bias, bias_unit), settings)

    @classmethod
    def read(cls, path: Path, settings: IndexSettings, items: int, hidden: int) -> "Int8Index":
        """Memory-map the index of a bundle, so that processes share it.

        Args:
            path: file of the index.
            settings: the manifest's settings of the index.
            items: N of the bundle.
            hidden: H, the length of an item vector without its bias.

        Raises:
            BundleRefused: the file is not an index of so many vectors.
        """
        try:
            codes = Int8Codes.read(path)
        except ValueError as broken:
            raise BundleRefused(
                f"{path} is not a readable index. Export the bundle anew."
            ) from broken
        if codes.shape != (items, index_width(hidden)):
            raise BundleRefused(
                f"{path} holds an int8 index of shape {codes.shape}; this bundle needs "
                f"{(items, index_width(hidden))}. Export the bundle anew."
            )
        return cls(codes, settings)

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def max_k(self) -> int:
        """Return N: the index finds candidates for a list of any length."""
        return len(self)

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        count: int,
    ) -> NDArray[np.int64]:
        """Return the items with the largest rounded products; see `CandidateIndex.candidates`."""
        vectors = with_bias(queries, self.settings.bias_unit)
        return self._codes.search(vectors, min(count * OVERSAMPLING, len(self)))

    def with_probes(self, probes: int) -> "Int8Index":
        """Return the same index; it always considers every item."""
        return self

    def write(self, path: Path) -> None:
        """Write the index to one file."""
        self._codes.write(path)
