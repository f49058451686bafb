"""Item vectors in fewer bits, all of them or those of some cells: faiss, and one product of ours.

Sources: Jégou et al., TPAMI 2011 (ivf and pq); André et al., VLDB 2015 (4 bits in registers).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import BundleRefused
from recsys.retrieval.candidates import IndexSettings, Windows, width_in_index, with_bias
from recsys.retrieval.int8 import Int8Codes

# candidates for each item wanted, which hides the rounding
MORE: Mapping[str, int] = {"ivf": 8, "pq4": 8, "int8": 4, "fp16": 4}
ONE_BY_ONE = 1 << 30  # below so many queries faiss computes each alone: a batch changes nothing
CLASSES: Mapping[str, str] = {
    "ivf": "IndexIVFPQFastScan",
    "pq4": "IndexIVFPQFastScan",
    "int8": "Int8Codes",
    "fp16": "IndexScalarQuantizer",
}


class QuantisedItems:
    """Candidates by the largest inner products of rounded vectors."""

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        faiss.cvar.distance_compute_blas_threshold = ONE_BY_ONE
        self.settings = settings
        self._index = index
        self._everywhere = self._options(None)

    @classmethod
    def read(cls, path: Path, settings: IndexSettings, items: int, width: int) -> "QuantisedItems":
        """Memory-mapped where its kind can be, so that processes share it; raises `BundleRefused`.

        width: H, numbers of an item vector without its bias.
        """
        try:
            if settings.kind == "int8":
                index = Int8Codes.read(path)
            else:
                index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as broken:
            raise BundleRefused(
                f"{path} is not a readable index. Export the bundle anew."
            ) from broken
        expected = CLASSES[settings.kind]
        found = type(index).__name__, int(index.ntotal), int(index.d)
        if found != (expected, items, width_in_index(width)):
            raise BundleRefused(
                f"{path} holds {found[0]} of {found[1]:,} vectors of {found[2]} numbers; this "
                f"bundle needs {expected} of {items:,} of {width_in_index(width)}. Export the "
                "bundle anew."
            )
        return cls(index, settings)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def reach(self) -> int:
        return len(self)

    def candidates(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        wanted: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(1)  # of this thread's: more only fight over cores
        vectors = with_bias(queries, self.settings.bias_unit)
        options = self._everywhere if allowed is None else self._options(allowed)
        most = min(wanted * MORE[self.settings.kind], len(self))
        best: NDArray[np.int64] = self._index.search(vectors, most, params=options)[1]
        best[best >= len(self)] = -1  # a file may name what there is not
        return best

    def _options(self, allowed: NDArray[np.bool_] | None) -> Any:
        kind, chosen = self.settings.kind, {}
        if kind == "int8":
            return allowed
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if kind == "fp16":
            return faiss.SearchParameters(**chosen)
        cells = min(max(self.settings.probes, 1), self._index.nlist)
        return faiss.SearchParametersIVF(nprobe=cells, **chosen)

    def looking_at(self, probes: int) -> "QuantisedItems":
        settings = IndexSettings(self.settings.kind, self.settings.bias_unit, probes)
        return QuantisedItems(self._index, settings)

    def write(self, path: Path) -> None:
        if isinstance(self._index, Int8Codes):
            self._index.write(path)
        else:
            faiss.write_index(self._index, str(path))
