"""faiss indexes of quantised item vectors: a graph, cells, or every item in 16 bits.

Clusters of `ivf` are made by distance and looked up by inner product, because clusters made by
inner product gather around the few longest vectors. The graph of `hnsw` is built and walked by
inner product, which suits vectors of about one length, as cosine scores have them; for others the
measurement at export refuses it (Malkov and Yashunin, arXiv:1603.09320).
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.candidates import MORE, IndexSettings, stored_vectors, width_in_index, with_bias
from recsys.errors import BundleRefused

POINTS_PER_CELL = 64  # that k-means looks at
LEAST_PER_CELL = 39  # items, which k-means wants to see
ROUNDS = 8  # of k-means
LINKS = 24  # of an item to others in the graph, twice as many on its lowest level
BUILT_WITH = 100  # best items remembered while an item's links are chosen (efConstruction)
LEAST_SHARE = 1 / 8  # of the items: where fewer are allowed, the graph leads nowhere
ONE_BY_ONE = 1 << 30  # below so many queries faiss computes each alone: a batch changes nothing
CLASSES = {
    "hnsw": "IndexHNSWSQ",
    "ivf": "IndexIVFScalarQuantizer",
    "fp16": "IndexScalarQuantizer",
}


class FaissIndex:
    """A `recsys.candidates.CandidateIndex`."""

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
        """As the protocol says; rows that want as many are searched together."""
        vectors = with_bias(queries, self.settings.bias_unit)
        options = self._options(allowed)
        found: dict[int, NDArray[np.int64]] = {}
        for count in set(wanted):
            rows = [row for row, own in enumerate(wanted) if own == count]
            most = min(count * MORE, len(self))
            best = self._index.search(vectors[rows], most, params=options)[1]
            found |= {row: items[items >= 0] for row, items in zip(rows, best, strict=True)}
        return [found[row] for row in range(len(wanted))]

    def least_allowed(self, few: int) -> int:
        share = LEAST_SHARE if self.settings.kind == "hnsw" else 0.0
        return max(few, math.ceil(share * len(self)))

    def looking_at(self, probes: int) -> "FaissIndex":
        return FaissIndex(self._index, self.settings.looking_at(probes))

    def write(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    def _options(self, allowed: NDArray[np.bool_] | None) -> Any:
        chosen, probes = {}, self.settings.probes
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            # as many allowed items are looked at as if all were
            probes = math.ceil(probes * len(allowed) / max(int(np.count_nonzero(allowed)), 1))
        if self.settings.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(probes, len(self)), **chosen)
        if self.settings.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=min(probes, self._index.nlist), **chosen)
        return faiss.SearchParameters(**chosen)


def build_faiss(matrix: Tensor, bias: Tensor, settings: IndexSettings) -> FaissIndex:
    """matrix: (N, H) float32; bias: (N,) float32. A graph takes minutes for a million items."""
    vectors = stored_vectors(matrix, bias, settings.bias_unit)
    builders = {"hnsw": _graph, "ivf": _cells, "fp16": _scan}
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    return FaissIndex(builders[settings.kind](vectors), settings)


def read_faiss(path: Path, settings: IndexSettings, items: int, width: int) -> FaissIndex:
    """Memory-mapped, so that processes share it; raises `BundleRefused`.

    width: H, numbers of an item vector without its bias.
    """
    flag = faiss.IO_FLAG_MMAP if settings.kind == "ivf" else faiss.IO_FLAG_MMAP_IFC
    try:
        index = faiss.read_index(str(path), flag)
    except RuntimeError as broken:
        raise BundleRefused(f"{path} is not a readable index. Export the bundle anew.") from broken
    expected = CLASSES[settings.kind]
    found = type(index).__name__, int(index.ntotal), int(index.d)
    if found != (expected, items, width_in_index(width)):
        raise BundleRefused(
            f"{path} holds {found[0]} of {found[1]:,} vectors of {found[2]} numbers; this bundle "
            f"needs {expected} of {items:,} of {width_in_index(width)}. Export the bundle anew."
        )
    return FaissIndex(index, settings)


def cells_for(items: int) -> int:
    """Twice the root of the catalogue, as a power of two: cells and their items cost alike."""
    most = max(items // LEAST_PER_CELL, 1)
    return 1 << math.floor(math.log2(min(2 * math.sqrt(items), most)))


def _scan(vectors: NDArray[np.float32]) -> Any:
    bits = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexScalarQuantizer(vectors.shape[1], bits, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


def _graph(vectors: NDArray[np.float32]) -> Any:
    bits = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexHNSWSQ(vectors.shape[1], bits, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILT_WITH
    index.train(vectors)
    index.add(vectors)
    return index


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
