"""Recipes are compared on whole sessions from one end of a log."""

import pytest

from tests.benchmarks.compare_recipes import part_of
from tests.support.training.builders import texts, words


@pytest.mark.parametrize(
    ("take", "clicks", "left"),
    [
        ("first", 5, ["ab", "cde"]),
        ("first", 4, ["ab"]),
        ("last", 5, ["cde", "fg"]),
        ("last", 3, ["cde", "fg"]),
        ("last", 2, ["fg"]),
        ("last", 100, ["ab", "cde", "fg"]),
    ],
)
def test_a_part_has_whole_sessions_that_have_a_next_click(
    take: str, clicks: int, left: list[str]
) -> None:
    assert texts(part_of(words("ab", "x", "cde", "fg"), take, clicks)) == left
