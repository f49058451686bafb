"""Build an index of rounded item vectors (kinds: `recsys/retrieval/candidates.py`).

The cells of `ivf` are made by distance and searched by inner product, because cells made by inner
product gather around the few longest vectors.
"""

import math
import os
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.retrieval.candidates import CandidateIndex, IndexSettings, with_bias
from recsys.retrieval.int8 import Int8Codes, Int8Index
from recsys.retrieval.ivf import IvfIndex

NUMBERS_PER_CODE = 2  # of a vector, in the 4 bits of a code
MAX_TRAINING_VECTORS = 100_000  # for the 16 centroids of each code
POINTS_PER_CELL = 64  # that k-means uses
MIN_ITEMS_PER_CELL = 39  # k-means warns below it
ROUNDS = 8  # of k-means


def build_index(matrix: Tensor, bias: Tensor, kind: str, bias_unit: float) -> CandidateIndex:
    """Build an index of kind `int8` or `ivf`, on all cores.

    Args:
        matrix: (N, H) float32, item vectors.
        bias: (N,) float32.
        kind: `int8` or `ivf`.
        bias_unit: about the length of a query vector; see `IndexSettings`.

    Returns:
        The index, with one probe where its kind has probes.

    Raises:
        ValueError: the kind is another one.
    """
    if kind not in ("int8", "ivf"):
        raise ValueError(f"An index of rounded vectors is int8 or ivf, got {kind!r}.")
    vectors = with_bias(matrix.numpy(), bias.numpy() / bias_unit)
    if kind == "int8":
        return Int8Index(Int8Codes.of(vectors), IndexSettings(kind, bias_unit))
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    cells = _inverted_file(vectors, cell_count(len(vectors)))
    return IvfIndex(cells, IndexSettings(kind, bias_unit, probes=1))


def cell_count(items: int) -> int:
    """Return about twice the square root of the number of items, as a power of two.

    Finding the nearest cells and searching them then cost about the same.
    """
    most = max(items // MIN_ITEMS_PER_CELL, 1)
    return 1 << math.floor(math.log2(min(2 * math.sqrt(items), most)))


def _inverted_file(vectors: NDArray[np.float32], cells: int) -> Any:
    width = vectors.shape[1]
    means = faiss.Kmeans(
        width, cells, niter=ROUNDS, seed=1, max_points_per_centroid=POINTS_PER_CELL
    )
    means.train(vectors)
    by_distance, by_product = faiss.IndexFlatL2(width), faiss.IndexFlatIP(width)
    by_distance.add(means.centroids)
    by_product.add(means.centroids)
    index = faiss.IndexIVFPQFastScan(
        by_distance, width, cells, width // NUMBERS_PER_CODE, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    count = min(len(vectors), MAX_TRAINING_VECTORS)
    index.train(vectors[np.linspace(0, len(vectors) - 1, count, dtype=np.int64)])
    index.add(vectors)  # into the nearest cells
    by_product.this.disown()
    index.quantizer = by_product  # searches use the inner product
    return index
