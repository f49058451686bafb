"""Rates of a variant and their relative differences, with the user as the unit.

The lists of one user are alike, and users were assigned, not lists. So the variance of a rate is
that of sums over users, by the delta method (Deng, Knoblich and Lu, Applying the Delta Method in
Metric Analytics, KDD 2018, section 3, arXiv 1803.06336). Section 2 has relative differences. The
interval of one is computed here on the logarithm of the ratio, so it is not symmetric.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from training.evaluation.intervals import CONFIDENCE, Estimate

FEWEST_USERS = 30  # with an event, in each variant: below, the normal approximation is poor


@dataclass(frozen=True, slots=True)
class UserRate:
    """Ratio of two means over users, and its variance; NaN without users."""

    value: float
    variance: float
    users: int
    users_with_event: int

    @property
    def relative_variance(self) -> float:
        """Return the variance of the logarithm; NaN where the rate is 0."""
        return self.variance / self.value**2 if self.value > 0 else math.nan

    @property
    def interval(self) -> Estimate:
        """Return the rate with its interval of 95 %, for one look."""
        half = _quantile(1 - CONFIDENCE) * math.sqrt(self.variance)
        return Estimate(self.value, max(0.0, self.value - half), self.value + half)


@dataclass(frozen=True, slots=True)
class LogLift:
    """Logarithm of the ratio of two rates and its variance; NaN where there are too few events."""

    value: float
    variance: float

    def interval(self, error: float) -> Estimate:
        """Return the relative difference with an interval for one look; 0.05 is 5 %.

        error: probability that the interval misses the truth.
        """
        half = _quantile(error) * math.sqrt(self.variance)
        return relative(self.value, half)


def rate(events: NDArray[np.float64], occasions: NDArray[np.float64]) -> UserRate:
    """Return events per occasion.

    Args:
        events: (users,) float64, sums of users.
        occasions: (users,) float64; ones for a mean over users.
    """
    users = len(events)
    mean = float(occasions.mean()) if users else 0.0
    if users < 2 or mean == 0:
        return UserRate(math.nan, math.nan, users, 0)
    value = float(events.mean()) / mean
    residuals = (events - value * occasions) / mean
    variance = float(residuals.var(ddof=1)) / users
    return UserRate(value, variance, users, int(np.count_nonzero(events)))


def log_lift(treated: UserRate, control: UserRate) -> LogLift:
    """Return the relative difference of a variant to the main version."""
    if min(treated.users_with_event, control.users_with_event) < FEWEST_USERS:
        return LogLift(math.nan, math.nan)
    value = math.log(treated.value / control.value)
    return LogLift(value, treated.relative_variance + control.relative_variance)


def relative(log_value: float, half: float) -> Estimate:
    """Return exp(log_value) − 1 with the ends exp(log_value ± half) − 1."""
    low, high = log_value - half, log_value + half
    return Estimate(*(float(np.expm1(each)) for each in (log_value, low, high)))


def _quantile(error: float) -> float:
    return float(norm.ppf(1 - error / 2))
