"""An attribute behaves like the sequence of strings it is made of."""

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.attributes import CategoricalAttribute, Range

WORDS = ("tea", "", "Käse", "茶", "tea", "\N{TEACUP WITHOUT HANDLE}")
anything = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.none() | st.sampled_from(WORDS)))
def test_an_attribute_returns_its_strings(texts: list[str | None]) -> None:
    found = CategoricalAttribute.of(texts)

    assert list(found) == texts
    assert [found[at] for at in range(-len(found), 0)] == texts
    assert found[1:] == texts[1:]
    assert found.array.to_pylist() == texts


@given(st.lists(st.none() | anything, max_size=8), st.lists(anything, max_size=3))
def test_is_in_is_true_where_a_string_is_wanted(texts: list[str | None], others: list[str]) -> None:
    wanted = [*others, *(text for text in texts[::3] if text is not None)]

    assert CategoricalAttribute.of(texts).items_in(wanted).mask.tolist() == [
        t in wanted for t in texts
    ]


@pytest.mark.parametrize("distinct", [3, 200, 40_000])
def test_attributes_of_few_and_of_many_values_are_equal_to_their_strings(distinct: int) -> None:
    texts = [str(number % distinct) for number in range(100_000)]

    found = CategoricalAttribute.of(texts).items_in(["2", "199", "39999"])

    assert found.mask.tolist() == [text in ("2", "199", "39999") for text in texts]


def test_half_a_surrogate_pair_equals_no_text() -> None:
    found = CategoricalAttribute.of(["tea", None]).items_in(["\ud800", "tea"])

    assert found.mask.tolist() == [True, False]


@pytest.mark.parametrize("size", [3, 7])
def test_the_most_frequent_strings_come_with_their_frequencies(size: int) -> None:
    few = CategoricalAttribute.of(["tea", None, "cup", "tea", "tea", "cup", "pot"])
    # most differ: each is kept
    many = CategoricalAttribute.of(["tea", None, "", "pot", "tea"][:size])

    assert few.most_frequent(2) == (3, [("tea", 3), ("cup", 2)])
    assert many.most_frequent(9) == (
        (2, [("tea", 1), ("", 1)]) if size == 3 else (3, [("tea", 2), ("", 1), ("pot", 1)])
    )


def test_a_missing_text_passes_no_test() -> None:
    found = CategoricalAttribute.of(["tea", None, "pot"]).matches(
        lambda texts: pc.not_equal(texts, "pot")
    )

    assert found.tolist() == [True, False, False]


@given(
    st.lists(st.none() | anything, max_size=8),
    st.dictionaries(anything, st.floats(-9, 9), max_size=3),
)
def test_weights_are_those_of_the_strings(
    texts: list[str | None], weight_of: dict[str, float]
) -> None:
    texts = [*texts, *weight_of]

    weights = CategoricalAttribute.of(texts).weights(weight_of, np.arange(len(texts)))

    assert weights.tolist() == [0.0 if t is None else weight_of.get(t, 0.0) for t in texts]


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_within_bounds_the_numbers_of_the_strings_count(numbers: list[float | None]) -> None:
    attribute = CategoricalAttribute.of([None if n is None else repr(n) for n in numbers])

    within = attribute.items_within(Range(gt=-1.0, lte=1e9))

    assert within.mask.tolist() == [n is not None and -1 < n <= 1e9 for n in numbers]
