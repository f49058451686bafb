"""Rules of one list: boosts, limits for each value of an attribute, and pinned items.

The order of application is: filter and exclusions, boosts, pinned items, limits, length.

A list needs not the scores of all items. The best `depth` items of the whole and of each set of
boosted items are candidates. Any other item scores at most as the last candidate of its set, with
the boost of the set. A list whose items score more is the right one; otherwise `depth` grows.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from operator import and_
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import NEVER, top_k

DISPLACED = 10  # best items to look at for each of a list, where rules keep some of them out
DEEPER = 10  # times as many, where the first ones are not enough
MAX_SETS = 32  # of the values of all boosts together


class ItemAttribute(Protocol):
    """Attribute of N items, as `recsys.catalogue.attributes.CategoricalAttribute` is one."""

    def __getitem__(self, index: int) -> str | None: ...
    def is_in(self, wanted: Sequence[str], items: NDArray[np.int64]) -> NDArray[np.bool_]: ...
    def weights(
        self, weight_of: Mapping[str, float], items: NDArray[np.int64]
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Boost:
    """Numbers to add to the scores of the items with a value: value → number."""

    attribute: ItemAttribute
    weight_of: Mapping[str, float]
    items_of: Mapping[str, AllowedItems]  # the items of each value


@dataclass(frozen=True, slots=True)
class Limit:
    """Maximum number of items of a list that have the same value."""

    attribute: ItemAttribute
    most: int


@dataclass(frozen=True, slots=True)
class RankingRules:
    """Rules of a list beyond the items that it may hold."""

    boosts: Sequence[Boost] = ()
    limits: Sequence[Limit] = ()
    pinned: Sequence[int] = ()  # item indices; those that may be shown come first, in this order

    def depths(self, places: int) -> tuple[int, int]:
        """Return how many of the best items to look at, first and if these are not enough.

        places: length of the list, with what may be left out anyway.
        """
        lowers = any(weight < 0 for boost in self.boosts for weight in boost.weight_of.values())
        first = places * DISPLACED if lowers or self.limits else places
        return first, first * DEEPER

    def sets(self, allowed: AllowedItems | None) -> list[tuple[AllowedItems | None, float]]:
        """Return all allowed items, and those of each boost or of several at once.

        Each with the number that is added to the scores of its items at most. Empty where there
        would be more than `MAX_SETS`.
        """
        if math.prod(len(boost.weight_of) + 1 for boost in self.boosts) > MAX_SETS:
            return []
        values = [
            [(None, 0.0), *((boost.items_of[v], w) for v, w in boost.weight_of.items() if w > 0)]
            for boost in self.boosts
        ]
        sets = []
        for chosen in product(*values):
            parts = [items for items in (allowed, *(each[0] for each in chosen)) if items]
            parts.sort(key=lambda items: items.count)
            sets.append((reduce(and_, parts) if parts else None, sum(each[1] for each in chosen)))
        return sets

    def best(
        self,
        scores: Tensor,
        k: int,
        items: NDArray[np.int64] | None = None,
        floor: float = NEVER,
    ) -> tuple[list[int], list[float]] | None:
        """Return the items of a list and their boosted scores.

        Pinned items count towards the limits, but no limit removes one of them. Equal scores are in
        the order of the item index.

        Args:
            scores: (C,) float32, `NEVER` where an item may not be shown.
            k: length of the list.
            items: (C,) int64 item indices, rising, with every pinned item; None for all items.
            floor: an item that is not among these may have this boosted score.

        Returns:
            The list; None where an item outside `items` might belong to it.
        """
        items = np.arange(len(scores)) if items is None else items
        scores = self._boosted(scores, items)
        chosen = _ChosenItems(self.limits, items)
        for item in dict.fromkeys(self.pinned):
            place = int(np.searchsorted(items, item))
            if len(chosen.places) < k and float(scores[place]) > NEVER:
                chosen.add(place, float(scores[place]))
        while len(chosen.places) < k:
            chosen.rule_out(scores)
            best, places = top_k(scores[None], k - len(chosen.places))
            before = len(chosen.places)
            for place, score in zip(places[0].tolist(), best[0].tolist(), strict=True):
                if score > NEVER and chosen.fits(place):
                    if score < floor:
                        return None
                    chosen.add(place, score)
            if len(chosen.places) == before:  # the best item always fits, so none is left
                return chosen.listed() if floor == NEVER else None
        return chosen.listed()

    def _boosted(self, scores: Tensor, items: NDArray[np.int64]) -> Tensor:
        """Return (C,) float64: the sum of an item's boosts is added to its score."""
        total = np.zeros(len(scores))
        for boost in self.boosts:
            total += boost.attribute.weights(boost.weight_of, items)
        return scores.double() + torch.from_numpy(total)


@dataclass(slots=True)
class _ChosenItems:
    """Items of a list so far, and how many of them have each value of the limited attributes."""

    limits: Sequence[Limit]
    candidates: NDArray[np.int64]  # (C,) item indices
    places: list[int] = field(default_factory=list)  # among the candidates
    scores: list[float] = field(default_factory=list)
    counts: list[Counter[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [Counter() for _ in self.limits]

    def listed(self) -> tuple[list[int], list[float]]:
        return self.candidates[self.places].tolist(), self.scores

    def fits(self, place: int) -> bool:
        """Return whether no limit forbids one more item like this; no value, no limit."""
        for limit, count in zip(self.limits, self.counts, strict=True):
            value = limit.attribute[int(self.candidates[place])]
            if value is not None and count[value] >= limit.most:
                return False
        return True

    def add(self, place: int, score: float) -> None:
        self.places.append(place)
        self.scores.append(score)
        for limit, count in zip(self.limits, self.counts, strict=True):
            value = limit.attribute[int(self.candidates[place])]
            if value is not None:
                count[value] += 1

    def rule_out(self, scores: Tensor) -> None:
        """Set the score of every candidate that cannot come next to `NEVER`; scores: (C,)."""
        scores[torch.tensor(self.places, dtype=torch.int64)] = NEVER
        for limit, count in zip(self.limits, self.counts, strict=True):
            full = [value for value, items in count.items() if items >= limit.most]
            if full:
                scores[torch.from_numpy(limit.attribute.is_in(full, self.candidates))] = NEVER
