"""Newest training sessions that baselines and neighbours learn from, so that memory is bounded.

Tables of items and indexes of sessions are built in memory. Of a log with more than they may take,
the newest sessions count. The report and the terminal say so.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from data.batches.selection import SESSIONS_AT_ONCE, Selection
from data.sessions import Sessions

NEIGHBOUR_CLICKS = 5_000_000  # of the sessions that can be neighbours
PAIRS = 20_000_000  # of clicks, in the table of an item-to-item baseline
LONGEST_RULE = 10  # clicks from the first to the second item of a sequential rule, at most

Costs = Callable[[NDArray[np.int64]], NDArray[np.int64]]  # lengths of sessions → cost of each


def clicks(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the clicks of each session."""
    return lengths


def pairs_of_rules(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of clicks of each session that are at most `LONGEST_RULE` apart."""
    near = np.minimum(lengths - 1, LONGEST_RULE)
    found: NDArray[np.int64] = near * lengths - near * (near + 1) // 2
    return found


def pairs(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of clicks of each session, in both orders."""
    return lengths**2


# baselines → most of what their sessions may cost
LIMITS: Mapping[str, tuple[int, Costs]] = {
    "markov": (PAIRS, clicks),
    "sequential rules": (PAIRS, pairs_of_rules),
    "item-knn": (PAIRS, pairs),
    "v-sknn": (NEIGHBOUR_CLICKS, clicks),
    "vstan": (NEIGHBOUR_CLICKS, clicks),
}


def newest(train: Selection, most: int, costs: Costs = clicks) -> Sessions:
    """Return the newest sessions that cost at most so much together, but at least one.

    Args:
        train: Training sessions, in order of their start.
        most: Highest sum of their costs.
        costs: Cost of sessions of these lengths.
    """
    first = _first(train, most, costs)
    return train.sessions() if first == 0 else train.part(first, len(train.log))


def newest_for(name: str, train: Selection) -> Sessions:
    """Return the sessions that the baseline of this name learns from."""
    return newest(train, *LIMITS[name])


def limits_of(train: Sessions | Selection, blend: bool = False) -> list[str]:
    """Return a sentence for each number of clicks that baselines are limited to, if there are any.

    Args:
        train: Training sessions.
        blend: The model has neighbours, which are limited as those of the baselines are.
    """
    selection = Selection.of(train)
    named: dict[int, list[str]] = {}
    limits = {**LIMITS, **({"the model's blend": LIMITS["vstan"]} if blend else {})}
    for name, limit in limits.items():
        first = _first(selection, *limit)
        if first > 0:
            _, _, lengths = selection.places(first, len(selection.log))
            named.setdefault(int(lengths.sum()), []).append(name)
    return [
        f"Because of memory, the newest {count:,} of {selection.clicks:,} training clicks are what "
        f"{', '.join(names)} learned from."
        for count, names in named.items()
    ]


def _first(train: Selection, most: int, costs: Costs) -> int:
    """Return the number of the oldest session that counts."""
    spent, end = 0, len(train.log)
    while end > 0:
        begin = max(end - SESSIONS_AT_ONCE, 0)
        numbers, _, lengths = train.places(begin, end)
        total = spent + np.cumsum(costs(lengths)[::-1])
        beyond = int(np.searchsorted(total, most, side="right"))  # sessions that fit
        if beyond < len(numbers):
            return min(int(numbers[::-1][max(beyond - 1, 0)]) + (beyond == 0), len(train.log) - 1)
        spent, end = int(total[-1]) if len(total) else spent, begin
    return 0
