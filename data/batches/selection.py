"""Sessions to train on, read piece by piece: cut, filtered and numbered anew without a copy.

A prepared log is mapped from files that may be larger than the memory. A selection keeps one
number for each session at most, and reads the clicks when they are needed.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.batches.batch import Batch
from data.sessions import Sessions, indices_of, joined
from data.split import check_cut, extent_of, first_test_session, fraction_text

SESSIONS_AT_ONCE = 1 << 18  # read at a time; 40 MB of numbers about them


@dataclass(frozen=True)
class Selection:
    """Beginnings of some sessions of a log, in its order; sessions have the numbers of the log."""

    log: Sessions
    kept: NDArray[np.int32] | None = None  # (sessions,) first clicks that count; None: all
    index_of: NDArray[np.int32] | None = None  # (codes,) item index, -1: unknown; None: the code

    @classmethod
    def of(cls, sessions: "Sessions | Selection") -> "Selection":
        """Return all clicks of these sessions, or the argument where it is a selection."""
        return sessions if isinstance(sessions, Selection) else cls(sessions)

    def __len__(self) -> int:
        return len(self.log) if self.kept is None else int(np.count_nonzero(self.kept))

    @property
    def clicks(self) -> int:
        """Return the number of clicks."""
        return len(self.log.items) if self.kept is None else int(self.kept.sum(dtype=np.int64))

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Return the item ids of the log, ordered by code."""
        return self.log.item_ids

    def from_time(self, since_ms: int) -> Self:
        """Return the selected sessions that begin at this time or later."""
        kept = self.log.lengths.astype(np.int32) if self.kept is None else self.kept
        later = self.log.starts_ms >= since_ms
        return dataclasses.replace(self, kept=np.where(later, kept, np.int32(0)))

    def indexed(self, item_ids: Sequence[str]) -> Self:
        """Return the same clicks with items as indices into `item_ids`, -1 for other items."""
        return dataclasses.replace(self, index_of=indices_of(self.item_ids, item_ids))

    def items_at(self, clicks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items of these clicks of the log; (clicks,) int64 both."""
        items = self.log.items[clicks]
        return (items if self.index_of is None else self.index_of[items]).astype(np.int64)

    def batch(
        self,
        clicks: NDArray[np.int64],
        batch_sizes: NDArray[np.int64],
        state_rows: NDArray[np.int64] | None = None,
        is_new_session: NDArray[np.bool_] | None = None,
    ) -> Batch:
        """Return the mini-batch whose inputs are these clicks of the log, (clicks,) int64."""
        events = self.log.events
        return Batch(
            self.items_at(clicks),
            self.items_at(clicks + 1),
            batch_sizes,
            state_rows,
            is_new_session,
            None if events is None else events[clicks].astype(np.int64),
            None if events is None else events[clicks + 1].astype(np.int64),
        )

    def places(
        self, first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return number, first click and length of each selected session among first … last-1."""
        numbers, offsets = np.arange(first, last), self.log.offsets[first : last + 1]
        if self.kept is None:
            return numbers, offsets[:-1], np.diff(offsets)
        lengths = self.kept[first:last].astype(np.int64)
        there = lengths > 0
        return numbers[there], offsets[:-1][there], lengths[there]

    def parts(self, first: int = 0) -> Iterator[Sessions]:
        """Yield the selected sessions from one on, so many at a time; a part may be empty."""
        for begin in range(first, len(self.log), SESSIONS_AT_ONCE):
            yield self.part(begin, min(begin + SESSIONS_AT_ONCE, len(self.log)))

    def part(self, first: int, last: int) -> Sessions:
        """Return the selected sessions among first … last-1, without those that are left out."""
        part = self.log.part(first, last)
        if self.kept is not None:
            within = np.arange(len(part.items)) - np.repeat(part.offsets[:-1], part.lengths)
            part = part.keep_clicks(within < np.repeat(self.kept[first:last], part.lengths))
        if self.index_of is None:
            return part
        return dataclasses.replace(part, items=self.index_of[part.items])

    def sessions(self) -> Sessions:
        """Return a copy of the selected sessions, or the log itself where all are selected."""
        if self.kept is None and self.index_of is None:
            return self.log
        return joined(list(self.parts()))

    def counts(self) -> NDArray[np.int64]:
        """Return (codes,) int64 clicks on each item of the log; the items are codes."""
        assert self.index_of is None, "counts are of codes"
        if self.kept is None:
            return self.log.counts()
        return sum((part.counts() for part in self.parts()), np.zeros(len(self.item_ids), np.int64))


def without_last(train: Sessions, share: float) -> tuple[Selection, Selection]:
    """Cut the last share of the sessions off, as `data.split.split_by_fraction` does.

    Returns:
        The sessions before the cut, without later clicks and then with at least two, and the
        sessions that begin at the cut or after it.

    Raises:
        BadInput: One side has no sessions.
    """
    first = first_test_session(len(train), share)
    cut_ms = int(train.time_ms[train.offsets[first]])
    before, after = (np.zeros(len(train), dtype=np.int32) for _ in range(2))
    for start in range(0, len(train), SESSIONS_AT_ONCE):
        part = train.part(start, min(start + SESSIONS_AT_ONCE, len(train)))
        now = slice(start, start + len(part))
        later = part.starts_ms >= cut_ms
        after[now][later] = part.lengths[later]
        # in the order of time, so that these are the first clicks of a session
        early = np.add.reduceat((part.time_ms < cut_ms).astype(np.int32), part.offsets[:-1])
        before[now] = np.where(early >= 2, early, 0)
    tested = int(np.count_nonzero(after))
    check_cut(len(train) - tested, tested, extent_of(train), fraction_text(share))
    return Selection(train, before), Selection(train, after)
