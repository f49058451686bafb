"""Interface of a candidate index: return the items that are likely to score highest.

    lists   lists computed in advance for each item (`recsys/retrieval/item_lists.py`)
    int8    every item in 8 bits, many queries at once (`int8.py`)

An index returns candidates only. `recsys/retrieval/rerank.py` computes their scores in float32.
A vector of the index is the item's vector followed by its bias; a query vector ends with a number
to match. Vectors are padded with zeros to `index_width(H)` numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

KINDS = ("lists", "int8")  # from the least work to the most exact
REMOVED_KINDS = ("ivf", "pq4", "fp16")  # older bundles have them; every item is scored instead
PROBED_KINDS = ("lists", "ivf")  # they consider some items only
MAX_PROBES = 1 << 20
MEASURED_K = 20  # length of the lists that recall is measured on; a shorter list is no worse
VECTOR_ALIGNMENT = 16  # numbers multiplied at once; a vector of another length is far slower

Windows = Sequence[Sequence[int]]  # the known items clicked in each session, oldest first


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Settings of an index, as the manifest stores them.

    Raises:
        ValueError: a field is outside its range.
    """

    kind: str
    bias_unit: float  # the bias is divided by it, the query's last number is multiplied by it
    probes: int = 0  # lists: last clicks whose lists are read; ivf: cells that were searched

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, *REMOVED_KINDS):
            raise ValueError(f"A retrieval index is one of {', '.join(KINDS)}, got {self.kind!r}.")
        if not (type(self.bias_unit) is float and 0 < self.bias_unit < float("inf")):
            raise ValueError(f"bias_unit must be above 0 and finite, got {self.bias_unit!r}.")
        least = int(self.kind in PROBED_KINDS)
        if type(self.probes) is not int or not least <= self.probes <= MAX_PROBES:
            raise ValueError(
                f"probes must be a whole number from {least} to {MAX_PROBES:,}, "
                f"got {self.probes!r}."
            )


class CandidateIndex(Protocol):
    """Index that returns the likely best items for a query, in no order."""

    settings: IndexSettings

    def __len__(self) -> int:
        """Return N, the number of items in the index."""
        ...

    @property
    def max_k(self) -> int:
        """Return the places of the order by score that the candidates fill: the best `max_k`."""
        ...

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        count: int,
    ) -> NDArray[np.int64]:
        """Return at least `count` candidates for each query, where there are so many.

        A row does not depend on the other rows of the batch.

        Args:
            queries: (B, H) float32.
            clicks: B windows of item indices, each with at least one click; the queries were
                computed from them.
            count: items to find for each query.

        Returns:
            (B, C) int64 item indices; -1 fills a row, and an item may occur twice.
        """
        ...

    def with_probes(self, probes: int) -> "CandidateIndex":
        """Return the same index with another number of probes."""
        ...

    def write(self, path: Path) -> None:
        """Write the index to one file."""
        ...


def with_bias(
    vectors: NDArray[np.float32], last: NDArray[np.floating[Any]] | float
) -> NDArray[np.float32]:
    """Append one number to each vector, and zeros up to the width of the index.

    Args:
        vectors: (B, H) float32.
        last: (B,) numbers to append, or one number for all rows.

    Returns:
        (B, index_width(H)) float32.
    """
    width = vectors.shape[1]
    joined = np.zeros((len(vectors), index_width(width)), dtype=np.float32)
    joined[:, :width] = vectors
    joined[:, width] = last
    return joined


def index_width(hidden: int) -> int:
    """Return the length of a vector in the index, for item vectors of `hidden` numbers."""
    return math.ceil((hidden + 1) / VECTOR_ALIGNMENT) * VECTOR_ALIGNMENT
