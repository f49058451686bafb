"""An id map finds what a dict finds, for any number of hash collisions."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.id_map import IdMap
from recsys.catalogue.string_array import StringArray

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
HASHES: dict[str, Callable[[str], int]] = {
    "python": hash,
    "all the same": lambda text: 7,
    "by length": len,
    "below zero": lambda text: -1 - len(text),
}


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
