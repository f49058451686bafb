"""Statistics of sessions: lengths, popularity of items, time span. Times are UTC, to the second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions

LENGTHS = (*((n, n) for n in range(2, 7)), (7, 10), (11, 20), (21, 50), (51, None))  # first, last
TOP_SHARES = (0.01, 0.1, 0.5)  # shares of the most clicked items
CURVE_POINTS = 60


@dataclass(frozen=True, slots=True)
class LengthShare:
    """Share of the sessions in a range of lengths."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of one part of a log."""

    sessions: int
    clicks: int
    items: int  # clicked at least once
    begins: str  # first and last click, ISO 8601
    ends: str
    length_mean: float
    length_quantiles: dict[str, int]  # "median", "90 %", "99 %", "longest"
    lengths: Sequence[LengthShare]
    top_items: dict[float, float]  # share of the most clicked items → share of the clicks
    popularity: Sequence[tuple[int, int]]  # (rank of an item from 1, its clicks), for some ranks


def describe(sessions: Sessions) -> Statistics:
    """Return the statistics of at least one session, each of at least 2 clicks."""
    lengths = sessions.length_counts()
    counts = np.sort(sessions.counts())[::-1]
    counts = counts[counts > 0]
    quantiles = [_quantile(lengths, share) for share in (0.5, 0.9, 0.99, 1.0)]
    return Statistics(
        sessions=len(sessions),
        clicks=len(sessions.items),
        items=len(counts),
        begins=_utc(int(sessions.time_ms.min())),
        ends=_utc(int(sessions.time_ms.max())),
        length_mean=len(sessions.items) / len(sessions),
        length_quantiles=dict(zip(("median", "90 %", "99 %", "longest"), quantiles, strict=True)),
        lengths=_length_shares(lengths),
        top_items={share: _top_share(counts, share) for share in TOP_SHARES},
        popularity=_curve(counts),
    )


def _quantile(lengths: NDArray[np.int64], share: float) -> int:
    """Return the smallest length that so many sessions at least do not exceed.

    lengths: (longest + 1,) int64, sessions of each length.
    """
    place = max(math.ceil(int(lengths.sum()) * share - 1), 0)
    return int(np.searchsorted(np.cumsum(lengths), place, side="right"))


def _length_shares(lengths: NDArray[np.int64]) -> list[LengthShare]:
    shares = []
    for first, last in LENGTHS:
        inside = lengths[first:] if last is None else lengths[first : last + 1]
        name = f"{first}+" if last is None else f"{first}–{last}" if last > first else str(first)
        shares.append(LengthShare(name, float(inside.sum() / lengths.sum())))
    return shares


def _top_share(counts: NDArray[np.int64], share: float) -> float:
    """Return the share of clicks on the first `share` of the items, at least one item."""
    taken = max(round(len(counts) * share), 1)
    return float(counts[:taken].sum() / counts.sum())


def _curve(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the clicks at ranks that are evenly spaced on a logarithmic axis."""
    ranks = np.unique(np.geomspace(1, len(counts), num=CURVE_POINTS).round().astype(np.int64))
    return [(int(rank), int(counts[rank - 1])) for rank in ranks]


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
