"""Clusters of clicked items whose query vectors give nearly the same scores.

The query vectors of a cluster share a shortlist of items, as followers share the shortlist of their
leader in cluster pruning (Chierichetti et al., PODS 2007). Distances count each direction by its
effect on the scores: two query vectors are near each other if the items' scores differ little.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS_PER_CLUSTER = 39  # that k-means uses; it warns below this number
CLUSTERS = 8  # for each square root of the number of items
ROUNDS = 6  # of k-means
SAMPLED_VECTORS = 50_000  # whose second moment weights the directions
VECTORS_AT_ONCE = 4096


@dataclass(frozen=True)
class QueryClusters:
    """Items, cluster after cluster."""

    items: NDArray[np.int64]  # (N,) item indices
    offsets: NDArray[np.int64]  # (clusters + 1,) places of each cluster's first item; none is empty

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, labels: NDArray[np.int64]) -> "QueryClusters":
        """Return the clusters of items whose labels are given, (N,) int64."""
        sizes = np.bincount(labels)
        offsets = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
        return cls(np.argsort(labels, kind="stable"), offsets)

    def blocks(self, clusters: int) -> Iterator["QueryClusters"]:
        """Yield the clusters, so many at a time."""
        for first in range(0, len(self), clusters):
            offsets = self.offsets[first : first + clusters + 1]
            yield QueryClusters(self.items[offsets[0] : offsets[-1]], offsets - offsets[0])


def cluster_count(items: int) -> int:
    """Return `CLUSTERS` times the square root of the number of items, as a power of two.

    Making the clusters then costs less than scoring their shortlists.
    """
    most = max(items // POINTS_PER_CLUSTER, 1)
    return 1 << math.floor(math.log2(min(CLUSTERS * math.sqrt(items), most)))


class QuerySpace:
    """Distance between query vectors: how much the scores of the items differ."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        """Take the weights of the directions: (width, width) float32."""
        self.weights = weights

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "QuerySpace":
        """Take the second moment of item vectors, (C, width) float32, with their bias."""
        wide = vectors - vectors.mean(axis=0)
        variances, directions = np.linalg.eigh(wide.T @ wide / len(wide))
        return cls(directions * np.sqrt(np.maximum(variances, 0.0)))

    def points(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points, (B, width) float32, whose distance is that of the query vectors."""
        points: NDArray[np.float32] = queries @ self.weights
        return points


def centroids_of(points: NDArray[np.float32], clusters: int, threads: int) -> NDArray[np.float32]:
    """Return the centroids of k-means, (clusters, width) float32."""
    import faiss  # only large catalogues need it

    faiss.omp_set_num_threads(threads)
    means = faiss.Kmeans(
        points.shape[1], clusters, niter=ROUNDS, seed=1, max_points_per_centroid=POINTS_PER_CLUSTER
    )
    means.train(points)
    centroids: NDArray[np.float32] = means.centroids
    return centroids


def nearest(
    points: NDArray[np.float32], centroids: NDArray[np.float32], threads: int
) -> NDArray[np.int64]:
    """Return the number of the nearest centroid of each point, (B,) int64."""
    import faiss

    faiss.omp_set_num_threads(threads)
    numbers: NDArray[np.int64] = faiss.knn(points, centroids, 1)[1][:, 0]
    return numbers
