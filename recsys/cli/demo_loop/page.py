"""Page about the loop: click-through of the frozen and the retrained model, day by day."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from recsys.cli.demo_loop.click_through import ClickThrough, click_through, lift
from recsys.cli.demo_loop.loop import Day
from recsys.fileio import replace_file
from training.evaluation.intervals import Estimate
from training.report.charts import Line, line_chart
from training.report.render import render_page

FROZEN, RETRAINED = "first model", "retrained"


@dataclass(frozen=True, slots=True)
class Result:
    """Click-through over the days on which both models answered."""

    frozen: ClickThrough
    retrained: ClickThrough
    lift: Estimate  # relative difference

    @classmethod
    def of(cls, days: Sequence[Day]) -> "Result | None":
        """Return the result of these days; None if no two models answered."""
        both = [day for day in days if day.frozen and day.retrained]
        if not both:
            return None
        frozen = [visit for day in both for visit in day.frozen]
        retrained = [visit for day in both for visit in day.retrained]
        return cls(click_through(frozen), click_through(retrained), lift(retrained, frozen))


def write_page(path: Path, days: Sequence[Day], difference: str | None) -> None:
    """Write the page; difference: what the collected log lacks, if anything."""
    page = render_page(
        "demo_loop.html",
        days=days,
        result=Result.of(days),
        click_through=click_through,
        percent=percent,
        charts=charts(days),
        difference=difference,
        visits=sum(len(day.visits) for day in days),
        published=sum(day.decision.published for day in days),
    )
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def write_picture(path: Path, days: Sequence[Day]) -> None:
    """Write the chart of the click-through by day as an SVG file of its own."""
    style = (resources.files("training.report") / "templates" / "report.css").read_text()
    svg = str(charts(days)[0])
    start, _, rest = svg.partition(">")
    variables = style.partition("* {")[0]  # the colours, light and dark
    text = f"{start}><style>{variables} svg {{ background: var(--paper) }}</style>{rest}\n"
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def charts(days: Sequence[Day]) -> list[Markup]:
    """Draw the click-through by day, and the relative difference up to each day."""
    names = [str(day.number) for day in days]
    groups = {RETRAINED: [day.retrained for day in days], FROZEN: [day.frozen for day in days]}
    lines = []
    for name, visits in groups.items():
        rates = {at: click_through(each).rate for at, each in enumerate(visits) if each}
        points = [(at, rate.value) for at, rate in rates.items()]
        lines.append(Line(name, points, list(rates.values())))
    by_day = line_chart(
        lines,
        title="Click-through of lists",
        x_label="day",
        y_label="clicks on a list, by lists, with 95 % intervals",
        names=names,
        from_zero=True,
    )
    so_far = {at: Result.of(days[: at + 1]) for at in range(len(days))}
    lifts = {at: result.lift for at, result in so_far.items() if result is not None}
    if not lifts:
        return [by_day]
    points = [(at, value.value) for at, value in lifts.items()]
    gained = line_chart(
        [Line("retrained", points, list(lifts.values()))],
        title="Gain of retraining up to each day",
        x_label="day",
        y_label="relative difference of the click-through, with 95 % intervals",
        names=names,
        from_zero=all(value.low > 0 for value in lifts.values()),
    )
    return [by_day, gained]


def percent(estimate: Estimate, *, signed: bool = False) -> str:
    """Format a share and its interval: 12.3 % (11.9 to 12.7)."""
    form = "{:+.1f}" if signed else "{:.1f}"
    value, low, high = (
        form.format(100 * number).replace("-", "−")
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} % ({low} to {high})"
