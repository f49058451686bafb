"""The comparison as one HTML file that needs no other, in the style of the training report."""

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from training.evaluation.intervals import Estimate
from training.experiments.comparison import ERROR, LIST_CLICKS, VariantComparison, VariantResult
from training.experiments.show import moment, ratio_text, signed, span
from training.report.charts import Line, line_chart
from training.report.render import render_page

if TYPE_CHECKING:
    from training.experiments.run import ComparedExperiment

WIDEST = 8.0  # an interval so many times as wide as the last one is not drawn


def render_comparison(compared: "ComparedExperiment") -> str:
    """Render the whole page as HTML."""
    comparison = compared.comparison
    ratio = comparison.sample_ratio
    return render_page(
        "compare.html",
        compared=compared,
        comparison=comparison,
        main=comparison.variants[0],
        others=comparison.variants[1:],
        metrics=list(comparison.variants[0].metrics),
        deciding=LIST_CLICKS,
        ratio=ratio,
        ratio_text=None if ratio is None else ratio_text(ratio),
        percent=f"{100 * (1 - ERROR):g}",
        charts=_charts(comparison),
        moment=moment,
        signed=signed,
        span=span,
    )


def _charts(comparison: VariantComparison) -> list[Markup]:
    """Draw for each variant the lift by day and the rates by day."""
    main, *others = comparison.variants
    charts = []
    for other in others:
        charts += [_lift_chart(other, main), _rate_chart(other, main)]
    return charts


def _lift_chart(other: VariantResult, main: VariantResult) -> Markup:
    looks = list(enumerate(other.metrics[LIST_CLICKS].looks, start=1))
    known = [(float(day), look.lift) for day, look in looks if not math.isnan(look.lift.low)]
    widest = WIDEST * (known[-1][1].high - known[-1][1].low) if known else 0.0
    drawn = [(day, lift) for day, lift in known if lift.high - lift.low <= widest]
    intervals = [Estimate(*(100 * x for x in (e.value, e.low, e.high))) for _, e in drawn]
    points = [(day, figure.value) for (day, _), figure in zip(drawn, intervals, strict=True)]
    return line_chart(
        [Line(other.name, points, intervals)],
        title=f"{other.name}: difference to {main.name}",
        x_label="day of the experiment",
        y_label="click-through of lists, percent more, valid at any look",
        mark_zero=True,
    )


def _rate_chart(other: VariantResult, main: VariantResult) -> Markup:
    lines = []
    for each in (other, main):
        rates = each.metrics[LIST_CLICKS].rates
        known = [(float(day), rate) for day, rate in enumerate(rates, 1) if rate.value > 0]
        figures = [rate.interval for _, rate in known]
        lines.append(Line(each.name, [(day, rate.value) for day, rate in known], figures))
    return line_chart(
        lines,
        title=f"Click-through of {other.name} and {main.name}",
        x_label="day of the experiment",
        y_label="of all lists until the day",
    )
