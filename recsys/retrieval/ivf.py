"""Inverted file with product quantisation (faiss): search the cells nearest to the query.

Sources: Jégou et al., TPAMI 2011 (inverted file and product quantisation); André et al., VLDB 2015
(4-bit codes in registers).
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import BundleRefused
from recsys.retrieval.candidates import IndexSettings, Windows, index_width, with_bias

OVERSAMPLING = 8  # candidates for each item of the list, which hides the rounding
ONE_BY_ONE = 1 << 30  # below so many queries faiss computes each alone: a batch changes nothing
FAISS_CLASS = "IndexIVFPQFastScan"


class IvfIndex:
    """Candidate index that searches the nearest cells of a faiss inverted file."""

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        """Hold the index.

        Args:
            index: faiss `IndexIVFPQFastScan` of N vectors as `with_bias` makes them.
            settings: `probes` is the number of cells to search.
        """
        faiss.cvar.distance_compute_blas_threshold = ONE_BY_ONE
        self.settings = settings
        self._index = index
        cells = min(max(settings.probes, 1), index.nlist)
        self._parameters = faiss.SearchParametersIVF(nprobe=cells)

    @classmethod
    def read(cls, path: Path, settings: IndexSettings, items: int, hidden: int) -> "IvfIndex":
        """Open the index of a bundle, memory-mapped where faiss can do so.

        Args:
            path: file of the index.
            settings: the manifest's settings of the index.
            items: N of the bundle.
            hidden: H, the length of an item vector without its bias.

        Raises:
            BundleRefused: the file is not an index of so many vectors.
        """
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as broken:
            raise BundleRefused(
                f"{path} is not a readable index. Export the bundle anew."
            ) from broken
        held = type(index).__name__, int(index.ntotal), int(index.d)
        if held != (FAISS_CLASS, items, index_width(hidden)):
            raise BundleRefused(
                f"{path} holds {held[0]} of {held[1]:,} vectors of {held[2]} numbers; this "
                f"bundle needs {FAISS_CLASS} of {items:,} of {index_width(hidden)}. Export the "
                "bundle anew."
            )
        return cls(index, settings)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def max_k(self) -> int:
        """Return N: the index finds candidates for a list of any length."""
        return len(self)

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        count: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Return the best items of the nearest cells; see `CandidateIndex.candidates`."""
        assert allowed is None, "an index that is not exhaustive gets no filter"
        faiss.omp_set_num_threads(1)  # of this thread: more threads only compete for cores
        vectors = with_bias(queries, self.settings.bias_unit)
        most = min(count * OVERSAMPLING, len(self))
        items: NDArray[np.int64] = self._index.search(vectors, most, params=self._parameters)[1]
        items[items >= len(self)] = -1  # a damaged file may name items that do not exist
        return items

    def with_probes(self, probes: int) -> "IvfIndex":
        """Return the same index that searches `probes` cells."""
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return IvfIndex(self._index, settings)

    def write(self, path: Path) -> None:
        """Write the index to one file."""
        faiss.write_index(self._index, str(path))
