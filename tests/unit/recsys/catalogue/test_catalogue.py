import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.catalogue import attributes
from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import Catalogue, read_catalogue
from recsys.errors import BundleRefused, TextAttribute, UnknownAttribute, UnknownItem

CATALOGUE = Catalogue(
    item_ids=("tea", "pot", "cup", "007"),
    counts=np.array([5, 9, 5, 1]),
    attributes={"colour": ["green", "red", None, "red"], "kind": ["drink", "ware", "ware", "spy"]},
)

NO_TEXT = pa.array([b"x", b"\xff"]).view(pa.string())


def test_most_clicked_come_first_and_equal_counts_stand_by_index() -> None:
    order = np.argsort(-CATALOGUE.popularity)

    assert [CATALOGUE.item_ids[item] for item in order] == ["pot", "tea", "cup", "007"]
    assert len(set(CATALOGUE.popularity.tolist())) == len(CATALOGUE)


def test_a_filter_is_or_within_an_attribute_and_and_across() -> None:
    assert CATALOGUE.allowed({"colour": ["red", "green"]}).mask.tolist() == [
        True,
        True,
        False,
        True,
    ]
    assert CATALOGUE.allowed({"colour": ["red"], "kind": ["ware"]}).mask.tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_a_value_no_item_has_allows_nothing() -> None:
    assert not CATALOGUE.allowed({"colour": ["mauve"]}).count


def test_an_item_without_a_value_matches_no_filter() -> None:
    assert not CATALOGUE.allowed({"colour": ["red", "green", ""]}).mask[2]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Range(lt=10), [False, False, True, False]),
        (Range(lte=10), [True, False, True, True]),
        (Range(gt=-1.5), [True, False, False, True]),
        (Range(gte=-1.5, lt=10), [False, False, True, False]),
        (Range(gt=10, lt=-1.5), [False] * 4),
    ],
)
def test_a_range_compares_the_numbers_of_a_bundle(
    tmp_path: Path, bounds: Range, expected: list[bool]
) -> None:
    """Bundles hold texts, as before; their numbers are computed."""
    prices = ["10", None, "-1.5", "1e1"]
    Catalogue(list("abcd"), np.ones(4, np.int64), {"price": prices}).write(tmp_path / "items")

    catalogue = read_catalogue(tmp_path / "items")

    for _ in range(2):  # the second answer is remembered
        assert catalogue.allowed({"price": bounds}).mask.tolist() == expected
    both = catalogue.allowed({"price": bounds}) & catalogue.allowed({"price": ["10", "1e1"]})
    assert both.mask.tolist() == [
        e and p in ("10", "1e1") for e, p in zip(expected, prices, strict=True)
    ]


@pytest.mark.parametrize("text", ["cheap", "1,5", "", "inf", "nan", "12 EUR"])
def test_one_value_that_is_no_number_makes_an_attribute_text(text: str) -> None:
    catalogue = Catalogue(list("ab"), np.ones(2, np.int64), {"price": ["10", text]})

    with pytest.raises(TextAttribute, match="'price' is text"):
        catalogue.allowed({"price": Range(lt=20)})


def test_an_unknown_attribute_is_named_beside_the_known_ones() -> None:
    with pytest.raises(UnknownAttribute, match=r"'size' is not an attribute.*colour, kind"):
        CATALOGUE.allowed({"size": ["L"]})


def test_an_unknown_item_is_named_with_the_catalogue_size() -> None:
    with pytest.raises(UnknownItem, match="'mate' is not in the catalogue of 4 items"):
        CATALOGUE.index("mate")


def test_write_and_read_change_nothing(tmp_path: Path) -> None:
    CATALOGUE.write(tmp_path / "items.parquet")

    again = read_catalogue(tmp_path / "items.parquet")

    assert list(again.item_ids) == list(CATALOGUE.item_ids)
    assert again.counts.tolist() == CATALOGUE.counts.tolist()
    assert {name: list(texts) for name, texts in again.attributes.items()} == {
        "colour": ["green", "red", None, "red"],
        "kind": ["drink", "ware", "ware", "spy"],
    }


