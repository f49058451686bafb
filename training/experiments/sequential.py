"""A test that may be looked at every day: the mixture sequential probability ratio test.

Johari, Koomen, Pekelis and Walsh, Peeking at A/B Tests, KDD 2017; in the longer version, arXiv
1512.04922, section 5. With an estimate of the difference, normal with variance V, and a normal
mixture of effects with standard deviation tau, the likelihood ratio against no difference is

    sqrt(V / (V + tau²)) · exp(tau² · estimate² / (2 V (V + tau²)))

and the always-valid p-value is the smallest 1 / ratio so far. If there is no difference, it ever
falls below 0.05 with probability 0.05 at most, whenever and however often it is looked at. That is
exact for a known variance; here V is estimated, so it holds for many users (docs/experiments.md
measures it). The interval holds the differences that the ratio does not refute at this look.

The estimate is a logarithm of a ratio of rates over all users so far, so tau is a relative effect:
about the size that is expected. Any tau is valid if it is chosen before; a wrong one needs more
users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.intervals import Estimate
from training.experiments.estimates import LogLift, relative

EXPECTED_LIFT = 0.05
MAX_EXPONENT = 700.0  # beyond, a ratio is more than a float holds


@dataclass(frozen=True, slots=True)
class Look:
    """Result of the test on one day."""

    lift: Estimate  # relative difference, with an interval that is valid at every look together
    p_value: float  # always valid


def sequential_test(
    lifts: Sequence[LogLift], *, error: float, expected: float = EXPECTED_LIFT
) -> list[Look]:
    """Return a look for each day.

    Args:
        lifts: Estimates over all users until each day.
        error: Probability of a false alarm, and that the intervals ever miss the truth.
        expected: Standard deviation of the mixture.
    """
    looks, p_value = [], 1.0
    for lift in lifts:
        p_value = min(p_value, 1 / likelihood_ratio(lift, expected))
        half = half_width(lift.variance, error, expected)
        looks.append(Look(relative(lift.value, half), p_value))
    return looks


def likelihood_ratio(lift: LogLift, expected: float) -> float:
    """Return the likelihood ratio of the mixture against no difference; 1 where there is no data.

    A variance of 0 is no data: users who are all alike say nothing about others.
    """
    variance, mixture = lift.variance, expected**2
    if math.isnan(lift.value) or not variance > 0:
        return 1.0
    together = variance + mixture
    exponent = mixture * lift.value**2 / (2 * variance * together)
    return math.sqrt(variance / together) * math.exp(min(exponent, MAX_EXPONENT))


def half_width(variance: float, error: float, expected: float) -> float:
    """Return half of the interval of the logarithm, where the likelihood ratio is 1 / error."""
    if not variance > 0:
        return math.nan
    together = variance + expected**2
    return math.sqrt(variance * together / expected**2 * math.log(together / (variance * error**2)))
