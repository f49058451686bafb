"""Recent popularity: the term of an item and the order of the items, by arithmetic."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings

NEWEST = np.array([3, 0, 7, 3, 0])


def test_the_term_grows_with_the_logarithm_of_the_newest_clicks() -> None:
    recent = RecentPopularity(NEWEST, RecentPopularitySettings(2.0, 13))

    expected = [2 * math.log(clicks + 0.5) for clicks in NEWEST.tolist()]
    assert recent.term.tolist() == pytest.approx(expected)


def test_a_strength_of_0_leaves_every_score_as_it_is() -> None:
    assert not RecentPopularity(NEWEST, RecentPopularitySettings(0.0, 13)).term.any()


def test_items_stand_by_their_newest_clicks_and_then_as_before() -> None:
    recent = RecentPopularity(NEWEST, RecentPopularitySettings(0.0, 13))

    order = recent.order(np.array([4, 3, 2, 1, 0], dtype=np.int32))

    assert order.tolist() == [2, 3, 0, 4, 1]


@pytest.mark.parametrize(
    ("strength", "clicks"),
    [(-0.1, 5), (math.nan, 5), (math.inf, 5), (1, 5), ("1", 5), (0.5, 0), (0.5, 5.0), (0.5, True)],
)
def test_a_manifest_with_other_numbers_is_refused(strength: object, clicks: object) -> None:
    with pytest.raises(ValueError, match=r"recent_popularity\.(strength|clicks) must be"):
        RecentPopularitySettings(strength, clicks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("clicks", "half_life"), [(5, 60), (None, 0), (None, 60.0), (None, 1 << 40)]
)
def test_a_manifest_with_another_half_life_is_refused(clicks: object, half_life: object) -> None:
    with pytest.raises(ValueError, match=r"recent_popularity\.half_life_seconds must be"):
        RecentPopularitySettings(0.5, clicks, half_life)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.randoms())
def test_the_order_is_that_of_sorting_all_items(clicks: list[int], random: Random) -> None:
    before = list(range(len(clicks)))
    random.shuffle(before)
    recent = RecentPopularity(np.array(clicks), RecentPopularitySettings(0.0, 13))

    order = recent.order(np.array(before, dtype=np.int32))

    assert order.tolist() == sorted(before, key=lambda item: -clicks[item])
