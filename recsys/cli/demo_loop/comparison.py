"""Comparison of the first model with all retrained ones together, from the collected events.

The loop begins another experiment with each published model, because an experiment has one main
version. Here their variants count as one, and everything else is that of `recsys compare`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.cli.demo_loop.days import Day
from training.experiments.comparison import VariantComparison, compare
from training.experiments.outcomes import OutcomeOptions, read_outcomes

FIRST, RETRAINED = "first model", "retrained"
ONLY_NAMED_SECONDS = 1e-6  # visitors name the list of a click, so others were on no list


def compare_log(events: Path, days: Sequence[Day]) -> VariantComparison | None:
    """Compare both by the events of the days on which both answered; None if there is none.

    Raises:
        BadInput: The events cannot be read.
    """
    both = [day for day in days if day.retrained]
    if not both:
        return None
    variants = {visit.variant: None for day in both for visit in day.visits if visit.variant}
    first = both[0].first
    begin, end = both[0].began, both[-1].ended
    read = read_outcomes(
        events,
        OutcomeOptions(
            [first, *(name for name in variants if name != first)],
            begin,
            end,
            day_seconds=(end - begin) / len(both),
            window_seconds=ONLY_NAMED_SECONDS,
        ),
    )
    outcomes = dataclasses.replace(
        read.outcomes,
        variants=(FIRST, RETRAINED),
        variant_of=np.minimum(read.outcomes.variant_of, 1),
    )
    return compare(outcomes)