def test_a_file_of_several_row_groups_is_read_whole(tmp_path: Path) -> None:
    table = pa.table({"item_id": list("abcd"), "count": [1, 2, 3, 4], "kind": ["x", "y", "y", "z"]})
    pq.write_table(table, tmp_path / "items.parquet", row_group_size=1)

    found = read_catalogue(tmp_path / "items.parquet")

    assert found.index("c") == 2
    assert found.allowed({"kind": ["y", "z"]}).mask.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"item_id": ["a", None], "count": [1, 1]}, "'item_id' is missing in some rows"),
        ({"item_id": ["a", "b"], "count": [1, None]}, "'count' is missing in some rows"),
        ({"item_id": ["a", "b"], "count": ["much", "1"]}, "not a readable Parquet file"),
        ({"item_id": ["a", "b"], "count": [1, 1], "kind": NO_TEXT}, "[Ii]nvalid UTF-?8"),
        ({"count": [1, 1], "item_id": ["a", "b"]}, "must begin with the columns"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(
    columns: dict[str, list[Any]], fault: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")

    with pytest.raises(BundleRefused, match=fault):
        read_catalogue(tmp_path / "items.parquet")


def test_all_ids_are_found_at_once_as_they_are_one_by_one() -> None:
    assert CATALOGUE.find_all(["cup", "mate", "tea", "cup"]).tolist() == [2, -1, 0, 2]
    assert CATALOGUE.find_all([]).tolist() == []


def test_items_that_a_filter_selects_are_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values count before four numbers; texts with few items each do not count."""
    columns: dict[str, list[str | None]] = {
        "id": [*"abcdef"],
        "price": ["2", "9", "10", "1", "2", None],
        "kind": [*"xyxyyx"],
    }
    monkeypatch.setattr(attributes, "ITEMS_OF_A_VALUE", 3)

    order = Catalogue(list("uvwxyz"), np.ones(6, np.int64), columns).order_by_attributes()

    assert order.tolist() == [5, 0, 2, 3, 4, 1]


def test_equal_filters_share_their_items() -> None:
    allowed = CATALOGUE.allowed({"kind": ["ware"]})

    assert CATALOGUE.allowed({"kind": ["ware", "ware"]}) is allowed


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(BundleRefused, match="no items"):
        Catalogue((), np.array([], dtype=np.int64))


def test_a_duplicate_id_is_refused() -> None:
    with pytest.raises(BundleRefused, match="item id 'a' twice"):
        Catalogue(("a", "a"), np.array([1, 1]))


def test_reading_and_filtering_load_no_pandas(tmp_path: Path) -> None:
    """Pyarrow loads it when asked for numpy arrays: 25 MB, and a third of a second."""
    CATALOGUE.write(tmp_path / "items.parquet")
    script = (
        "import pathlib, sys; from recsys.catalogue.catalogue import read_catalogue;"
        "found = read_catalogue(pathlib.Path(sys.argv[1]));"
        "found.allowed({'colour': ['red']}), found.index('tea'), found.by_popularity;"
        "sys.exit('pandas' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", script, str(tmp_path / "items.parquet")], check=True)


def test_a_long_filter_is_answered_and_not_cached() -> None:
    remembered = len(CATALOGUE._allowed)
    for number in range(50):
        wanted = ["red", *(f"{number} {value}" for value in range(100))]
        assert (
            CATALOGUE.allowed({"colour": wanted}).indices.tolist()
            == CATALOGUE.allowed({"colour": ["red"]}).indices.tolist()
        )
    assert not CATALOGUE.allowed({"colour": ["x" * 10_000]}).count

    assert len(CATALOGUE._allowed) <= remembered + 1
