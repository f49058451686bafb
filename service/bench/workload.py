"""Clicks of a bench run: sampled from power laws, or replayed from a click log in its order.

Both follow ETUDE (Kersbergen et al., ICDE 2024): many visitors at once, session lengths and item
popularity from power laws, and the clicks of each visitor in order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

MAX_LENGTH = 100  # clicks of a sampled session
SAMPLE_SIZE = 4096  # clicks sampled at once


@dataclass(frozen=True, slots=True)
class BenchClick:
    """Click of a visitor on an item."""

    user_id: str
    item_id: str


def sample_clicks(
    item_ids: Sequence[str], *, visitors: int, popularity: float, length: float, seed: int
) -> Iterator[BenchClick]:
    """Yield random clicks without end.

    Args:
        item_ids: The most popular items first.
        visitors: Number of visitors at any time.
        popularity: Exponent of P(item of rank r) ∝ r^-popularity.
        length: Exponent of P(session of n clicks) ∝ n^-length.
        seed: Seed of the random generator.
    """
    rng = np.random.default_rng(seed)
    rank_weights = np.arange(1, len(item_ids) + 1) ** -popularity
    length_weights = np.arange(1, MAX_LENGTH + 1) ** -length
    rank_cdf = np.cumsum(rank_weights) / rank_weights.sum()
    length_cdf = np.cumsum(length_weights) / length_weights.sum()
    visitor_ids = np.arange(visitors)
    left = 1 + np.searchsorted(length_cdf, rng.random(visitors))
    newest = visitors
    while True:
        visitor_indices = rng.integers(visitors, size=SAMPLE_SIZE)
        item_indices = np.searchsorted(rank_cdf, rng.random(SAMPLE_SIZE))
        lengths = 1 + np.searchsorted(length_cdf, rng.random(SAMPLE_SIZE))
        for visitor, item, clicks in zip(
            visitor_indices.tolist(), item_indices.tolist(), lengths.tolist(), strict=True
        ):
            if left[visitor] == 0:  # the session is over: a new visitor begins
                visitor_ids[visitor], left[visitor] = newest, clicks
                newest += 1
            left[visitor] -= 1
            yield BenchClick(f"bench-{seed}-{visitor_ids[visitor]}", item_ids[item])


def sample_values(values: Sequence[str | None], *, seed: int) -> list[str]:
    """Return the values of `SAMPLE_SIZE` random items, without items that have none."""
    items = np.random.default_rng(seed).integers(0, len(values), SAMPLE_SIZE).tolist()
    return [value for item in items if (value := values[item]) is not None]


def replay_clicks(clicks: Sequence[BenchClick]) -> Iterator[BenchClick]:
    """Yield the clicks of the log repeatedly, with new visitors in each round."""
    number_of_round = 0
    while True:
        for click in clicks:
            yield BenchClick(f"{number_of_round}-{click.user_id}", click.item_id)
        number_of_round += 1


def first_clicks(clicks: Iterable[BenchClick], count: int) -> list[BenchClick]:
    """Return the first `count` clicks."""
    return list(islice(clicks, count))
