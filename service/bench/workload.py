"""Who clicks what: visits drawn from power laws, or those of a click log in their order.

Both follow ETUDE (Kersbergen et al., ICDE 2024): many visitors at once, sessions of power-law
length, items of power-law popularity; the next click of a visitor comes after his last one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

LONGEST = 100  # clicks of a drawn session
DRAWN_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class BenchClick:
    """A visitor, and the item he opens."""

    user_id: str
    item_id: str


def drawn(
    item_ids: Sequence[str],
    *,
    visitors: int,
    popularity: float,
    length: float,
    seed: int,
) -> Iterator[BenchClick]:
    """Without end. item_ids: the most popular first; visitors: at a time.

    popularity: P(item of rank r) ∝ r^-popularity; length: P(session of n clicks) ∝ n^-length.
    """
    rng = np.random.default_rng(seed)
    of_rank = np.arange(1, len(item_ids) + 1) ** -popularity
    of_length = np.arange(1, LONGEST + 1) ** -length
    to_rank = np.cumsum(of_rank) / of_rank.sum()
    to_length = np.cumsum(of_length) / of_length.sum()
    number = np.arange(visitors)
    left = 1 + np.searchsorted(to_length, rng.random(visitors))
    newest = visitors
    while True:
        who = rng.integers(visitors, size=DRAWN_AT_ONCE)
        what = np.searchsorted(to_rank, rng.random(DRAWN_AT_ONCE))
        new = 1 + np.searchsorted(to_length, rng.random(DRAWN_AT_ONCE))
        for visitor, item, clicks in zip(who.tolist(), what.tolist(), new.tolist(), strict=True):
            if left[visitor] == 0:  # this one has gone, another takes the place
                number[visitor], left[visitor] = newest, clicks
                newest += 1
            left[visitor] -= 1
            yield BenchClick(f"bench-{seed}-{number[visitor]}", item_ids[item])


def replayed(clicks: Sequence[BenchClick]) -> Iterator[BenchClick]:
    """The log again and again, each time with visitors of its own."""
    turn = 0
    while True:
        for click in clicks:
            yield BenchClick(f"{turn}-{click.user_id}", click.item_id)
        turn += 1


def some(clicks: Iterable[BenchClick], count: int) -> list[BenchClick]:
    """The first `count` of them."""
    return list(islice(clicks, count))
