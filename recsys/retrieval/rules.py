"""Rules of one list: boosts, limits for each value of an attribute, and pinned items.

They change the order of items, so a list with rules is made from the scores of all items. The order
of application is: filter and exclusions, boosts, pinned items, limits, length.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.ranking import NEVER, top_k


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

    def best(self, scores: Tensor, k: int) -> tuple[list[int], list[float]]:
        """Return the items of a list and their boosted scores.

        Pinned items count towards the limits, but no limit removes one of them. Equal scores are in
        the order of the item index.

        Args:
            scores: (N,) float32, `NEVER` where an item may not be shown.
            k: length of the list.
        """
        scores = self._boosted(scores)
        chosen = _ChosenItems(self.limits)
        for item in dict.fromkeys(self.pinned):
            if len(chosen.items) < k and float(scores[item]) > NEVER:
                chosen.add(item, float(scores[item]))
        while len(chosen.items) < k:
            chosen.rule_out(scores)
            best, items = top_k(scores[None], k - len(chosen.items))
            before = len(chosen.items)
            for item, score in zip(items[0].tolist(), best[0].tolist(), strict=True):
                if score > NEVER and chosen.fits(item):
                    chosen.add(item, score)
            if len(chosen.items) == before:  # the best item always fits, so none is left
                break
        return chosen.items, chosen.scores

    def _boosted(self, scores: Tensor) -> Tensor:
        """Return (N,) float64: the sum of an item's boosts is added to its score."""
        total = np.zeros(len(scores))
        for boost in self.boosts:
            total += boost.attribute.weights(boost.weight_of, np.arange(len(scores)))
        return scores.double() + torch.from_numpy(total)


@dataclass(slots=True)
class _ChosenItems:
    """Items of a list so far, and how many of them have each value of the limited attributes."""

    limits: Sequence[Limit]
    items: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    counts: list[Counter[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [Counter() for _ in self.limits]

    def fits(self, item: int) -> bool:
        """Return whether no limit forbids one more item like this; no value, no limit."""
        for limit, count in zip(self.limits, self.counts, strict=True):
            value = limit.attribute[item]
            if value is not None and count[value] >= limit.most:
                return False
        return True

    def add(self, item: int, score: float) -> None:
        self.items.append(item)
        self.scores.append(score)
        for limit, count in zip(self.limits, self.counts, strict=True):
            value = limit.attribute[item]
            if value is not None:
                count[value] += 1

    def rule_out(self, scores: Tensor) -> None:
        """Set the score of every item that cannot come next to `NEVER`; scores: (N,)."""
        scores[torch.tensor(self.items, dtype=torch.int64)] = NEVER
        for limit, count in zip(self.limits, self.counts, strict=True):
            full = [value for value, items in count.items() if items >= limit.most]
            if full:
                scores[torch.from_numpy(limit.attribute.is_in(full, np.arange(len(scores))))] = (
                    NEVER
                )
