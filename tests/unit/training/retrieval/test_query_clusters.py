"""Query vectors that give nearly the same scores are in one cluster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.retrieval.query_clusters import (
    QueryClusters,
    QuerySpace,
    centroids_of,
    cluster_count,
    nearest,
)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 12))
def test_blocks_hold_every_item_once_with_its_cluster(labels: list[int], at_once: int) -> None:
    clusters = QueryClusters.of(np.array(labels))
    members = [
        block.items[block.offsets[at] : block.offsets[at + 1]].tolist()
        for block in clusters.blocks(at_once)
        for at in range(len(block))
    ]

    assert len(members) == len(set(labels)), "a cluster without members is left out"
    assert members == [
        [item for item, its in enumerate(labels) if its == label] for label in sorted(set(labels))
    ]


@pytest.mark.parametrize(
    ("items", "clusters"),
    [(1, 1), (77, 1), (78, 2), (10_000, 256), (2_000_000, 8192), (10_000_000, 16384)],
)
def test_the_number_of_clusters_grows_with_the_root_of_the_items(items: int, clusters: int) -> None:
    """The largest power of two up to 8 √items, where each cluster has 39 items to learn from."""
    assert cluster_count(items) == clusters


def test_distances_are_differences_of_scores() -> None:
    """Item vectors that differ in one direction only: no other direction counts."""
    vectors = np.array([[1.0, 5.0], [-1.0, 5.0]], dtype=np.float32)
    space = QuerySpace.of(vectors)

    near, same, far = space.points(np.array([[1, 0], [1, 9], [4, 0]], dtype=np.float32))

    assert np.linalg.norm(near - same) == pytest.approx(0.0, abs=1e-5)
    assert np.linalg.norm(near - far) == pytest.approx(3.0, abs=1e-5)  # 3 times a deviation of 1


def test_points_around_two_places_are_in_two_clusters() -> None:
    random = np.random.default_rng(1)
    places = np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0)
    points = (places + random.normal(0, 0.1, places.shape)).astype(np.float32)

    labels = nearest(points, centroids_of(points, 2, threads=1), threads=1)

    assert len(set(labels[:50].tolist())) == len(set(labels[50:].tolist())) == 1
    assert labels[0] != labels[-1]
