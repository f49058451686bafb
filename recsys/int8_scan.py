"""Every item in 8 bits, for a whole batch of queries in one product of integers.

A vector's numbers are stored as whole steps, from -127 to 127, of a step of their own column; the
steps are multiplied into the query, which is then rounded to 127 steps of its longest number. The
product is exact in 32 bits, so a query's candidates do not depend on its batch.

Scores are made for a block of items at a time, small enough to stay in the processor's cache, and
only the largest of every few items is kept. The best of these name the groups whose items all are
candidates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.candidates import IndexSettings, stored_vectors, width_in_index, with_bias
from recsys.errors import BundleRefused
from recsys.ranking import largest

STEPS = 127.0
GROUP = 8  # items of which the largest score is kept
BLOCK = 32_768  # items scored at a time; a multiple of GROUP
MORE = 2  # groups for each item wanted, which hides the rounding
NEVER = torch.iinfo(torch.int32).min


class Int8Scan:
    """A `recsys.candidates.CandidateIndex`."""

    def __init__(self, codes: Tensor, steps: Tensor, settings: IndexSettings) -> None:
        """codes: (N, W) int8; steps: (W,) float32, what one step of a column is worth."""
        self.settings = settings
        self._codes = codes
        self._steps = steps
        self._grouped = len(codes) // GROUP * GROUP  # the few items beyond are always candidates

    def __len__(self) -> int:
        return len(self._codes)

    @torch.inference_mode()
    def candidates(
        self,
        queries: NDArray[np.float32],
        wanted: Sequence[int],
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[np.int64]]:
        """As the protocol says: all items of so many groups that hold the largest scores."""
        maxima = self._maxima(self._rounded(queries), allowed)
        groups = [min(own * MORE, maxima.size(1)) for own in wanted]
        found: dict[int, NDArray[np.int64]] = {}
        for count in set(groups):
            rows = [row for row, own in enumerate(groups) if own == count]
            best = largest(maxima[rows] if len(rows) < len(groups) else maxima, count)[1]
            found |= dict(zip(rows, self._items_of(best.numpy()), strict=True))
        if allowed is not None:
            found = {row: items[allowed[items]] for row, items in found.items()}
        return [found[row] for row in range(len(groups))]

    def least_allowed(self, few: int) -> int:
        return few

    def looking_at(self, probes: int) -> "Int8Scan":
        return self

    def write(self, path: Path) -> None:
        save_file({"codes": self._codes.contiguous(), "steps": self._steps}, path)

    def _rounded(self, queries: NDArray[np.float32]) -> Tensor:
        """(B, W) int8."""
        vectors = torch.from_numpy(with_bias(queries, self.settings.bias_unit)) * self._steps
        longest = vectors.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
        return (vectors * (STEPS / longest)).round_().to(torch.int8)

    def _maxima(self, queries: Tensor, allowed: NDArray[np.bool_] | None) -> Tensor:
        """(B, groups) int32; group g of a block of m groups holds its items g, g + m, g + 2m, …"""
        parts = [torch.empty((len(queries), 0), dtype=torch.int32)]
        scores = parts[0]
        for start in range(0, self._grouped, BLOCK):
            codes = self._codes[start : min(start + BLOCK, self._grouped)]
            if scores.size(1) != len(codes):
                scores = torch.empty((len(queries), len(codes)), dtype=torch.int32)
            torch._int_mm(queries, codes.t(), out=scores)
            if allowed is not None:
                barred = torch.from_numpy(~allowed[start : start + len(codes)])
                scores.masked_fill_(barred, NEVER)
            parts.append(scores.view(len(queries), GROUP, -1).amax(dim=1))
        return torch.cat(parts, dim=1)

    def _items_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, groups), numbered through all blocks → (B, items), with those of no group."""
        block, within = np.divmod(groups, BLOCK // GROUP)
        dealt = np.minimum(self._grouped - block * BLOCK, BLOCK) // GROUP  # groups of that block
        items = (block * BLOCK + within)[:, :, None] + np.arange(GROUP) * dealt[:, :, None]
        rest = np.arange(self._grouped, len(self))
        others = np.broadcast_to(rest, (len(groups), len(rest)))
        return np.concatenate([items.reshape(len(groups), -1), others], axis=1)


def build_int8(matrix: Tensor, bias: Tensor, settings: IndexSettings) -> Int8Scan:
    """matrix: (N, H) float32; bias: (N,) float32."""
    vectors = torch.from_numpy(stored_vectors(matrix, bias, settings.bias_unit))
    steps = (vectors.abs().amax(dim=0) / STEPS).clamp(min=1e-30)
    return Int8Scan((vectors / steps).round_().to(torch.int8), steps, settings)


def read_int8(path: Path, settings: IndexSettings, items: int, width: int) -> Int8Scan:
    """Memory-mapped, so that processes share it; raises `BundleRefused`.

    width: H, numbers of an item vector without its bias.
    """
    try:
        with safe_open(path, framework="pt") as file:
            codes, steps = file.get_tensor("codes"), file.get_tensor("steps")
    except (OSError, SafetensorError) as broken:
        raise BundleRefused(f"{path} is not a readable index. Export the bundle anew.") from broken
    wide = width_in_index(width)
    found = (codes.dtype, tuple(codes.shape), steps.dtype, tuple(steps.shape))
    if found != (torch.int8, (items, wide), torch.float32, (wide,)) or not steps.isfinite().all():
        raise BundleRefused(
            f"{path} holds {codes.dtype} {tuple(codes.shape)} and {steps.dtype} "
            f"{tuple(steps.shape)}; this bundle needs int8 {(items, wide)} and finite float32 "
            f"{(wide,)}. Export the bundle anew."
        )
    return Int8Scan(codes, steps, settings)
