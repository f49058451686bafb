"""Search finds items by their words, without case, the most clicked first."""

import numpy as np
import pytest

from recsys.catalogue.catalogue import Catalogue
from recsys.catalogue.search import MAX_WORDS, search
from recsys.errors import UnknownAttribute

HOSTILE = "<img src=x onerror=alert(1)>"
CATALOGUE = Catalogue(
    item_ids=("tea", "teapot", "cup", "007", HOSTILE, "50%.*"),
    counts=np.array([5, 9, 5, 1, 2, 1]),
    attributes={
        "name": ["Green tea", "Red pot", None, "Bond's KÄSE", "x", "Tea towel"],
        "kind": ["drink", "ware", "ware", "spy", "ware", "ware"],
    },
)


def found(text: str, **wanted: list[str]) -> list[str]:
    return CATALOGUE.item_ids.take(search(CATALOGUE, text, wanted, offset=0, limit=10).items)


def test_without_words_everything_is_found_the_most_clicked_first() -> None:
    assert found("") == found("  ") == ["teapot", "tea", "cup", HOSTILE, "007", "50%.*"]


def test_words_are_found_in_ids_and_attributes_whatever_their_case() -> None:
    assert found("TEA") == ["teapot", "tea", "50%.*"]
    assert found("käse") == ["007"]
    assert found("spy") == ["007"]
    assert found("mate") == []


def test_every_word_must_match_in_any_field() -> None:
    assert found("ware pot") == ["teapot"]
    assert found("tea drink") == ["tea"]
    assert found("tea " * (MAX_WORDS + 1)) == found("tea tea")


def test_an_item_whose_id_is_typed_comes_first() -> None:
    assert found("tea")[0] == "tea"  # although the teapot is clicked more often
    assert found("tea", kind=["ware"]) == ["teapot", "50%.*"]


def test_a_picture_has_no_words() -> None:
    catalogue = Catalogue(
        item_ids=("pan", "pot"),
        counts=np.array([2, 1]),
        attributes={"image": ["data:image/svg+xml,path", None], "name": [None, "path"]},
    )

    assert search(catalogue, "path", {}, offset=0, limit=10).items == [1]


def test_special_characters_match_literally() -> None:
    assert found(HOSTILE) == [HOSTILE]
    assert found(".*") == found("%") == ["50%.*"]
    assert found("\x00") == found("[") == found("\\") == []


def test_pages_are_consecutive_and_report_the_total() -> None:
    pages = [search(CATALOGUE, "", {"kind": ["ware"]}, offset=at, limit=3) for at in (0, 3, 6)]

    assert [page.total for page in pages] == [4, 4, 4]
    assert [len(page.items) for page in pages] == [3, 1, 0]
    ids = [item for page in pages for item in page.items]
    assert CATALOGUE.item_ids.take(ids) == ["teapot", "cup", HOSTILE, "50%.*"]


def test_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(UnknownAttribute, match="They have: kind, name"):
        search(CATALOGUE, "", {"colour": ["red"]}, offset=0, limit=1)
