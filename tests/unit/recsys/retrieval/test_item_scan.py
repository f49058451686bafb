"""A scan in 8 bits overlooks none of the best items, whatever the vectors are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.retrieval import item_scan
from recsys.retrieval.item_scan import RUN, ItemScan

HIDDEN = 7
ORDER = np.arange(10 * RUN, dtype=np.int32)


def scan_of(matrix: NDArray[np.float32], bias: NDArray[np.float32], seed: int = 0) -> ItemScan:
    """Return a scan of these items in random order."""
    order = np.random.default_rng(seed).permutation(len(matrix)).astype(np.int32)
    return ItemScan(torch.from_numpy(matrix), torch.from_numpy(bias), lambda: order)


def gaussian(random: np.random.Generator, items: int) -> NDArray[np.float32]:
    return random.standard_normal((items, HIDDEN), dtype=np.float32)


def with_outliers(random: np.random.Generator, items: int) -> NDArray[np.float32]:
    """Return vectors of which a few are so long that the others round to almost nothing."""
    vectors = gaussian(random, items)
    vectors[:3] *= 100
    return vectors


def few_values(random: np.random.Generator, items: int) -> NDArray[np.float32]:
    """Return vectors with many equal scores."""
    return random.integers(-1, 2, (items, HIDDEN)).astype(np.float32)


@pytest.mark.parametrize("vectors", [gaussian, with_outliers, few_values])
@pytest.mark.parametrize("at_once", [2 * RUN, item_scan.CODES_AT_ONCE])
@given(
    items=st.integers(1, 5 * RUN),
    share=st.sampled_from([None, 0.0, 0.02, 0.5, 0.95]),
    count=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_the_best_allowed_items_are_among_the_candidates(
    vectors: Callable[[np.random.Generator, int], NDArray[np.float32]],
    at_once: int,
    items: int,
    share: float | None,
    count: int,
    seed: int,
) -> None:
    """Also all items that score as the last of the best."""
    random = np.random.default_rng(seed)
    matrix, bias = vectors(random, items), random.integers(-2, 3, items).astype(np.float32)
    mask = np.ones(items, bool) if share is None else random.random(items) < share
    allowed = None if share is None else AllowedItems.of_mask(mask)
    queries = vectors(random, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_scan, "CODES_AT_ONCE", at_once)
        patch.setattr(item_scan, "SIDE_BY_SIDE", 1 + seed % 2)
        patch.setattr(item_scan, "GROUPS", 16 if seed % 3 else item_scan.GROUPS)
        alike = [allowed, allowed, None]  # the first two are multiplied together
        found = scan_of(matrix, bias, seed).best(queries, [count] * 3, alike)

    every = np.ones(items, bool)
    for query, candidates, may in zip(
        queries.astype(np.float64), found, (mask, mask, every), strict=True
    ):
        assert candidates is not None
        listed = candidates.tolist()
        scores = np.where(may, matrix @ query + bias, -np.inf)
        last = np.sort(scores)[-min(count, items)]
        best = np.flatnonzero(may & (scores >= last))
        assert set(best.tolist()) <= set(listed)
        assert may[listed].all()
        assert len(set(listed)) == len(listed)


def test_few_of_many_items_are_candidates() -> None:
    random = np.random.default_rng(1)
    matrix, bias = gaussian(random, 20_000), np.zeros(20_000, np.float32)

    found = scan_of(matrix, bias).best(gaussian(random, 2), [20, 20], [None, None])

    assert all(items is not None and len(items) < 2_000 for items in found)


def test_a_scan_that_rounding_makes_useless_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_scan, "MAX_CANDIDATES", 99)
    scan = scan_of(np.ones((100, HIDDEN), np.float32), np.zeros(100, np.float32))

    assert scan.best(np.ones((1, HIDDEN), np.float32), [1], [None]) == [None]


def test_a_filter_reads_only_the_runs_of_its_items() -> None:
    """Items that the order makes neighbours stand in few runs."""
    scan = ItemScan(torch.ones((10 * RUN, HIDDEN)), torch.zeros(10 * RUN), lambda: ORDER)

    near = AllowedItems.of_indices(ORDER[3 * RUN : 5 * RUN], len(ORDER))
    apart = AllowedItems.of_indices(ORDER[[0, 5 * RUN, 9 * RUN]], len(ORDER))

    assert scan._runs(near).size == 2 * RUN
    assert scan._runs(apart).size == 3 * RUN


def test_items_side_by_side_are_read_without_a_mask_or_a_copy() -> None:
    scan = ItemScan(torch.ones((10 * RUN, HIDDEN)), torch.zeros(10 * RUN), lambda: ORDER)
    near = AllowedItems.of_indices(ORDER[RUN + 7 : 5 * RUN + 9], len(ORDER))

    runs = scan._runs(near)

    assert runs.size == 4 * RUN + 2
    assert not runs.copied
    assert runs.barred is None


def test_a_scan_is_short_once_the_codes_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_scan, "SHORT_SCAN", 2 * RUN)
    scan = ItemScan(torch.ones((10 * RUN, HIDDEN)), torch.zeros(10 * RUN), lambda: ORDER)
    near = AllowedItems.of_indices(ORDER[3 * RUN : 5 * RUN], len(ORDER))
    apart = AllowedItems.of_indices(ORDER[:: 4 * RUN], len(ORDER))
    before = scan.is_short(near)

    scan.best(np.ones((1, HIDDEN), np.float32), [1], [near])

    assert [before, scan.is_short(near), scan.is_short(apart)] == [False, True, False]
