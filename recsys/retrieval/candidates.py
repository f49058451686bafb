"""Interface of a candidate index: return the items that are likely to score highest.

    lists   lists made beforehand for each item (`recsys/retrieval/item_lists.py`)
    ivf     the items of the nearest cells, in 4 bits for every two numbers
    pq4     every item, in 4 bits for every two numbers, looked up in the processor's registers
    int8    every item in 8 bits, many queries at once (`recsys/retrieval/int8.py`)
    fp16    every item in 16 bits

An index returns candidates only; `recsys/retrieval/exact.py` computes their scores. A vector of the
index is the item's vector with the bias as one more number; a query gets a number to match.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

KINDS = ("lists", "ivf", "pq4", "int8", "fp16")  # from the least work to the most exact
PROBED = ("lists", "ivf")  # which look at some items only
MOST_PROBES = 1 << 20
SHORTEST = 20  # items: the list that the recall is measured for; a shorter one is no worse
LANES = 16  # numbers that are multiplied at once; a vector of another length is far slower

Windows = Sequence[Sequence[int]]  # the known items clicked in each session, oldest first


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a manifest says of an index."""

    kind: str
    bias_unit: float  # the bias is stored divided by it, the query's last number is multiplied
    probes: int = 0  # ivf: cells looked at; lists: last clicks whose lists are read

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A retrieval index is one of {', '.join(KINDS)}, got {self.kind!r}.")
        if not (type(self.bias_unit) is float and 0 < self.bias_unit < float("inf")):
            raise ValueError(f"bias_unit must be above 0 and finite, got {self.bias_unit!r}.")
        if type(self.probes) is not int or not (self.kind in PROBED) <= self.probes <= MOST_PROBES:
            raise ValueError(
                f"probes must be a whole number from 1 to {MOST_PROBES:,}, got {self.probes!r}."
            )

    @property
    def filters(self) -> bool:
        """A filter loses it nothing: it looks at every item that is allowed."""
        return self.kind not in PROBED


class CandidateIndex(Protocol):
    """Items that might be the best for a query, in no order."""

    settings: IndexSettings

    def __len__(self) -> int: ...

    @property
    def reach(self) -> int:
        """The longest list it finds candidates for."""
        ...

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        wanted: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Item indices for each row of `queries`, (B, H) float32: so many and more.

        (B, C), -1 where there is none, some twice. Each row gets what it would get alone. clicks:
        what each query was read from, at least one. allowed: (N,) bool, the items that may be
        found; None for all, and wherever the index does not filter.
        """
        ...

    def looking_at(self, probes: int) -> "CandidateIndex":
        """The same index, looked at so closely."""
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
