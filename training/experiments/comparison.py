"""Comparison of each variant with the main version: rates, lifts, daily looks, a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.intervals import Estimate
from training.experiments.estimates import UserRate, log_lift, rate
from training.experiments.outcomes import Outcomes
from training.experiments.sample_ratio import SampleRatio
from training.experiments.sequential import EXPECTED_LIFT, Look, sequential_test

ERROR = 0.05  # of the test and of intervals, of all variants of an experiment together
LIST_CLICKS = "click-through of lists"  # the verdict is about this one
USER_CLICKS = "click-through of users"
CONVERSIONS = "conversions a user"


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of a variant; that of the main version has no lift and no looks."""

    rate: UserRate
    lift: Estimate | None = None  # relative difference to the main version, for one look
    looks: Sequence[Look] = ()  # one for each day
    rates: Sequence[UserRate] = ()  # of all users until each day


@dataclass(frozen=True, slots=True)
class VariantResult:
    """Figures of one variant."""

    name: str
    users: int
    lists: int
    clicked: int
    conversions: int
    metrics: dict[str, MetricResult] = field(hash=False)


@dataclass(frozen=True, slots=True)
class VariantComparison:
    """Figures of all variants, the main version first."""

    variants: Sequence[VariantResult]
    days: int
    error: float  # of each comparison: `ERROR` divided by their number
    sample_ratio: SampleRatio | None = None  # None: the shares are not known


def compare(
    outcomes: Outcomes,
    sample_ratio: SampleRatio | None = None,
    *,
    with_conversions: bool = False,
    expected: float = EXPECTED_LIFT,
) -> VariantComparison:
    """Compare all variants with the first one.

    Args:
        outcomes: Of users by day.
        sample_ratio: The test of the shares, if they are known.
        with_conversions: Compare conversions, too.
        expected: See `sequential_test`.
    """
    error = ERROR / max(1, len(outcomes.variants) - 1)
    metrics = [LIST_CLICKS, USER_CLICKS, *([CONVERSIONS] if with_conversions else [])]
    series = {metric: rates_by_day(outcomes, metric) for metric in metrics}
    variants = []
    for place, name in enumerate(outcomes.variants):
        results = {}
        for metric, (control, *_) in series.items():
            rates = series[metric][place]
            results[metric] = MetricResult(rates[-1], rates=rates)
            if place > 0:
                lifts = [log_lift(*pair) for pair in zip(rates, control, strict=True)]
                looks = sequential_test(lifts, error=error, expected=expected)
                results[metric] = MetricResult(rates[-1], lifts[-1].interval(error), looks, rates)
        of_variant = outcomes.variant_of[outcomes.user] == place
        sums = (outcomes.lists, outcomes.clicked, outcomes.conversions)
        lists, clicked, conversions = (int(values[of_variant].sum()) for values in sums)
        users = int((outcomes.variant_of == place).sum())
        variants.append(VariantResult(name, users, lists, clicked, conversions, results))
    return VariantComparison(variants, outcomes.days, error, sample_ratio)


def rates_by_day(outcomes: Outcomes, metric: str) -> list[list[UserRate]]:
    """Return for each variant the rate of a metric over all users until each day."""
    users = len(outcomes.variant_of)
    of_variants = [outcomes.variant_of == place for place in range(len(outcomes.variants))]
    order = np.argsort(outcomes.day, kind="stable")
    ends = np.searchsorted(outcomes.day[order], np.arange(outcomes.days), side="right")
    lists, clicked, conversions = np.zeros((3, users))
    rates: list[list[UserRate]] = [[] for _ in of_variants]
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        rows = order[begin:end]  # a user has one row on a day
        user = outcomes.user[rows]
        lists[user] += outcomes.lists[rows]
        clicked[user] += outcomes.clicked[rows]
        conversions[user] += outcomes.conversions[rows]
        for place, of_variant in enumerate(of_variants):
            seen = of_variant & (lists > 0)
            rates[place].append(_rate(metric, lists[seen], clicked[seen], conversions[seen]))
    return rates


def _rate(
    metric: str,
    lists: NDArray[np.float64],
    clicked: NDArray[np.float64],
    conversions: NDArray[np.float64],
) -> UserRate:
    if metric == LIST_CLICKS:
        return rate(clicked, lists)
    if metric == USER_CLICKS:
        return rate(clicked / lists, np.ones_like(lists))
    return rate(conversions, np.ones_like(lists))


def verdict(comparison: VariantComparison) -> list[str]:
    """Return a sentence for each variant, or one that says why there is no verdict."""
    ratio = comparison.sample_ratio
    if ratio is not None and ratio.is_mismatch:
        seen = ", ".join(
            f"{name} {users:,} instead of {ratio.expected[name]:,.0f}"
            for name, users in ratio.users.items()
        )
        return [
            f"Do not use these figures: the users are not split as published ({seen}; chi-square "
            f"p = {ratio.p_value:.1g}). Find out which users are missing, then begin a new "
            "experiment."
        ]
    main, *others = comparison.variants
    return [_verdict(main, other, comparison) for other in others]


def _verdict(main: VariantResult, other: VariantResult, comparison: VariantComparison) -> str:
    looks = other.metrics[LIST_CLICKS].looks
    look, alarm = looks[-1], first_alarm(looks, comparison.error)
    lift = look.lift
    if math.isnan(lift.low):
        return (
            f"{other.name} cannot be compared with {main.name} yet: there are too few users with "
            "a click. Look again tomorrow."
        )
    between = f"{signed_percent(lift.low)} to {signed_percent(lift.high)}"
    found = f"{signed_percent(lift.value)} ({between}; always-valid p = {look.p_value:.2g})"
    if alarm is not None:  # the p-value stays low, also where the difference turns later
        is_better = looks[alarm - 1].lift.value > 0
        better = "better" if is_better else "worse"
        if is_better != (lift.value > 0):
            return (
                f"{other.name} was {better} than {main.name} until day {alarm}, and the difference "
                f"has turned since: over all days the click-through of its lists differs by "
                f"{found}. Find out what has changed, then begin a new experiment."
            )
        return (
            f"{other.name} is {better} than {main.name}: the click-through of its lists differs by "
            f"{found}. You can stop now."
        )
    return (
        f"No difference is shown between {other.name} and {main.name}: the click-through of its "
        f"lists differs by {found}. Go on, or stop if no such difference matters to you."
    )


def first_alarm(looks: Sequence[Look], error: float) -> int | None:
    """Return the day on which the test first shows a difference, from 1; None if on no day."""
    days = (day for day, look in enumerate(looks, start=1) if look.p_value < error)
    return next(days, None)


def signed_percent(share: float) -> str:
    """Return a relative difference as text in percent, which no line break divides."""
    return f"{100 * share:+.1f}\u00a0%".replace("-", "−")
