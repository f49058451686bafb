"""Visits follow the published probabilities, and the ideal recommender knows them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.shop.assortment import BRANDS, DAYS, FIRST_DAY, PRODUCT_NAMES, days_added
from data.shop.tasks import TASKS
from data.shop.visits import COMPARE, GO_ON, VisitModel
from tests.benchmarks.shop_ceiling import IdealRecommender

MODEL = VisitModel()
IDEAL = IdealRecommender(MODEL)
ITEMS = len(PRODUCT_NAMES) * len(BRANDS)


def item(name: str, brand: str = "Aurora") -> int:
    brands = [one.name for one in BRANDS]
    return PRODUCT_NAMES.index(name) * len(BRANDS) + brands.index(brand)


def shares_after(*items: int, day: int = DAYS - 1) -> NDArray[np.float64]:
    """Return the probability of each item after these clicks."""
    *_, last = IDEAL.shares_along(np.array([*items, items[-1]]), day)
    return last


def test_every_product_is_on_the_list_of_a_task() -> None:
    assert {name for names in TASKS.values() for name in names} == set(PRODUCT_NAMES)


def test_no_item_is_clicked_before_its_day_and_some_come_in_the_last_days() -> None:
    clicks, added = MODEL.walk(4000, seed=2), days_added().ravel()
    first_second = int(FIRST_DAY.astype("datetime64[s]").astype(np.int64))
    day = (clicks["timestamp"].to_numpy() - first_second) // 86_400
    since = added[clicks["item"].to_numpy()]

    assert ((day >= since) | (day == DAYS)).all()  # a visit may last until after midnight
    assert (since >= DAYS - 3).any()


def test_most_clicks_compare_a_brand_or_go_on_with_the_task() -> None:
    shares = shares_after(item("Tent"))  # on the list of one task only
    going_on = [
        item(name, brand.name) for name in TASKS["Camping weekend"][1:6] for brand in BRANDS
    ]
    comparing = [item("Tent", brand.name) for brand in BRANDS]

    assert shares[going_on].sum() > GO_ON
    assert COMPARE < shares[comparing].sum() < COMPARE + 0.05


@given(
    clicks=st.lists(st.sampled_from(range(0, ITEMS, len(BRANDS))), min_size=1, max_size=5),
    day=st.integers(0, DAYS - 1),
)
def test_probabilities_of_the_next_click_add_up_to_one(clicks: list[int], day: int) -> None:
    """The clicks are on Aurora, whose items are all in the shop from the first day."""
    shares = shares_after(*clicks, day=day)

    assert shares.sum() == pytest.approx(1)
    assert (shares[days_added().ravel() > day] == 0).all()


def test_earlier_clicks_say_more_than_the_last_one() -> None:
    """A rain jacket is on four lists; a tent before it tells the task, a Fjord the taste."""
    jacket = item("Rain jacket")
    camping, cycling = item("Thermos flask"), item("Cycling gloves")
    after_tent = shares_after(item("Tent"), jacket)
    after_lock = shares_after(item("Bike lock"), jacket)
    of_fjord = shares_after(item("Bike lock", "Fjord"), item("Bike lights", "Fjord"), jacket)

    assert after_tent[camping] > 10 * after_tent[cycling]
    assert after_lock[cycling] > 10 * after_lock[camping]
    fjord = item("Cycling gloves", "Fjord")
    assert of_fjord[fjord] > 3 * after_lock[fjord]


def test_the_ideal_probabilities_are_those_of_the_generator() -> None:
    """Of 200 visits, the clicks have the mean logarithm that their probabilities predict."""
    clicks = MODEL.walk(200, seed=3)
    surprise = []
    for visit, (_, items) in enumerate(clicks.groupby("session_id", sort=False)["item"]):
        path = items.to_numpy()
        for shares, following in zip(
            IDEAL.shares_along(path, visit * DAYS // 200), path[1:], strict=True
        ):
            likely = shares[shares > 0]
            expected = (likely * np.log(likely)).sum()
            spread = (likely * np.log(likely) ** 2).sum() - expected**2
            surprise.append((np.log(shares[following]) - expected, spread))
    gap, variance = np.array(surprise).sum(axis=0)

    assert abs(gap) < 3 * np.sqrt(variance)
