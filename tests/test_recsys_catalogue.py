from pathlib import Path

import numpy as np
import pytest

from recsys.catalogue import Catalogue, read_catalogue
from recsys.errors import BundleRefused, UnknownAttribute, UnknownItem

SHELF = Catalogue(
    item_ids=("tea", "pot", "cup", "007"),
    counts=np.array([5, 9, 5, 1]),
    attributes={"colour": ["green", "red", None, "red"], "kind": ["drink", "ware", "ware", "spy"]},
)


def test_most_clicked_come_first_and_equal_counts_stand_by_index() -> None:
    order = np.argsort(-SHELF.popularity)

    assert [SHELF.item_ids[item] for item in order] == ["pot", "tea", "cup", "007"]
    assert len(set(SHELF.popularity.tolist())) == len(SHELF)


def test_a_filter_is_or_within_an_attribute_and_and_across() -> None:
    assert SHELF.allowed({"colour": ["red", "green"]}).tolist() == [True, True, False, True]
    assert SHELF.allowed({"colour": ["red"], "kind": ["ware"]}).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_a_value_no_item_has_allows_nothing() -> None:
    assert not SHELF.allowed({"colour": ["mauve"]}).any()


def test_an_item_without_a_value_matches_no_filter() -> None:
    assert not SHELF.allowed({"colour": ["red", "green", ""]})[2]


def test_an_unknown_attribute_is_named_beside_the_known_ones() -> None:
    with pytest.raises(UnknownAttribute, match=r"'size' is not an attribute.*colour, kind"):
        SHELF.allowed({"size": ["L"]})


def test_an_unknown_item_is_named_with_the_catalogue_size() -> None:
    with pytest.raises(UnknownItem, match="'mate' is not in the catalogue of 4 items"):
        SHELF.index("mate")


def test_write_and_read_change_nothing(tmp_path: Path) -> None:
    SHELF.write(tmp_path / "items.parquet")

    again = read_catalogue(tmp_path / "items.parquet")

    assert again.item_ids == SHELF.item_ids
    assert again.counts.tolist() == SHELF.counts.tolist()
    assert {k: list(v) for k, v in again.attributes.items()} == dict(SHELF.attributes)


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(BundleRefused, match="no items"):
        Catalogue((), np.array([], dtype=np.int64))


def test_a_doubled_id_is_refused() -> None:
    with pytest.raises(BundleRefused, match="twice"):
        Catalogue(("a", "a"), np.array([1, 1]))
