"""Run the loop, show each day in the terminal when it ends, and write the page."""

from contextlib import closing
from pathlib import Path

from rich.console import Console

from recsys.cli.demo_loop.comparison import compare_log
from recsys.cli.demo_loop.days import Day, click_through, difference_to_log
from recsys.cli.demo_loop.loop import LoopOptions, run_loop
from recsys.cli.demo_loop.page import percent, write_page, write_picture
from recsys.errors import RecsysError
from training.experiments.comparison import verdict
from training.experiments.show import show_comparison

NAMES = ("day", "visits", "new items", "retrained", "first model", "the night")
FORM = "{:>3}  {:>6}  {:>9}  {:<22}  {:<22}  {}"


def show_loop(
    options: LoopOptions, console: Console, page: Path | None, picture: Path | None
) -> None:
    """Run the loop, and write the page and the picture that are wanted.

    Raises:
        RecsysError: A part of the loop fails, or the collected log is not what the visitors did.
    """
    console.print(
        f"A simulated shop with {options.visits:,} visits a day. Click-through is clicks on lists "
        "by lists, with 95 % intervals.\n",
        markup=False,
    )
    console.print(FORM.format(*NAMES), style="bold", markup=False, soft_wrap=True)
    days: list[Day] = []
    with closing(run_loop(options, console)) as running:
        for day in running:
            days.append(day)
            console.print(_line(day), markup=False, soft_wrap=True)
    difference = difference_to_log(options.events, [v for day in days for v in day.visits])
    comparison = compare_log(options.events, days)
    console.print()
    if comparison is None:
        console.print("No retrained model answered, so no two models were compared.")
    else:
        show_comparison(comparison, verdict(comparison), (), console)
    if page is not None:
        write_page(page, days, comparison, difference)
        console.print(f"The page with curves is {page}.", markup=False)
    if picture is not None:
        write_picture(picture, days)
    if difference is not None:
        raise RecsysError(f"The collected log is not what the visitors did: {difference}.")
    console.print("The collected log has every click and every list of the visitors once.")


def _line(day: Day) -> str:
    compared, word = day.decision.verdict.recall, "published" if day.decision.published else "kept"
    night = f"{word}, Recall@20 {compared.candidate:.3f} instead of {compared.current:.3f}"
    rates = [
        percent(click_through(visits).interval) if visits else ""
        for visits in (day.retrained, day.frozen)
    ]
    return FORM.format(day.number, f"{len(day.visits):,}", day.new_items, *rates, night)
