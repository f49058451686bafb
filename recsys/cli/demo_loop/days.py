"""Days of the loop, their click-through, and whether the log is what the visitors did on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.events.reading import read_clicks, read_impressions
from recsys.cli.demo_loop.first_log import USER_PREFIX
from recsys.cli.demo_loop.visits import FollowedVisit
from training.experiments.estimates import UserRate, rate
from training.retrain.decision import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the loop, and the decision of its night."""

    number: int  # from 1
    new_items: int  # that came in the morning
    began: float  # seconds since 1970, as the next one
    ended: float  # of the visits
    first: str  # name of the first bundle
    visits: Sequence[FollowedVisit]
    decision: Decision

    @property
    def frozen(self) -> list[FollowedVisit]:
        """Return the visits that the first model answered; on the first day it answered all."""
        return [visit for visit in self.visits if visit.variant in (None, self.first)]

    @property
    def retrained(self) -> list[FollowedVisit]:
        """Return the visits that a later model answered."""
        return [visit for visit in self.visits if visit.variant not in (None, self.first)]


def click_through(visits: Sequence[FollowedVisit]) -> UserRate:
    """Return clicks on lists divided by lists, with the visitor as the unit."""
    clicks = np.array([visit.clicks_on_lists for visit in visits], dtype=np.float64)
    return rate(clicks, np.array([visit.lists for visit in visits], dtype=np.float64))


def difference_to_log(events: Path, visits: Sequence[FollowedVisit]) -> str | None:
    """Compare the collected events with what the visitors did; return what differs, if anything.

    Users are hashed in the log, so the clicks of a whole visit are compared, not their user.
    """
    clicks, lists = read_clicks(events), read_impressions(events)
    clicks = clicks[~clicks["user_id"].str.startswith(USER_PREFIX)]
    named = clicks["list_id"].astype(object)
    clicks = clicks.assign(list_id=named.where(named.notna(), None)).sort_values("click")
    collected = Counter(
        tuple(zip(session["item_id"], session["list_id"], strict=True))
        for _, session in clicks.groupby("session_id")
    )
    made = Counter(tuple((each.item_id, each.list_id) for each in v.clicks) for v in visits)
    shown = sum(visit.lists for visit in visits)
    problems = []
    if collected != made:
        missing, more = (made - collected).total(), (collected - made).total()
        problems.append(f"it lacks {missing:,} visits and has {more:,} others")
    if lists["list_id"].nunique() != shown or len(lists) != shown:
        problems.append(f"it has {len(lists):,} lists, and visitors saw {shown:,}")
    return "; ".join(problems) or None
