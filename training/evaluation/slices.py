"""Groups of test cases: by position in the session, and by popularity of the target in training.

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
    mask: NDArray[np.bool_]  # (cases,)
    items: int | None = None  # of the catalogue, in this group
    clicks: tuple[int, int] | None = None  # fewest and most training clicks of one of them


def by_position(before: NDArray[np.int32]) -> list[Slice]:
    """Group cases by how many clicks of the session stand before the target.

    Args:
        before: (cases,) int32, clicks of the session before the target, at least 1.
    """
    slices = []
    for first, last in POSITIONS:
        mask = before >= first if last is None else (before >= first) & (before <= last)
        name = f"{first}+" if last is None else f"{first}–{last}" if last > first else str(first)
        slices.append(Slice(name, mask))
    return [part for part in slices if part.mask.any()]


def by_popularity(target: NDArray[np.int32], counts: NDArray[np.int64]) -> list[Slice]:
    """Group cases by the decile of their target; unknown targets are a group of their own.

    Args:
        target: (cases,) int32, item index or -1.
        counts: (N,) int64, training clicks of every item.
    """
    decile = deciles(counts)
    group = np.where(target >= 0, decile[target], -1)
    slices = []
    for number in range(DECILES):
        members = counts[decile == number]
        if len(members):
            span = (int(members.min()), int(members.max()))
            slices.append(Slice(str(number + 1), group == number, len(members), span))
    slices.append(Slice("not in training", group == -1))
    return [part for part in slices if part.mask.any()]


def deciles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each item's decile, 0 for the most clicked items to 9: (N,) int64.

    An item belongs to the decile that holds the middle of its clicks. Equal counts stand in the
    order of the item index.

    Args:
        counts: (N,) int64, training clicks of every item.
    """
    order = np.argsort(-counts, kind="stable")
    doubled = 2 * np.cumsum(counts[order]) - counts[order]  # twice the middle, a whole number
    result = np.empty(len(counts), dtype=np.int64)
    result[order] = np.minimum(doubled * DECILES // max(2 * counts.sum(), 1), DECILES - 1)
    return result
