"""Visitors want what the visits say, and examine a place of a list with a known probability."""

import pytest

from data.shop.assortment import days_added
from data.shop.visitors import ShopDays, Visitor, examination

DAYS = ShopDays(visits=30, seed=1)


def test_the_probability_of_examining_a_place_falls_as_one_over_the_place() -> None:
    assert [examination(place) for place in (1, 2, 4)] == [1, 1 / 2, 1 / 4]


@pytest.mark.parametrize(
    ("place", "chance", "seen"), [(1, 0.99, True), (4, 0.24, True), (4, 0.26, False)]
)
def test_a_visitor_sees_the_wanted_item_if_its_place_is_examined(
    place: int, chance: float, seen: bool
) -> None:
    shown = [f"other-{other}" for other in range(5)]
    shown[place - 1] = "tent"

    assert Visitor("ada", ["tent"], [chance]).sees(0, shown) is seen


def test_nothing_is_seen_in_a_list_without_the_wanted_item() -> None:
    assert not Visitor("ada", ["tent"], [0.0]).sees(0, ["stove"])


def test_each_day_has_its_visits_and_each_visit_its_clicks() -> None:
    visitors = [visitor for day in range(28) for visitor in DAYS.visitors(day)]

    assert [visitor.user_id for visitor in visitors] == [f"visitor-{n}" for n in range(28 * 30)]
    assert [item_id for v in visitors for item_id in v.wants] == DAYS.clicks["item_id"].tolist()
    assert DAYS.visitors(3) == ShopDays(visits=30, seed=1).visitors(3)


def test_new_items_come_on_their_day_and_no_visitor_wants_them_before() -> None:
    come = [DAYS.new_items(day) for day in range(1, 28)]

    assert sum(map(len, come)) == (days_added() > 0).sum()
    wanted = {item_id for day in range(10) for v in DAYS.visitors(day) for item_id in v.wants}
    assert not wanted & {item_id for later in come[9:] for item_id in later}
