"""Test for sample-ratio mismatch: do the variants have the users that their shares promise?

A mismatch means that users are missing from a variant, or were counted in the wrong one, and then
no difference can be trusted (Fabijan et al., Diagnosing Sample Ratio Mismatch, KDD 2019). A user
counts once, in the period of constant shares in which a list of the experiment was first shown:
until then no variant can have changed whether the user comes. So the counts of each period have the
shares of that period, also where shares were changed in the middle. Processes notice a change at
different times, so a user who is first seen within a minute of it is not counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import chi2

from data.events.reading import read_events
from recsys.events.schemas import IMPRESSIONS

MISMATCH = 0.001  # p-value below which a mismatch is reported: a daily look must rarely be wrong
SETTLE_SECONDS = 60.0  # after a change of shares: until all processes follow it


@dataclass(frozen=True, slots=True)
class Period:
    """Time of constant shares, in epoch seconds; shares in percent, of the main version first."""

    begin: float
    end: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Users who were first seen in the periods, what the shares promise, and the p-value."""

    users: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float

    @property
    def is_mismatch(self) -> bool:
        """Return whether the users are not split as they should be."""
        return self.p_value < MISMATCH


def sample_ratio(counts: Sequence[Mapping[str, int]], periods: Sequence[Period]) -> SampleRatio:
    """Return Pearson's chi-square test over all periods.

    Args:
        counts: Of each period: variant → users who were first seen in it. Users of a variant that
            has no share in the period are a mismatch, however few they are.
        periods: The periods.
    """
    users: dict[str, int] = {}
    expected: dict[str, float] = {}
    statistic, freedom = 0.0, 0
    for seen, period in zip(counts, periods, strict=True):
        total = sum(seen.values())
        if total == 0:
            continue
        for name in dict.fromkeys([*period.shares, *seen]):
            here, promised = seen.get(name, 0), total * period.shares.get(name, 0.0) / 100
            users[name] = users.get(name, 0) + here
            expected[name] = expected.get(name, 0.0) + promised
            if promised > 0:
                statistic += (here - promised) ** 2 / promised
            elif here > 0:
                statistic = math.inf
        freedom += sum(share > 0 for share in period.shares.values()) - 1
    p_value = float(chi2.sf(statistic, max(freedom, 1)))  # without freedom it is 0 or infinite
    return SampleRatio(users, expected, p_value)


def count_first_seen(events: Path, periods: Sequence[Period]) -> list[dict[str, int]]:
    """Return for each period variant → users whose first list was shown in it.

    Users of its first `SETTLE_SECONDS` are left out.
    """
    columns = ["user_id", "timestamp", "variant"]
    lists = read_events(events, IMPRESSIONS, periods[0].begin, periods[-1].end, columns)
    names = list({name for period in periods for name in period.shares})
    lists = lists.filter(pc.is_in(lists["variant"], pa.array(names, pa.string()))).to_pandas()
    first = lists.sort_values("timestamp", kind="stable").drop_duplicates("user_id")
    begins = [period.begin for period in periods]
    period_of = np.searchsorted(begins, first["timestamp"], side="right") - 1
    settled = first["timestamp"] >= np.array(begins)[period_of] + SETTLE_SECONDS
    counted = first[settled].groupby([period_of[settled], "variant"]).size()
    counts: list[dict[str, int]] = [{} for _ in periods]
    for (period, variant), users in counted.items():
        counts[period][variant] = int(users)
    return counts
