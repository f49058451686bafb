"""The simulated shop of docs/loop.md: its log is what the visitors did."""

from collections import Counter
from contextlib import closing
from pathlib import Path

from rich.console import Console

from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.sessions import sessionise
from data.shop.visitors import ShopDays
from recsys.cli.demo_loop.days import difference_to_log
from recsys.cli.demo_loop.loop import run_loop, small_loop


def test_the_log_holds_what_visitors_did_and_training_sees_their_sessions(tmp_path: Path) -> None:
    options = small_loop(tmp_path, days=1)
    with closing(run_loop(options, Console(quiet=True))) as running:
        visits = [each for day in running for each in day.visits]
    shop = ShopDays(options.visits, options.seed)
    visitors = [v for day in range(options.first_days + 1) for v in shop.visitors(day)]

    assert [[click.item_id for click in each.clicks] for each in visits] == [
        visitor.wants for visitor in shop.visitors(options.first_days)
    ]
    assert any(each.clicks_on_lists for each in visits)
    assert difference_to_log(options.events, visits) is None
    lists = sum(each.lists for each in visits)
    assert difference_to_log(options.events, visits[1:]) == (
        "it lacks 0 visits and has 1 others; "
        f"it has {lists:,} lists, and visitors saw {lists - visits[0].lists:,}"
    )
    sessions = sessionise(read_clicks(ClickOptions(options.events)), None)
    learned = Counter(
        tuple(sessions.item_ids[item] for item in sessions[at]) for at in range(len(sessions))
    )
    assert learned == Counter(tuple(visitor.wants) for visitor in visitors)
