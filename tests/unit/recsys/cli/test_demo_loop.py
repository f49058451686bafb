"""The figures of the simulated shop are those of the visits."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from recsys.cli.demo_loop.comparison import compare_log
from recsys.cli.demo_loop.days import Day, click_through
from recsys.cli.demo_loop.page import write_page, write_picture
from recsys.cli.demo_loop.visits import FollowedClick, FollowedVisit
from training.retrain.days import Days
from training.retrain.decision import Decision
from training.retrain.gate import RelativeDifference, Verdict


def visit(user_id: str, *lists: str | None, variant: str | None = None) -> FollowedVisit:
    """Return a visit with a click for each of these lists; None is a click on no list."""
    clicks = [FollowedClick(f"item-{number}", list_id) for number, list_id in enumerate(lists)]
    return FollowedVisit(user_id, variant, clicks)


def day(number: int, visits: Sequence[FollowedVisit], *, new_items: int = 0) -> Day:
    compared = RelativeDifference("recall@20", 0.5, 0.4, 0.25, 0.2, 0.3)
    verdict = Verdict(True, 0.01, 100, 20, 0.1, compared, compared, None)
    times = Days(0, 1, 2)
    decision = Decision(
        "", times, True, "", "train", "shop", "new", "id", "first", "before", 0, verdict
    )
    return Day(
        number=number,
        new_items=new_items,
        began=number,
        ended=number + 1,
        first="first",
        visits=visits,
        decision=decision,
    )


def test_click_through_is_clicks_on_lists_by_lists() -> None:
    """Every click is answered with a list."""
    found = click_through([visit("ada", None, "a", None), visit("bob", None)])

    assert found.users == 2
    assert found.value == 1 / (3 + 1)


def test_visits_belong_to_the_model_that_answered() -> None:
    alone, first, later = visit("a"), visit("b", variant="first"), visit("c", variant="second")
    mixed = day(2, [alone, first, later])

    assert (mixed.frozen, mixed.retrained) == ([alone, first], [later])
    assert compare_log(Path("not read"), [day(1, [alone])]) is None


@pytest.mark.parametrize("differs", [None, "it lacks 1 visits and has 0 others"])
def test_the_page_shows_days_and_what_the_log_lacks(tmp_path: Path, differs: str | None) -> None:
    days = [
        day(1, [visit("zoe", "a", None), visit("kim", None, None)], new_items=7),
        day(2, [visit("ada", None, "b", variant="second")], new_items=5),
    ]
    write_page(tmp_path / "page.html", days, None, differs)
    write_picture(tmp_path / "picture.svg", days)
    page = (tmp_path / "page.html").read_text()

    assert "<dd>12<small>that the first model never saw" in page
    assert "25.0 %" in page  # one click on four lists
    assert (differs or "every click and every list of the visitors, once") in page
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")
