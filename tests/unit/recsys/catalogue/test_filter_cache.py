"""Recent filters keep their items within a number of bytes, whatever is made of them later."""

import weakref

import numpy as np
import torch

from recsys.allowed_items import INDEX_BYTES, SET_BYTES, AllowedItems
from recsys.catalogue.filter_cache import LEFT_SHARE, MOST_NEW, FilterCache, FilterKey
from recsys.retrieval.item_scan import ItemScan

ITEMS, COUNT = 4_000, 100
FEW = 1  # so that bytes alone bound the number of sets
OF_FEW = SET_BYTES + INDEX_BYTES * COUNT


def key_of(number: int) -> FilterKey:
    return frozenset({("brand", frozenset({str(number)}))})


def some_items(key: FilterKey) -> AllowedItems:
    return AllowedItems.of_indices(np.arange(COUNT, dtype=np.int32), ITEMS)


def test_equal_filters_share_a_set_and_the_oldest_one_goes() -> None:
    cache = FilterCache(some_items, FEW, most_bytes=16 * OF_FEW)
    first = cache(key_of(0))
    for number in range(1, 16):
        cache(key_of(number))
    assert cache(key_of(0)) is first
    second = cache(key_of(1))

    cache(key_of(16))

    assert len(cache) == int(16 * LEFT_SHARE)
    assert cache(key_of(0)) is first
    assert cache(key_of(1)) is second
    assert len(cache) == int(16 * LEFT_SHARE)


def test_sets_that_grow_are_counted_again_after_a_few_new_ones() -> None:
    """A mask, its indices in it and what two sets share are all kept with a set."""
    cache = FilterCache(some_items, FEW, most_bytes=20 * OF_FEW)
    many = AllowedItems.of_mask(np.ones(ITEMS, dtype=bool))
    grown = cache(key_of(0))
    assert grown.bytes == OF_FEW
    grown.mask.any()
    assert (many & grown).bytes == OF_FEW
    many.indices.any()
    assert grown.bytes == OF_FEW + ITEMS
    assert many.bytes == SET_BYTES + ITEMS + OF_FEW + INDEX_BYTES * ITEMS
    assert grown.first(3_000).count == COUNT
    assert grown.bytes == OF_FEW + ITEMS + OF_FEW

    grown.add_bytes(20 * OF_FEW)
    for number in range(1, MOST_NEW + 1):
        cache(key_of(number))

    assert cache(key_of(0)) is not grown


def test_one_set_beyond_the_bound_is_kept_until_the_next() -> None:
    cache = FilterCache(some_items, FEW, most_bytes=OF_FEW - 1)

    assert cache(key_of(0)) is cache(key_of(0))
    cache(key_of(1))
    assert len(cache) == 1


def test_filters_of_all_brands_stay_within_the_bytes_that_their_lists_need() -> None:
    """The runs of a scan count and are gone with their set: 60 brands, read in runs of 64 codes."""
    brands, most_bytes = np.arange(60, dtype=np.int32), 30_000

    def of_brand(key: FilterKey) -> AllowedItems:
        ((_, names),) = key
        assert isinstance(names, frozenset)
        (name,) = names
        return AllowedItems.of_indices(np.arange(int(name), ITEMS, 60, dtype=np.int32), ITEMS)

    cache = FilterCache(of_brand, FEW, most_bytes)
    matrix = torch.randn(ITEMS, 8, generator=torch.Generator().manual_seed(1))
    scan = ItemScan(matrix, torch.zeros(ITEMS), lambda: np.arange(ITEMS, dtype=np.int32))
    made = []
    for brand in brands.tolist():
        allowed = cache(key_of(brand))
        scan.best(np.ones((1, 8), np.float32), [5], [allowed])
        made.append(weakref.ref(allowed))

    assert cache.bytes <= most_bytes + MOST_NEW * allowed.bytes
    assert sum(one() is not None for one in made) == len(cache) < len(brands)


def test_there_are_no_more_sets_than_masks_of_all_items_would_fit() -> None:
    cache = FilterCache(some_items, ITEMS, most_bytes=5 * ITEMS)
    for number in range(9):
        cache(key_of(number))

    assert len(cache) == 5
