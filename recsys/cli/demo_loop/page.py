"""Page about the loop: click-through of the first and of the retrained models, day by day."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from recsys.cli.demo_loop.comparison import FIRST, RETRAINED
from recsys.cli.demo_loop.days import Day, click_through
from recsys.fileio import replace_file
from training.evaluation.intervals import Estimate
from training.experiments.comparison import LIST_CLICKS, VariantComparison, signed_percent, verdict
from training.report.charts import Line, line_chart
from training.report.render import render_page, style_sheet


def write_page(
    path: Path, days: Sequence[Day], comparison: VariantComparison | None, difference: str | None
) -> None:
    """Write the page.

    Args:
        path: Its file.
        days: At least one.
        comparison: Of both models; None if they never answered beside each other.
        difference: What differs between the collected log and the visits; None if they are equal.
    """
    page = render_page(
        "demo_loop.html",
        days=days,
        variants=[] if comparison is None else comparison.variants,
        lift=None if comparison is None else comparison.variants[1].metrics[LIST_CLICKS].lift,
        verdict=[] if comparison is None else verdict(comparison),
        click_through=click_through,
        metric=LIST_CLICKS,
        percent=percent,
        signed_percent=signed_percent,
        charts=charts(days, comparison),
        difference=difference,
        visits=sum(len(day.visits) for day in days),
        published=sum(day.decision.published for day in days),
    )
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def write_picture(path: Path, days: Sequence[Day]) -> None:
    """Write the chart of the click-through by day as an SVG file of its own."""
    colours = style_sheet().partition("* {")[0]  # light and dark
    start, _, rest = str(charts(days, None)[0]).partition(">")
    text = f"{start}><style>{colours}svg {{ background: var(--paper) }}</style>{rest}\n"
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def charts(days: Sequence[Day], comparison: VariantComparison | None) -> list[Markup]:
    """Draw the click-through of each day, and the difference up to each look."""
    groups = {RETRAINED: [day.retrained for day in days], FIRST: [day.frozen for day in days]}
    lines = []
    for name, visits in groups.items():
        rates = {at: click_through(each).interval for at, each in enumerate(visits) if each}
        points = [(float(at), rate.value) for at, rate in rates.items()]
        lines.append(Line(name, points, list(rates.values())))
    by_day = line_chart(
        [line for line in lines if line.points],
        title="Click-through of lists",
        x_label="day",
        y_label="95 % intervals",
        names=[str(day.number) for day in days],
        from_zero=True,
    )
    return [by_day, *_difference_charts(comparison)]


def _difference_charts(comparison: VariantComparison | None) -> list[Markup]:
    if comparison is None:
        return []
    looks = comparison.variants[1].metrics[LIST_CLICKS].looks
    lifts = {at: look.lift for at, look in enumerate(looks, start=1) if look.lift.low > -1}
    points = [(float(at), lift.value) for at, lift in lifts.items()]
    if not points:
        return []
    chart = line_chart(
        [Line(RETRAINED, points, list(lifts.values()))],
        title="Relative difference of all days so far",
        x_label="day with two models",
        y_label="with intervals that hold at any look",
        mark_zero=True,
    )
    return [chart]


def percent(estimate: Estimate) -> str:
    """Format a share and its interval: 12.3 % (11.9 to 12.7)."""
    value, low, high = (
        f"{100 * number:.1f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} % ({low} to {high})"
