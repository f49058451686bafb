import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sessions import sessionise
from data.statistics import describe
from tests.support.training.builders import log_of, words


def test_lengths_are_counted_by_hand() -> None:
    found = describe(words("ab", "abc", "ab", "abcdefgh"))

    shares = {part.name: part.share for part in found.lengths if part.share}
    assert shares == {"2": 2 / 4, "3": 1 / 4, "7–10": 1 / 4}
    assert (found.sessions, found.clicks, found.items) == (4, 15, 8)
    assert found.length_mean == 15 / 4
    assert found.length_quantiles == {"median": 2, "90 %": 8, "99 %": 8, "longest": 8}


def test_popularity_is_the_share_of_the_most_clicked_items() -> None:
    """A 4 times, b 3 times, c and d once: of 4 items, half are a and b, with 7 of 9 clicks."""
    found = describe(words("aab", "ab", "acbd"))

    assert found.top_items == pytest.approx({0.01: 4 / 9, 0.1: 4 / 9, 0.5: 7 / 9})
    assert list(found.popularity) == [(1, 4), (2, 3), (3, 1), (4, 1)]


def test_the_span_runs_from_the_first_to_the_last_click_in_utc() -> None:
    rows = [("s", "a", 0), ("t", "b", 5), ("t", "a", 90_061), ("s", "b", 7)]

    found = describe(sessionise(log_of(rows), None))

    assert (found.begins, found.ends) == ("1970-01-01 00:00:00", "1970-01-02 01:01:01")


def test_the_popularity_curve_of_many_items_has_few_points() -> None:
    found = describe(sessionise(log_of([("s", str(n), n) for n in range(900)]), None))

    ranks = [rank for rank, _ in found.popularity]
    assert ranks[0] == 1
    assert ranks[-1] == 900
    assert len(ranks) <= 60


@given(st.lists(st.integers(2, 12), min_size=1, max_size=60))
def test_quantiles_of_lengths_are_those_of_numpy(lengths: list[int]) -> None:
    found = describe(words(*("a" * length for length in lengths)))

    expected = np.quantile(lengths, [0.5, 0.9, 0.99, 1.0], method="inverted_cdf")
    assert list(found.length_quantiles.values()) == expected.tolist()
    assert found.length_mean == np.mean(lengths)
