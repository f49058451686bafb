"""A set of allowed items answers alike, stored as indices or as a mask."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.catalogue.postings import Postings

ITEMS = 40
sets = st.sets(st.integers(0, ITEMS - 1))


def of_mask(items: set[int]) -> AllowedItems:
    return AllowedItems.of_mask(np.isin(np.arange(ITEMS), sorted(items)))


def of_indices(items: set[int]) -> AllowedItems:
    return AllowedItems.of_indices(np.array(sorted(items, reverse=True), np.int32), ITEMS)


@pytest.mark.parametrize("made", [of_mask, of_indices])
@given(items=sets, others=sets)
def test_it_is_a_set(
    made: Callable[[set[int]], AllowedItems], items: set[int], others: set[int]
) -> None:
    allowed, both = made(items), made(items) & of_mask(others)

    assert allowed.indices.tolist() == sorted(items)
    assert allowed.mask.tolist() == [item in items for item in range(ITEMS)]
    assert allowed.holds(np.arange(ITEMS).reshape(2, -1)).ravel().tolist() == allowed.mask.tolist()
    assert (allowed.count, allowed.share) == (len(items), len(items) / ITEMS)
    assert both.indices.tolist() == sorted(items & others)


def test_what_two_sets_share_is_kept_while_both_are_in_use() -> None:
    stock, filtered = of_mask(set(range(30))), of_indices({3, 35})
    both = stock & filtered

    assert filtered & stock is both
    del filtered
    assert len(stock._shared) == 0


def test_requests_cannot_change_a_shared_set() -> None:
    for array in (of_mask({1}).mask, of_mask({1}).indices, of_indices(set(range(30))).mask):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_postings_hold_the_items_of_each_key(keys: list[int], first: int, end: int) -> None:
    codes: NDArray[np.int8] = np.array(keys, np.int8)
    postings = Postings.of(codes, 5)

    between = postings.between(first, max(first, end)).indices.tolist()

    assert between == [item for item, key in enumerate(keys) if first <= key < end]
    assert postings.of_keys([0, 3]).indices.tolist() == np.flatnonzero(codes % 3 == 0).tolist()
    assert postings.of_keys([]).count == 0
