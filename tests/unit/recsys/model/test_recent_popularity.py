"""Recent popularity: the term of an item and the order of the items, by arithmetic."""

import math

import numpy as np
import pytest

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
