"""Groups of test cases: by position in the session, and by how popular the target was in training.

Groups without a case are left out. Popularity groups are deciles of training clicks: items stand
in falling order of their clicks, and each decile holds about a tenth of all clicks, so the first
holds a few popular items and the last most of the catalogue.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECILES = 10
POSITIONS = (  # clicks before the target: first, last
    *((n, n) for n in range(1, 6)),
    (6, 10),
    (11, 20),
    (21, 50),
    (51, None),
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the cases, and the items that define them where items do."""

    name: str
    inside: NDArray[np.bool_]  # (cases,)
    items: int | None = None  # of the catalogue, in this group
    clicks: tuple[int, int] | None = None  # fewest and most training clicks of one of them


def by_position(before: NDArray[np.int32]) -> list[Slice]:
    """before: (cases,) clicks of the session before the target."""
    slices = []
    for first, last in POSITIONS:
        inside = before >= first if last is None else (before >= first) & (before <= last)
        name = f"{first}+" if last is None else f"{first}–{last}" if last > first else str(first)
        slices.append(Slice(name, inside))
    return [part for part in slices if part.inside.any()]


def by_popularity(target: NDArray[np.int32], counts: NDArray[np.int64]) -> list[Slice]:
    """target: (cases,) item index or -1; counts: (N,) training clicks of every item."""
    decile = deciles(counts)
    group = np.where(target >= 0, decile[target], -1)
    slices = []
    for number in range(DECILES):
        members = counts[decile == number]
        if len(members):
            span = (int(members.min()), int(members.max()))
            slices.append(Slice(str(number + 1), group == number, len(members), span))
    slices.append(Slice("not in training", group == -1))
    return [part for part in slices if part.inside.any()]


def deciles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) 0 for the most clicked items to 9; an item belongs where the middle of its clicks lies.

    Equal counts stand in the order of the item index.
    """
    order = np.argsort(-counts, kind="stable")
    doubled = 2 * np.cumsum(counts[order]) - counts[order]  # twice the middle, a whole number
    found = np.empty(len(counts), dtype=np.int64)
    found[order] = np.minimum(doubled * DECILES // max(2 * counts.sum(), 1), DECILES - 1)
    return found
