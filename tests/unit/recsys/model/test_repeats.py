"""Repeat term: each number of the formula, on windows with arithmetic answers."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.model.repeats import RepeatTerm

WINDOW = [4, 7, 4, 9, 4, 7]  # newest first: 7 (2 clicks), 4 (3), 9 (1); 6 clicks on 3 items


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last", {7: 1.0, 4: 0.0, 9: 0.0}),
        ("earlier", {7: 0.0, 4: 1.0, 9: 1.0}),
        ("recency", {7: 0.0, 4: 0.0, 9: math.log(2)}),
        ("clicks", {7: math.log(2), 4: math.log(3), 9: 0.0}),
        ("last_length", {7: math.log(6), 4: 0.0, 9: 0.0}),
        ("earlier_length", {7: 0.0, 4: math.log(6), 9: math.log(6)}),
        ("last_repetition", {7: math.log(2), 4: 0.0, 9: 0.0}),
        ("earlier_repetition", {7: 0.0, 4: math.log(2), 9: math.log(2)}),
    ],
)
def test_each_number_is_multiplied_with_its_part_of_the_formula(
    name: str, expected: dict[int, float]
) -> None:
    bonuses = RepeatTerm(**{name: 1.0}).bonuses(WINDOW)

    assert list(bonuses) == [7, 4, 9]
    assert bonuses == pytest.approx(expected)


@given(
    st.lists(st.integers(0, 5), max_size=12),
    st.lists(st.floats(-9, 9), min_size=8, max_size=8),
    st.floats(-3, 3),
)
def test_a_bonus_is_linear_in_its_numbers(
    window: list[int], numbers: list[float], factor: float
) -> None:
    """The training relies on it: it computes features as the bonuses of unit numbers."""
    names = [field.name for field in dataclasses.fields(RepeatTerm)][1:]
    one = RepeatTerm(**dict(zip(names, numbers, strict=True)))
    scaled = RepeatTerm(**{name: factor * n for name, n in zip(names, numbers, strict=True)})

    expected = {item: factor * bonus for item, bonus in one.bonuses(window).items()}
    assert scaled.bonuses(window) == pytest.approx(expected, abs=1e-9)


def test_scores_of_all_items_get_the_bonuses_of_their_row() -> None:
    scores = torch.zeros(3, 5)

    RepeatTerm(last=2.0, earlier=-1.0).add_to(scores, [[0, 3], [], [4, 4]])

    assert scores.tolist() == [[-1.0, 0, 0, 2.0, 0], [0] * 5, [0, 0, 0, 0, 2.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"last": float("nan")},
            "last must be a decimal number from -10000 to 10000, got nan",
        ),
        ({"clicks": 1e9}, "repeats.clicks must be a decimal number"),
        ({"earlier": 1}, "repeats.earlier must be a decimal number from -10000 to 10000, got 1"),
        ({"temperature": 0.0}, "repeats.temperature must be above 0, got 0.0"),
    ],
)
def test_numbers_outside_their_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RepeatTerm(**change)
