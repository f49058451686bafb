"""Every item in 8 bits, for a whole batch of queries in one product of integers.

A vector's numbers are stored as whole steps, from -127 to 127, of a step of their own column; the
steps are multiplied into the query, which is then rounded to 127 steps of its longest number. The
product is exact in 32 bits, so a query's items do not depend on its batch. faiss computes one query
after another here and reads all codes for each.

Only the largest score of every few items is kept; the best of these name the groups whose items all
are candidates.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.model.ranking import largest

STEPS = 127.0
GROUP = 8  # items of which the largest score is kept
BLOCK = 8192  # items scored at a time, which stay in the cache; a multiple of GROUP
WANTED_PER_GROUP = 2  # candidates that are asked for, for each group that is taken whole
LEAST = torch.iinfo(torch.int32).min


# torch has no public product of int8 matrices on a CPU. pyproject.toml bounds the version of torch,
# and a test fails when its private function changes or goes.
# CPU milliseconds for 1,000,000 items of 128 numbers, batches of 1, 4 and 32 queries, one thread
# of an EPYC with AVX512-VNNI, torch 2.13, 2026-11-26:
#   torch._int_mm                           7,  20,  43
#   float32, converted block by block      25,  92, 117
#   bfloat16, stored so                    43,  42,  82    rounds, twice the memory
#   torch.ops.quantized.linear_dynamic     16,  22,  52    deprecated, rounds by the batch's range
_int_mm: Callable[..., Tensor] | None = getattr(torch, "_int_mm", None)


def int8_product(queries: Tensor, columns: Tensor, out: Tensor) -> None:
    """Write queries (B, W) @ columns (W, N), both int8, to `out`, (B, N) int32."""
    if _int_mm is None:
        out.copy_(queries.float() @ columns.float())  # exact up to W = 1,040
    else:
        _int_mm(queries, columns, out=out)


class Int8Codes:
    """Answers like a faiss index; ntotal: N, d: W, numbers of a vector."""

    def __init__(self, codes: Tensor, steps: Tensor) -> None:
        """codes: (N, W) int8; steps: (W,) float32, what one step of a column is worth."""
        self.ntotal, self.d = codes.shape
        self._codes, self._steps = codes, steps
        self._grouped = len(codes) // GROUP * GROUP  # the few items beyond are always candidates

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "Int8Codes":
        """vectors: (N, W)."""
        found = torch.from_numpy(vectors)
        steps = (found.abs().amax(dim=0) / STEPS).clamp(min=1e-30)
        return cls((found / steps).round_().to(torch.int8), steps)

    @classmethod
    def read(cls, path: Path) -> "Int8Codes":
        """Memory-mapped; raises `RuntimeError`, as faiss does, where the file is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                codes, steps = file.get_tensor("codes"), file.get_tensor("steps")
        except (OSError, SafetensorError) as broken:
            raise RuntimeError(f"not readable ({broken})") from broken
        kinds = codes.dtype, codes.dim(), steps.dtype, tuple(steps.shape)
        if kinds != (torch.int8, 2, torch.float32, tuple(codes.shape[1:])):
            raise RuntimeError(f"holds {kinds}")
        if not steps.isfinite().all():
            raise RuntimeError("has steps that are no numbers")
        return cls(codes, steps)

    def write(self, path: Path) -> None:
        save_file({"codes": self._codes.contiguous(), "steps": self._steps}, path)

    @torch.inference_mode()
    def search(
        self, queries: NDArray[np.float32], most: int, params: NDArray[np.bool_] | None = None
    ) -> tuple[None, NDArray[np.int64]]:
        """queries: (B, W); params: (N,) which items may be found, None for all.

        Returns no scores and (B, C) item indices, C at least `most` or N; -1 where there is none.
        """
        maxima = self._maxima(self._rounded(queries), params)
        groups = min(-(-most // WANTED_PER_GROUP), maxima.size(1))
        items = self._items_of(largest(maxima, groups)[1].numpy())
        if params is not None:
            items = np.where(params[items], items, -1)
        return None, items

    def _rounded(self, queries: NDArray[np.float32]) -> Tensor:
        """(B, W) int8."""
        vectors = torch.from_numpy(queries) * self._steps
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
            int8_product(queries, codes.t(), scores)
            if allowed is not None:
                barred = torch.from_numpy(~allowed[start : start + len(codes)])
                scores.masked_fill_(barred, LEAST)
            parts.append(scores.view(len(queries), GROUP, -1).amax(dim=1))
        return torch.cat(parts, dim=1)

    def _items_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, groups), numbered through all blocks → (B, items), with those of no group."""
        block, within = np.divmod(groups, BLOCK // GROUP)
        dealt = np.minimum(self._grouped - block * BLOCK, BLOCK) // GROUP  # groups of that block
        items = (block * BLOCK + within)[:, :, None] + np.arange(GROUP) * dealt[:, :, None]
        rest = np.arange(self._grouped, self.ntotal)
        others = np.broadcast_to(rest, (len(groups), len(rest)))
        return np.concatenate([items.reshape(len(groups), -1), others], axis=1)
