"""Ragged arrays: rows of different lengths end to end, so that numpy computes many at once.

`RaggedArray` holds the clicks that count for each case; `ScoredRaggedArray` the few items of a case
that have a score of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RaggedArray:
    """Rows of integers; row r holds items[offsets[r]] … items[offsets[r+1]-1]."""

    offsets: NDArray[np.int64]  # (rows + 1,)
    items: NDArray[np.int64]  # (entries,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each row, (rows,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def row_of_entry(self) -> NDArray[np.int64]:
        """Return the row of each entry, (entries,) int64."""
        return np.arange(len(self)).repeat(self.lengths)

    def part(self, first: int, last: int) -> "RaggedArray":
        """Return the rows `first` … `last`-1."""
        offsets = self.offsets[first : last + 1]
        return RaggedArray(offsets - offsets[0], self.items[offsets[0] : offsets[-1]])

    def lists(self) -> list[list[int]]:
        """Return the rows as lists."""
        items, ends = self.items.tolist(), self.offsets.tolist()
        return [items[start:end] for start, end in pairwise(ends)]

    def known(self) -> "RaggedArray":
        """Return the same rows without entries of -1."""
        known = self.items >= 0
        return RaggedArray(offsets_of(known)[self.offsets], self.items[known])


@dataclass(frozen=True)
class ScoredRaggedArray(RaggedArray):
    """Unique items of each row in rising order, each with a score."""

    scores: NDArray[np.float64]  # (entries,)

    def only(self, rows: Sequence[int]) -> "ScoredRaggedArray":
        """Return some of the rows, in this order."""
        lengths = self.lengths[rows]
        entries = spread(self.offsets[rows], lengths)
        return ScoredRaggedArray(offsets_of(lengths), self.items[entries], self.scores[entries])


def spread(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start+1, … for every range, end to end: (sum of counts,) int64."""
    offsets = offsets_of(counts)
    return (starts - offsets[:-1]).repeat(counts) + np.arange(offsets[-1])


def offsets_of(counts: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.int64]:
    """Return the offsets of rows of these lengths: (rows + 1,) int64."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    counts.cumsum(out=offsets[1:])
    return offsets


def rows_of(lists: Sequence[Sequence[int]]) -> RaggedArray:
    """Return a ragged array with one row for each list."""
    lengths = np.array([len(row) for row in lists], dtype=np.int64)
    items = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
    return RaggedArray(offsets_of(lengths), items)


def windows_along(sessions: Sequence[NDArray[np.int32]], window: int | None = None) -> RaggedArray:
    """Return the clicks before each click but the first of every session, oldest first.

    Args:
        sessions: int32 item indices, -1 where an item is unknown.
        window: clicks of a row at most, those of unknown items included; None for all.

    Returns:
        One row a case, session after session.
    """
    lengths = np.array([len(session) for session in sessions], dtype=np.int64)
    begins = offsets_of(lengths)[:-1]
    cases = lengths - 1
    ends = spread(begins + 1, cases)  # one past the last click that counts
    starts = np.repeat(begins, cases)
    if window is not None:
        starts = np.maximum(starts, ends - window)
    counts = ends - starts
    items = np.concatenate(sessions) if len(sessions) else np.zeros(0, dtype=np.int64)
    return RaggedArray(offsets_of(counts), items[spread(starts, counts)].astype(np.int64))


def concatenated(parts: Sequence[ScoredRaggedArray]) -> ScoredRaggedArray:
    """Return the rows of all parts, one part after the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    items = np.concatenate([part.items for part in parts])
    return ScoredRaggedArray(
        offsets_of(lengths), items, np.concatenate([part.scores for part in parts])
    )
