"""Counts that go on: earlier clicks only, decayed to the time of the case, by arithmetic."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.sessions import Sessions, reindex, sessionise
from recsys.catalogue.catalogue import Catalogue
from recsys.model.recent_popularity import (
    MOST_COUNTED,
    RecentPopularity,
    RecentPopularitySettings,
    largest_counts,
)
from recsys.ragged import ScoredRaggedArray
from tests.support.bundles.model_kinds import random_weights, recipe_of
from tests.support.training.builders import log_of
from training.evaluation.evaluate import evaluate
from training.evaluation.trending import CountsOverTime, going_on
from training.model.weights import eager_predictor

HOUR = RecentPopularitySettings(0.5, half_life_seconds=3600)
ITEMS = "abcd"
BEGIN = RecentPopularity(np.array([4.0, 0, 0, 0]), HOUR, at_ms=0)
CLICKS = sessionise(
    log_of(
        [
            *(("s", "b", 0), ("s", "a", 3600), ("s", "b", 5400), ("s", "c", 7200)),
            *(("t", "b", 3600), ("t", "x", 3601), ("t", "c", 7200)),
        ]
    ),
    None,
)
KNOWN = reindex(CLICKS, tuple(ITEMS))


def rows(counts: ScoredRaggedArray) -> list[dict[str, float]]:
    return [
        {ITEMS[item]: count for item, count in zip(items, scores, strict=True)}
        for a, b in pairwise(counts.offsets.tolist())
        for items, scores in [(counts.items[a:b].tolist(), counts.scores[a:b].tolist())]
    ]


def test_a_click_counts_half_after_a_half_life_and_once_for_each_session() -> None:
    at = np.array([3600, 3601, 7200, 7201, 10_800]) * 1000

    hours = [0, 1 / 3600, 1, 3601 / 3600, 2]
    expected = [
        {"a": 4 / 2, "b": 1 / 2},  # the clicks at this time are later
        *(
            {
                "a": (4 / 2 + 1) / 2**since,
                "b": (1 / 2 + 1) / 2**since,
                **({"c": 2 / 2 ** (since - 1)} if since > 1 else {}),
            }
            for since in hours[1:]
        ),
    ]
    for have, want in zip(rows(CountsOverTime(BEGIN, KNOWN).at(at)), expected, strict=True):
        assert have == pytest.approx(want)


def test_a_click_from_before_the_beginning_counts_as_one_at_the_beginning() -> None:
    begin = dataclasses.replace(BEGIN, at_ms=7_200_000)

    (counts,) = rows(CountsOverTime(begin, KNOWN).at(np.array([7_200_001])))

    assert counts == pytest.approx({"a": 5, "b": 2, "c": 2}, rel=1e-6)


@given(st.lists(st.lists(st.integers(0, 20_000), min_size=1, max_size=4), max_size=4))
def test_counts_do_not_depend_on_what_was_asked_before(parts: list[list[int]]) -> None:
    counts = CountsOverTime(BEGIN, KNOWN)
    for part in parts:
        times = np.array(part) * 1000

        for have, time in zip(rows(counts.at(times)), times, strict=True):
            (want,) = rows(CountsOverTime(BEGIN, KNOWN).at(time[None]))
            assert have == pytest.approx(want, rel=1e-9)


def test_so_many_counts_count_and_no_small_ones() -> None:
    counts = np.arange(MOST_COUNTED + 5) / 64

    assert largest_counts(counts).tolist() == list(range(5, MOST_COUNTED + 5))
    assert largest_counts(counts[:3]).tolist() == [1, 2]


def predictor_with(counts: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    recipe = recipe_of("gru shared")
    return eager_predictor(
        random_weights(recipe, 4),
        Catalogue(ITEMS, np.array([3, 2, 1, 4])),
        recipe,
        recent=RecentPopularity(counts, HOUR, 0),
    )


def test_each_case_is_ranked_by_a_predictor_with_the_counts_of_its_time() -> None:
    """A predictor with fixed counts of that time is what the service has then."""
    later: Sessions = KNOWN
    begin = np.array([4.0, 0, 0, 0])

    found = evaluate(going_on(predictor_with(begin), later), later, 4).ranked.rank

    counts = CountsOverTime(BEGIN, KNOWN).at(later.request_ms)
    expected = []
    for row in range(len(counts)):
        at_that_time = np.zeros(4)
        entries = slice(counts.offsets[row], counts.offsets[row + 1])
        at_that_time[counts.items[entries]] = counts.scores[entries]
        fixed = evaluate(predictor_with(at_that_time), later, 4)
        expected.append(int(fixed.ranked.rank[row]))
    assert found.tolist() == expected
