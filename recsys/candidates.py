"""Which items might score highest: the ways to find them quickly, and what a manifest says of them.

    hnsw    a graph of near items is walked, vectors in 8 bits (`recsys/faiss_index.py`)
    ivf     the items of the nearest cells, in 8 bits (`recsys/faiss_index.py`)
    int8    every item in 8 bits, many queries at once (`recsys/int8_scan.py`)
    fp16    every item in 16 bits (`recsys/faiss_index.py`)

A vector is its item's with the bias as one more number; a query gets a number to match. All that is
asked for is which items have the largest inner products: scores are computed elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

KINDS = ("hnsw", "ivf", "int8", "fp16")  # from the fewest bytes read to the most exact
PROBED = ("hnsw", "ivf")  # which look at some items only
MORE = 4  # candidates for each item wanted, which hides the rounding of 8 bits
LANES = 16  # numbers that are multiplied at once; a vector of another length is far slower


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a manifest says of an index."""

    kind: str
    bias_unit: float  # the bias is stored divided by it, the query's last number is multiplied
    probes: int = 0  # ivf: cells looked at; hnsw: best items remembered on the way (efSearch)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A retrieval index is one of {', '.join(KINDS)}, got {self.kind!r}.")
        if not (type(self.bias_unit) is float and 0 < self.bias_unit < float("inf")):
            raise ValueError(f"bias_unit must be above 0 and finite, got {self.bias_unit!r}.")
        if type(self.probes) is not int or self.probes < (self.kind in PROBED):
            raise ValueError(f"probes must be a whole number from 1, got {self.probes!r}.")

    def looking_at(self, probes: int) -> Self:
        return replace(self, probes=probes)


class CandidateIndex(Protocol):
    """Items that might be the best for a query, in no order."""

    @property
    def settings(self) -> IndexSettings: ...
    def __len__(self) -> int: ...

    def candidates(
        self,
        queries: NDArray[np.float32],
        wanted: Sequence[int],
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[np.int64]]:
        """Distinct item indices for each row of `queries`, (B, H) float32: `wanted` and more.

        Each row gets what it would get alone. allowed: (N,) bool, the items that may be found; None
        for every item.
        """
        ...

    def least_allowed(self, few: int) -> int:
        """So many allowed items or fewer are better all scored than looked for; at least `few`."""
        ...

    def looking_at(self, probes: int) -> "CandidateIndex":
        """The same index, looked at so closely; one that looks at every item does not change."""
        ...

    def write(self, path: Path) -> None: ...


def with_bias(
    vectors: NDArray[np.float32], last: NDArray[np.floating[Any]] | float
) -> NDArray[np.float32]:
    """(B, H) and a last number → (B, H + 1 and zeros to the next multiple of LANES)."""
    width = vectors.shape[1]
    joined = np.zeros((len(vectors), width_in_index(width)), dtype=np.float32)
    joined[:, :width] = vectors
    joined[:, width] = last
    return joined


def width_in_index(width: int) -> int:
    """Numbers of a stored vector whose item vector has `width`."""
    return math.ceil((width + 1) / LANES) * LANES


def stored_vectors(matrix: Tensor, bias: Tensor, bias_unit: float) -> NDArray[np.float32]:
    """matrix: (N, H) float32, bias: (N,); what an index is built from."""
    return with_bias(matrix.numpy(), bias.numpy() / bias_unit)
