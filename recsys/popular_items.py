"""Popular items: the list of a session without a known click.

With recent popularity, its order counts.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.catalogue.catalogue import Catalogue, shares_by_place
from recsys.model.ranking import NEVER
from recsys.model.recent_popularity import RecentPopularity
from recsys.retrieval.exact import ItemScorer, RankingQuery, TopK, top_k_lists
from recsys.retrieval.rules import RankingRules

FEW_SHARE = 0.005  # of the items: so few are sorted by popularity, among more the first are sought


@dataclass(frozen=True, slots=True, eq=False)
class PopularItems:
    """All items with their popularity."""

    order: NDArray[np.int32]  # (N,) item indices, the most popular first
    shares: NDArray[np.float32]  # (N,) score of each item

    @classmethod
    def of(cls, catalogue: Catalogue, recent: RecentPopularity | None) -> Self:
        """Return the items of a catalogue; recent: None where recent clicks do not count."""
        if recent is None:
            return cls(catalogue.by_popularity, catalogue.popularity)
        order = recent.order(catalogue.by_popularity)
        return cls(order, shares_by_place(order))

    def top_k(self, query: RankingQuery, model: ItemScorer) -> TopK:
        """Return the most popular items that a query allows.

        Args:
            query: length of the list, the items it may hold and its rules.
            model: its `top_k` ranks all items where rules need that.
        """
        if query.rules is not None:
            return self._by_rules(query, query.rules, model)
        excluded = set(query.excluded)
        first = self._first_allowed(query.allowed, query.k + len(excluded))
        items = [item for item in first.tolist() if item not in excluded][: query.k]
        return TopK(items, self.shares[items].tolist())

    def _by_rules(self, query: RankingQuery, rules: RankingRules, model: ItemScorer) -> TopK:
        """Return the list from the most popular items, from all where these are not enough."""
        sets = rules.sets(query.allowed)
        for depth in rules.depths(query.k + len(query.excluded)) if sets else ():
            first = [self._first_allowed(items, depth) for items, _ in sets]
            lowest = [
                float(self.shares[part[-1]]) + boost
                for part, (_, boost) in zip(first, sets, strict=True)
                if len(part) == depth
            ]
            pinned = np.array(rules.pinned, dtype=np.int64)
            items = np.unique(np.concatenate([*first, pinned]))
            scores = self.shares[items]
            scores[np.isin(items, query.excluded)] = NEVER
            if query.allowed is not None:
                scores[~query.allowed.holds(items)] = NEVER
            floor = max(lowest, default=NEVER)
            found = rules.best(torch.from_numpy(scores), query.k, items, floor)
            if found is not None:
                return TopK(*found)
        scores = torch.from_numpy(self.shares.copy()).unsqueeze(0)
        return top_k_lists(model, scores, [query])[0]

    def _first_allowed(self, allowed: AllowedItems | None, count: int) -> NDArray[np.int32]:
        """Return the `count` most popular of the allowed items, the most popular first."""
        if allowed is None:
            return self.order[:count]
        read = count if allowed.share >= FEW_SHARE else len(self.order)
        while read <= allowed.count:  # to seek among more takes longer than to sort the allowed
            first = self.order[:read]
            found = first[allowed.holds(first)]
            if len(found) >= count:
                return found[:count]
            read *= 2
        items = allowed.indices
        return items[np.argsort(-self.shares[items])[:count]]
