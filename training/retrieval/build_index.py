"""Build an index of rounded item vectors (kinds: `recsys/retrieval/candidates.py`).

Cells are made by distance and looked up by inner product, because cells made by inner product
gather around the few longest vectors.
"""

import math
import os
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.retrieval.candidates import IndexSettings, with_bias
from recsys.retrieval.int8 import Int8Codes
from recsys.retrieval.quantised import QuantisedItems

NUMBERS_PER_CODE = 2  # of a vector, in the 4 bits of pq4 and ivf
LEARNED_FROM = 100_000  # vectors, for the 16 words of each code
POINTS_PER_CELL = 64  # that k-means looks at
LEAST_PER_CELL = 39  # items, which k-means wants to see
ROUNDS = 8  # of k-means


def build_index(matrix: Tensor, bias: Tensor, kind: str, bias_unit: float) -> QuantisedItems:
    """matrix: (N, H) float32, bias: (N,); bias_unit: about as long as queries are.

    All cores work.
    """
    vectors = with_bias(matrix.numpy(), bias.numpy() / bias_unit)
    settings = IndexSettings(kind, bias_unit, probes=int(kind == "ivf"))
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    if kind == "fp16":
        return QuantisedItems(_scan(vectors), settings)
    if kind == "int8":
        return QuantisedItems(Int8Codes.of(vectors), settings)
    return QuantisedItems(
        _cells(vectors, cells_for(len(vectors)) if kind == "ivf" else 1), settings
    )


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


def _cells(vectors: NDArray[np.float32], cells: int) -> Any:
    width = vectors.shape[1]
    means = faiss.Kmeans(
        width, cells, niter=ROUNDS, seed=1, max_points_per_centroid=POINTS_PER_CELL
    )
    means.train(vectors)
    near, along = faiss.IndexFlatL2(width), faiss.IndexFlatIP(width)
    near.add(means.centroids)
    along.add(means.centroids)
    index = faiss.IndexIVFPQFastScan(
        near, width, cells, width // NUMBERS_PER_CODE, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    some = np.linspace(0, len(vectors) - 1, min(len(vectors), LEARNED_FROM), dtype=np.int64)
    index.train(vectors[some])
    index.add(vectors)  # into the nearest cells
    along.this.disown()
    index.quantizer = along  # looked up by inner product from now on
    return index
