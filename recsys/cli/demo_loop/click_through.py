"""Click-through of lists: clicks on lists divided by lists, with the user as the unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.cli.demo_loop.visits import FollowedVisit
from training.experiments.estimates import UserRate, rate


@dataclass(frozen=True, slots=True)
class ClickThrough:
    """Click-through of a group of visits, each of another user."""

    lists: int
    clicks: int
    rate: UserRate

    @classmethod
    def of(cls, visits: Sequence[FollowedVisit]) -> "ClickThrough":
        """Return the click-through of these visits."""
        lists = np.array([visit.lists for visit in visits], dtype=np.float64)
        clicks = np.array([visit.clicks_on_lists for visit in visits], dtype=np.float64)
        return cls(int(lists.sum()), int(clicks.sum()), rate(clicks, lists))
