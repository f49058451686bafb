"""Quantised item vectors in an index: which items might score highest.

    hnsw    a graph of near items is walked, vectors in 8 bits
    ivf     the items of the nearest cells, in 4 bits for every two numbers
    pq4     every item, in 4 bits for every two numbers, looked up in the processor's registers
    int8    every item in 8 bits, many queries at once (`recsys/int8_codes.py`)
    fp16    every item in 16 bits

A vector is its item's with the bias as one more number; a query gets a number to match. The index
(of faiss, but for int8) finds the largest inner products of these and no more: scores are computed
elsewhere. Sources: Malkov and Yashunin, arXiv:1603.09320 (hnsw); Jégou et al., TPAMI 2011 (ivf and
pq); André et al., VLDB 2015 (4 bits in registers).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import BundleRefused
from recsys.int8_codes import Int8Codes

KINDS = ("hnsw", "ivf", "pq4", "int8", "fp16")  # from the least work to the most exact
PROBED = ("hnsw", "ivf")  # which look at some items only
# candidates for each item wanted, which hides the rounding
MORE: Mapping[str, int] = {"hnsw": 4, "ivf": 8, "pq4": 8, "int8": 4, "fp16": 4}
SHORTEST = 20  # items: the list that the recall is measured for; a shorter one is no worse
LANES = 16  # numbers that faiss multiplies at once; a vector of another length is far slower
ONE_BY_ONE = 1 << 30  # below so many queries faiss computes each alone: a batch changes nothing
CLASSES: Mapping[str, str] = {
    "hnsw": "IndexHNSWSQ",
    "ivf": "IndexIVFPQFastScan",
    "pq4": "IndexIVFPQFastScan",
    "int8": "Int8Codes",
    "fp16": "IndexScalarQuantizer",
}


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


class CandidateIndex:
    """Items that might be the best for a query, in no order."""

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        faiss.omp_set_num_threads(1)  # the caller's thread computes; more only fight over cores
        faiss.cvar.distance_compute_blas_threshold = ONE_BY_ONE
        self.settings = settings
        self._index = index
        self._everywhere = self._options(None)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def filters(self) -> bool:
        """A filter loses it nothing: it looks at every item that is allowed."""
        return self.settings.kind not in PROBED

    def candidates(
        self,
        queries: NDArray[np.float32],
        wanted: Sequence[int],
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[np.int64]]:
        """Item indices for each row of `queries`, (B, H) float32: its `wanted` and more.

        Each row gets what it would get alone. allowed: (N,) bool, the items that may be found; None
        for every item, and wherever `filters` does not hold.
        """
        vectors = with_bias(queries, self.settings.bias_unit)
        options = self._everywhere if allowed is None else self._options(allowed)
        found: dict[int, NDArray[np.int64]] = {}
        counts = [max(own, SHORTEST) for own in wanted]
        for count in set(counts):  # how many are asked for can change which ones are found
            rows = [row for row, own in enumerate(counts) if own == count]
            most = min(count * MORE[self.settings.kind], len(self))
            best = self._index.search(vectors[rows], most, params=options)[1]
            found |= {row: items[items >= 0] for row, items in zip(rows, best, strict=True)}
        return [found[row] for row in range(len(wanted))]

    def _options(self, allowed: NDArray[np.bool_] | None) -> Any:
        kind, probes, chosen = self.settings.kind, self.settings.probes, {}
        if kind == "int8":
            return allowed
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(probes, len(self)), **chosen)
        if kind in ("ivf", "pq4"):
            return faiss.SearchParametersIVF(
                nprobe=min(max(probes, 1), self._index.nlist), **chosen
            )
        return faiss.SearchParameters(**chosen)

    def looking_at(self, probes: int) -> "CandidateIndex":
        """The same index, looked at so closely."""
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return CandidateIndex(self._index, settings)

    def write(self, path: Path) -> None:
        if isinstance(self._index, Int8Codes):
            self._index.write(path)
        else:
            faiss.write_index(self._index, str(path))


def read_candidates(path: Path, settings: IndexSettings, items: int, width: int) -> CandidateIndex:
    """Memory-mapped where its kind can be, so that processes share it; raises `BundleRefused`.

    width: H, numbers of an item vector without its bias.
    """
    try:
        if settings.kind == "int8":
            index = Int8Codes.read(path)
        else:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as broken:
        raise BundleRefused(f"{path} is not a readable index. Export the bundle anew.") from broken
    expected = CLASSES[settings.kind]
    found = type(index).__name__, int(index.ntotal), int(index.d)
    if found != (expected, items, width_in_index(width)):
        raise BundleRefused(
            f"{path} holds {found[0]} of {found[1]:,} vectors of {found[2]} numbers; this bundle "
            f"needs {expected} of {items:,} of {width_in_index(width)}. Export the bundle anew."
        )
    return CandidateIndex(index, settings)


def with_bias(
    vectors: NDArray[np.float32], last: NDArray[np.floating[Any]] | float
) -> NDArray[np.float32]:
    """(B, H) and a last number → (B, H + 1 and zeros to the next multiple of LANES), for faiss."""
    width = vectors.shape[1]
    joined = np.zeros((len(vectors), width_in_index(width)), dtype=np.float32)
    joined[:, :width] = vectors
    joined[:, width] = last
    return joined


def width_in_index(width: int) -> int:
    """Numbers of a stored vector whose item vector has `width`."""
    return math.ceil((width + 1) / LANES) * LANES
