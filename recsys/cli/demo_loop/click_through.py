"""Click-through of lists, with an interval: clicks on lists divided by lists.

The user is the unit, because users were assigned to the variants and the lists of one user are
alike: whole users are drawn with replacement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cli.demo_loop.visits import FollowedVisit
from training.evaluation.intervals import Estimate, estimate, ratio, resampled_sums

LISTS, CLICKS = 0, 1  # columns


@dataclass(frozen=True, slots=True)
class ClickThrough:
    """Click-through of a group of visits; without one, the rate is NaN."""

    users: int
    lists: int
    clicks: int
    rate: Estimate


def click_through(visits: Sequence[FollowedVisit]) -> ClickThrough:
    """Return the click-through of these visits."""
    totals = _per_user(visits).sum(axis=0)
    lists, clicks = int(totals[LISTS]), int(totals[CLICKS])
    value = clicks / lists if lists else np.nan
    return ClickThrough(len(visits), lists, clicks, estimate(value, _rates(visits, seed=0)))


def lift(treated: Sequence[FollowedVisit], control: Sequence[FollowedVisit]) -> Estimate:
    """Return the relative difference of two groups' click-through, with its interval."""
    rates = [click_through(group).rate.value for group in (treated, control)]
    samples = ratio(_rates(treated, seed=1), _rates(control, seed=2))  # independent groups
    value = rates[0] / rates[1] - 1 if rates[1] else np.nan
    return estimate(value, samples - 1)


def _per_user(visits: Sequence[FollowedVisit]) -> NDArray[np.float32]:
    counts = [(visit.lists, visit.clicks_on_lists) for visit in visits]
    return np.array(counts, dtype=np.float32).reshape(-1, 2)


def _rates(visits: Sequence[FollowedVisit], seed: int) -> NDArray[np.float64]:
    if not visits:
        return np.empty(0)
    sums = resampled_sums(_per_user(visits), seed=seed)
    return ratio(sums[:, CLICKS], sums[:, LISTS])
