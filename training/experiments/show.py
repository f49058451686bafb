"""The comparison as tables and sentences in a terminal."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from recsys.console import add_row, neat_table
from training.evaluation.intervals import Estimate
from training.experiments.comparison import VariantComparison, signed_percent
from training.experiments.sample_ratio import SampleRatio


def show_comparison(
    comparison: VariantComparison, verdict: Sequence[str], notes: Sequence[str], console: Console
) -> None:
    """Print the figures, then the verdict."""
    names = ["users", "lists", "clicked lists", "conversions"]
    counts = neat_table("Variants, the main version first", left=["variant"], right=names)
    for each in comparison.variants:
        numbers = (each.users, each.lists, each.clicked, each.conversions)
        add_row(counts, each.name, *(f"{number:,}" for number in numbers))
    console.print(counts)
    console.print()
    rates = neat_table(
        "Rates with intervals of 95 %; differences to the main version",
        left=["metric", "variant"],
        right=["rate", "", "difference", "interval, one look", "interval, any look", "p, any look"],
    )
    for metric in comparison.variants[0].metrics:
        for each in comparison.variants:
            result = each.metrics[metric]
            interval = result.rate.interval
            cells = [rate_text(interval.value), f"{_between(interval)}"]
            if result.lift is not None:
                look = result.looks[-1]
                cells += [signed(result.lift.value), span(result.lift), span(look.lift)]
                cells.append(f"{look.p_value:.2g}")
            add_row(rates, metric, each.name, *cells, *[""] * (6 - len(cells)))
    console.print(rates)
    console.print()
    if comparison.sample_ratio is not None:
        console.print(ratio_text(comparison.sample_ratio), markup=False)
    for note in notes:
        console.print(note, markup=False)
    console.print()
    for sentence in verdict:
        console.print(Text(sentence, style="bold"))


def ratio_text(ratio: SampleRatio) -> str:
    """Return the test of the split as a sentence."""
    users = ", ".join(
        f"{name} {seen:,} of {ratio.expected[name]:,.0f}" for name, seen in ratio.users.items()
    )
    agrees = "disagrees" if ratio.is_mismatch else "agrees"
    return (
        f"The split of the users {agrees} with the shares: {users} expected (chi-square p = "
        f"{ratio.p_value:.2g})."
    )


def rate_text(value: float) -> str:
    """Return a rate with four digits after the point, or a dash."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def moment(seconds: float) -> str:
    """Format epoch seconds: 2026-11-30 02:45 UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def signed(share: float) -> str:
    """Return a relative difference in percent, or a dash."""
    return "–" if math.isnan(share) else signed_percent(share)


def span(estimate: Estimate) -> str:
    """Return the ends of an interval of a relative difference, or a dash."""
    if math.isnan(estimate.low):
        return "–"
    return f"{signed(estimate.low)} to {signed(estimate.high)}"


def _between(interval: Estimate) -> str:
    return "–" if math.isnan(interval.low) else f"{interval.low:.4f} – {interval.high:.4f}"
