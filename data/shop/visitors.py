"""Visitors of the demo shop who look at recommended lists, with a position bias that is known.

A visitor wants one item after another, as `visits.py` draws them. Before each click they look at
the list that they were shown last. They examine its place p with probability p ** -POSITION_BIAS,
whatever stands there, and click the wanted item if they see it: the examination hypothesis
(Richardson et al., WWW 2007; Craswell et al., WSDM 2008), with the probabilities of Joachims et
al., WSDM 2017 (arXiv:1608.04468). Otherwise they find the item themselves, in a menu or by a
search.

So a list changes how an item is reached, and never which item is wanted. The expected click-through
of a list is the probability that its item at place p is wanted next, over p, added up over its
places. With a bias of 1 that is the expected reciprocal rank: the click-through of a model in this
shop is its MRR.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.shop.assortment import DAYS, days_added, items_table
from data.shop.visits import VisitModel

POSITION_BIAS = 1.0


@dataclass(frozen=True, slots=True)
class Visitor:
    """Visitor with the items that they want, in order, and a chance for each.

    The chance of an item is uniform between 0 and 1. The visitor sees the item in a list if the
    chance is below the probability of examining its place.
    """

    user_id: str
    wants: Sequence[str]
    chances: Sequence[float]

    def __post_init__(self) -> None:
        if not self.wants or len(self.wants) != len(self.chances):
            raise ValueError("A visitor wants at least one item, and each has one chance.")

    def sees(self, want: int, shown: Sequence[str]) -> bool:
        """Return whether the visitor sees the item of this want in the list that is shown."""
        item_id = self.wants[want]
        if item_id not in shown:
            return False
        return self.chances[want] < examination(shown.index(item_id) + 1)


def examination(place: int) -> float:
    """Return the probability that a visitor examines a place, which counts from 1."""
    return float(place**-POSITION_BIAS)


class ShopDays:
    """The days of the demo shop: who visits on each, and which items are new.

    Args:
        visits: visits of one day.
        seed: seed of the visits. One seed has the same visitors on each day.
    """

    def __init__(self, visits: int, seed: int) -> None:
        self.visits, self._seed = visits, seed
        self._ids = items_table()["item_id"].to_numpy()
        self._added = days_added().ravel()
        self.clicks = VisitModel().walk(visits * DAYS, seed)
        self.clicks["item_id"] = self._ids[self.clicks["item"]]
        self.clicks["visit"] = self.clicks["session_id"].str[1:].astype(int)

    def visitors(self, day: int) -> list[Visitor]:
        """Return the visitors of a day from 0, in the order in which they come."""
        begins = day * self.visits
        of_day = self.clicks[self.clicks["visit"].between(begins, begins + self.visits - 1)]
        rng = np.random.default_rng([self._seed, day])
        return [
            Visitor(f"visitor-{visit}", wants.tolist(), rng.random(len(wants)).tolist())
            for visit, wants in of_day.groupby("visit")["item_id"]
        ]

    def new_items(self, day: int) -> list[str]:
        """Return the ids of the items that come to the shop on a day from 1."""
        new: list[str] = self._ids[self._added == day].tolist()
        return new
