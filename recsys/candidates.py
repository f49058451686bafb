"""Quantised item vectors in a faiss index: which items might score highest.

A vector is its item's with the bias as one more number; a query gets a number to match. faiss
finds the largest inner products of these, in 8 or 16 bits, and that is all that is asked of it:
scores are computed elsewhere. Clusters of `ivf` are made by distance and looked up by inner
product, because clusters made by inner product gather around the few longest vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import BundleRefused

KINDS = ("ivf", "int8", "fp16")  # from the fewest bytes read to the most exact
MORE = 4  # candidates for each item wanted, which hides the rounding of 8 bits
POINTS_PER_CELL = 64  # that k-means looks at
LEAST_PER_CELL = 39  # items, which k-means wants to see
ROUNDS = 8  # of k-means
LANES = 16  # numbers that faiss multiplies at once; a vector of another length is far slower
ONE_BY_ONE = 1 << 30  # below so many queries faiss computes each alone: a batch changes nothing


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a manifest says of an index."""

    kind: str
    bias_unit: float  # the bias is stored divided by it, the query's last number is multiplied
    probes: int = 0  # cells looked at, of ivf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A retrieval index is one of {', '.join(KINDS)}, got {self.kind!r}.")
        if not (type(self.bias_unit) is float and 0 < self.bias_unit < float("inf")):
            raise ValueError(f"bias_unit must be above 0 and finite, got {self.bias_unit!r}.")
        if type(self.probes) is not int or self.probes < (self.kind == "ivf"):
            raise ValueError(f"probes must be a whole number from 1, got {self.probes!r}.")


class CandidateIndex:
    """Items that might be the best for a query, in no order."""

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        faiss.omp_set_num_threads(1)  # the caller's thread computes; more only fight over cores
        faiss.cvar.distance_compute_blas_threshold = ONE_BY_ONE
        self.settings = settings
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def candidates(
        self,
        queries: NDArray[np.float32],
        wanted: Sequence[int],
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[np.int64]]:
        """Item indices for each row of `queries`, (B, H) float32: its `wanted` and more.

        Each row gets what it would get alone. allowed: (N,) bool, the items that may be found; None
        for every item.
        """
        vectors = with_bias(queries, self.settings.bias_unit)
        options = self._options(allowed)
        most = min(max(wanted) * MORE, len(self))
        _, found = self._index.search(vectors, most, params=options)
        rows = [row[: own * MORE] for row, own in zip(found, wanted, strict=True)]
        return [row[row >= 0] for row in rows]

    def _options(self, allowed: NDArray[np.bool_] | None) -> Any:
        chosen, probes = {}, self.settings.probes
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            # as many allowed items are looked at as if all were
            probes = math.ceil(probes * len(allowed) / max(int(np.count_nonzero(allowed)), 1))
        if self.settings.kind != "ivf":
            return faiss.SearchParameters(**chosen)
        return faiss.SearchParametersIVF(nprobe=min(probes, self._index.nlist), **chosen)

    def looking_at(self, probes: int) -> "CandidateIndex":
        """The same index, of which so many cells are looked at."""
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return CandidateIndex(self._index, settings)

    def write(self, path: Path) -> None:
        path.write_bytes(faiss.serialize_index(self._index).tobytes())


def build_index(matrix: Tensor, bias: Tensor, kind: str, bias_unit: float) -> CandidateIndex:
    """matrix: (N, H) float32, bias: (N,); bias_unit: about as long as queries are."""
    vectors = with_bias(matrix.numpy(), bias.numpy() / bias_unit)
    settings = IndexSettings(kind, bias_unit, probes=int(kind == "ivf"))
    if kind == "ivf":
        return CandidateIndex(_cells(vectors), settings)
    bits = {"int8": faiss.ScalarQuantizer.QT_8bit, "fp16": faiss.ScalarQuantizer.QT_fp16}[kind]
    index = faiss.IndexScalarQuantizer(vectors.shape[1], bits, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return CandidateIndex(index, settings)


def cells_for(items: int) -> int:
    """Twice the root of the catalogue, as a power of two: cells and their items cost alike."""
    most = max(items // LEAST_PER_CELL, 1)
    return 1 << math.floor(math.log2(min(2 * math.sqrt(items), most)))


def read_candidates(path: Path, settings: IndexSettings, items: int, width: int) -> CandidateIndex:
    """Memory-mapped, so that processes share it; raises `BundleRefused`.

    width: H, numbers of an item vector without its bias.
    """
    flag = faiss.IO_FLAG_MMAP if settings.kind == "ivf" else faiss.IO_FLAG_MMAP_IFC
    try:
        index = faiss.read_index(str(path), flag)
    except RuntimeError as broken:
        raise BundleRefused(f"{path} is not a readable index. Export the bundle anew.") from broken
    expected = "IndexIVFScalarQuantizer" if settings.kind == "ivf" else "IndexScalarQuantizer"
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
    return -(-(width + 1) // LANES) * LANES


def _cells(vectors: NDArray[np.float32]) -> Any:
    width, cells = vectors.shape[1], cells_for(len(vectors))
    means = faiss.Kmeans(
        width, cells, niter=ROUNDS, seed=1, max_points_per_centroid=POINTS_PER_CELL
    )
    means.train(vectors)
    nearest = means.index.search(vectors, 1)[1].reshape(-1)
    centres = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        centres, width, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, True
    )
    centres.add(means.centroids)
    index.train(vectors)
    numbers = np.arange(len(vectors), dtype=np.int64)
    index.add_core(
        len(vectors),
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(numbers),
        faiss.swig_ptr(np.ascontiguousarray(nearest)),
    )
    index.ntotal = len(vectors)
    return index
