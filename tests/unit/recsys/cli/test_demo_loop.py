"""The simulated shop: its log is what the visitors did, and its figures are those of the visits."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import prepare
from data.shop.visitors import ShopDays
from recsys.cli.demo_loop.click_through import click_through, lift
from recsys.cli.demo_loop.loop import Day, difference_to_log, run_loop, small_loop
from recsys.cli.demo_loop.page import Result, write_page, write_picture
from recsys.cli.demo_loop.visits import FollowedClick, FollowedVisit
from training.retrain.days import Days
from training.retrain.decision import Decision
from training.retrain.gate import RelativeDifference, Verdict


def visit(user_id: str, *lists: str | None, variant: str | None = None) -> FollowedVisit:
    """Return a visit with a click for each of these lists; None is a click on no list."""
    clicks = [FollowedClick(f"item-{number}", list_id) for number, list_id in enumerate(lists)]
    return FollowedVisit(user_id, variant, clicks)


FROZEN = [visit("ada", None, "a"), visit("bob", None, None)]
RETRAINED = [visit("cyd", None, "c", "d"), visit("eve", None)]


def decision(*, published: bool) -> Decision:
    compared = RelativeDifference("recall@20", 0.5, 0.4, 0.25, 0.2, 0.3)
    verdict = Verdict(published, 0.01, 100, 20, 0.1, compared, compared, None)
    days = Days(0, 1, 2)
    return Decision(
        "", days, published, "", "train", "shop", "new", "id", "first", "before", 0, verdict
    )


def test_click_through_is_clicks_on_lists_by_lists() -> None:
    """Every click is answered with a list."""
    found = click_through(FROZEN)

    assert (found.users, found.lists, found.clicks) == (2, 4, 1)
    assert found.rate.value == 1 / 4
    assert lift(RETRAINED, FROZEN).value == (2 / 4) / (1 / 4) - 1
    assert np.isnan(click_through([]).rate.value)


def test_the_interval_of_a_click_through_is_over_users() -> None:
    """All lists of one user are clicked and none of the other: a half, from 0 to 1."""
    users = [visit("ada", *("a" * 50)), visit("bob", *([None] * 50))]
    rate = click_through(users).rate

    assert (rate.value, rate.low, rate.high) == (1 / 2, 0, 1)


def test_the_result_is_over_the_days_on_which_both_models_answered() -> None:
    first = Day(1, 0, [visit("zoe", "a")], [], decision(published=True))
    second = Day(2, 0, FROZEN, RETRAINED, decision(published=False))
    result = Result.of([first, second])

    assert Result.of([first]) is None
    assert result is not None
    assert (result.frozen, result.retrained) == (click_through(FROZEN), click_through(RETRAINED))


@pytest.mark.parametrize("differs", [None, "1 visit is not in the log"])
def test_the_page_shows_days_result_and_what_the_log_lacks(
    tmp_path: Path, differs: str | None
) -> None:
    days = [
        Day(1, 7, [visit("zoe", "a")], [], decision(published=True)),
        Day(2, 5, FROZEN, RETRAINED, decision(published=False)),
    ]
    write_page(tmp_path / "page.html", days, differs)
    write_picture(tmp_path / "picture.svg", days)
    page = (tmp_path / "page.html").read_text()

    assert "Retraining changed the click-through by +100.0 %" in page
    assert "<dd>12<small>that the first model never saw" in page
    assert page.count("<svg") == 2
    assert (differs or "every click and every list of the visitors, once") in page
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")


def test_the_log_holds_what_visitors_did_and_training_sees_their_sessions(tmp_path: Path) -> None:
    options = small_loop(tmp_path, days=1)
    with closing(run_loop(options, Console(quiet=True))) as running:
        days = list(running)
    visits = [each for day in days for each in day.visits]
    shop = ShopDays(options.visits, options.seed)
    visitors = [v for day in range(options.first_days + 1) for v in shop.visitors(day)]

    assert difference_to_log(options.events, visits) is None
    assert difference_to_log(options.events, visits[1:]) == (
        "0 visits are not in the log, and 1 visits are only there; "
        f"{sum(each.lists for each in visits):,} lists are in the log, and visitors saw "
        f"{sum(each.lists for each in visits[1:]):,}"
    )
    prepared = prepare(ClickOptions(options.events, test_fraction=0.1))
    ids = prepared.item_ids
    learned = Counter(
        tuple(ids[code] for code in sessions[at])
        for sessions in (prepared.train, prepared.test)
        for at in range(len(sessions))
    )
    assert learned == Counter(tuple(visitor.wants) for visitor in visitors)
    # new items of the day are in the log, so the next training knows them
    assert set(shop.new_items(options.first_days)) <= set(ids) | unwanted(shop, options.first_days)


def unwanted(shop: ShopDays, day: int) -> set[str]:
    """Return the new items of a day that no visitor of the day wants."""
    wanted = {item_id for visitor in shop.visitors(day) for item_id in visitor.wants}
    return set(shop.new_items(day)) - wanted
