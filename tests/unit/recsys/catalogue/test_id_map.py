"""A string array is a list, and an id map finds what a dict finds, however hashes collide."""

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.id_map import CHUNK, IdMap, StringArray

WORDS = ("tea", "", "Käse", "茶", "tea", "\N{TEACUP WITHOUT HANDLE}")
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
HASHES: dict[str, Callable[[str], int]] = {
    "python": hash,
    "all the same": lambda text: 7,
    "by length": len,
    "below zero": lambda text: -1 - len(text),
}


@given(st.lists(anything))
def test_a_string_array_returns_its_strings(texts: list[str]) -> None:
    found = StringArray.of(texts)

    assert list(found) == texts
    assert [found[at] for at in range(len(found))] == texts
    assert found.take(range(len(found))) == texts
    assert found.array.to_pylist() == texts


def test_texts_are_indexed_like_a_list() -> None:
    found = StringArray.of(WORDS)

    assert (found[-1], found[-6], found[1:3], found[::-2]) == (
        *(WORDS[-1], WORDS[-6]),
        *(list(WORDS[1:3]), list(WORDS[::-2])),
    )
    with pytest.raises(IndexError):
        found[6]
    with pytest.raises(IndexError):
        found[-7]


def test_a_part_of_an_array_is_read_from_its_own_start() -> None:
    assert list(StringArray(pa.array(WORDS)[2:4])) == ["Käse", "茶"]


def test_more_strings_than_one_chunk_are_iterated() -> None:
    texts = [str(number) for number in range(CHUNK + 2)]

    assert list(StringArray.of(texts)) == texts


@pytest.mark.parametrize("name", HASHES)
@given(st.lists(anything, unique=True), st.lists(anything))
def test_it_finds_what_a_dict_finds(name: str, texts: list[str], others: list[str]) -> None:
    places = {text: place for place, text in enumerate(texts)}

    lookup = IdMap(StringArray.of(texts), HASHES[name])

    assert [lookup.find(text) for text in texts] == list(range(len(texts)))
    assert [lookup.find(text) for text in others] == [places.get(text) for text in others]
    assert lookup.duplicate is None


@pytest.mark.parametrize("name", HASHES)
@given(st.lists(anything, min_size=1, unique=True), st.data())
def test_a_string_at_two_positions_is_reported(
    name: str, texts: list[str], data: st.DataObject
) -> None:
    twice = data.draw(st.sampled_from(texts))
    at = data.draw(st.integers(0, len(texts)))

    lookup = IdMap(StringArray.of([*texts[:at], twice, *texts[at:]]), HASHES[name])

    assert lookup.duplicate == twice


def test_half_a_surrogate_pair_is_not_found() -> None:
    assert IdMap(StringArray.of(["tea"])).find("\ud800") is None
