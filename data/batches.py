"""`Sessions` → the steps of one epoch, in one of two ways; the plan depends on lengths alone.

`WholeSessionBatches`: whole sessions of like length, read from their first click by one fused call
over all their clicks. Sessions go by in the order of time, a few steps' worth at a time.
`SessionParallelBatches`: session-parallel batches as in the paper (Hidasi et al., arXiv:1511.06939,
section 3.1.1). B lanes each walk through one session after another, one click a step; a lane that
ends its session takes the next waiting one, and the last batches are narrower.

Either way every pair of clicks that follow each other is learned once an epoch.
"""

import heapq
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions

STEPS_MIXED = 16  # steps whose sessions are sorted by length together: longer, less order of time


@dataclass(frozen=True)
class Batch:
    """The events of one step: after `clicked` came `following`.

    clicked, following: (E,) int64 item indices, packed as torch packs sequences: first click of
    every row, then the second of those that have one. widths: (T,) int64, rows in each of these;
    it never rises. lanes: (widths[0],) int64 rows of the carried state, or None where every row
    begins a session; fresh: (widths[0],) bool, the row's state is zero.
    """

    clicked: NDArray[np.int64]
    following: NDArray[np.int64]
    widths: NDArray[np.int64]
    lanes: NDArray[np.int64] | None = None
    fresh: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        assert len(self.clicked) == len(self.following) == self.widths.sum(), "uneven batch"

    def __len__(self) -> int:
        return len(self.clicked)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(E,) int64, which row each event belongs to."""
        return np.concatenate([np.arange(width) for width in self.widths])


class BatchPlan(ABC):
    """All steps of one epoch; memory grows with the clicks and with nothing else."""

    def __init__(
        self, sessions: Sessions, clicks: NDArray[np.int64], events: NDArray[np.int64]
    ) -> None:
        """clicks: every event's click, step after step; events: (steps,) in each step."""
        self.events = len(clicks)
        self._items = sessions.items
        self._clicks = clicks
        self._offsets = np.concatenate([[0], np.cumsum(events)])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def events_before(self, step: int) -> int:
        """Events in all steps before this one."""
        return int(self._offsets[step])

    @abstractmethod
    def __getitem__(self, step: int) -> Batch: ...

    def _pairs(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = self._clicks[self._offsets[step] : self._offsets[step + 1]]
        return self._items[at].astype(np.int64), self._items[at + 1].astype(np.int64)


class SessionParallelBatches(BatchPlan):
    """Session-parallel: every lane one click further in every step."""

    def __init__(self, sessions: Sessions, lanes: int) -> None:
        lengths = _targets(sessions)
        first_step, lane = _assign(lengths, min(lanes, len(sessions)))
        within = _within(lengths)
        step = np.repeat(first_step, lengths) + within
        order = np.lexsort((np.repeat(lane, lengths), step))
        clicks = np.repeat(sessions.offsets[:-1], lengths) + within
        super().__init__(sessions, clicks[order], np.bincount(step))
        self._lane = np.repeat(lane, lengths)[order]
        self._fresh = within[order] == 0

    def __getitem__(self, step: int) -> Batch:
        row = slice(self._offsets[step], self._offsets[step + 1])
        lanes = self._lane[row]
        return Batch(*self._pairs(step), np.array([len(lanes)]), lanes, self._fresh[row])


class WholeSessionBatches(BatchPlan):
    """Whole sessions of like length."""

    def __init__(self, sessions: Sessions, rows: int, longest: int, seed: int) -> None:
        """rows: sessions in a step, about; longest: events of a row, a longer session is cut."""
        starts, lengths = _pieces(sessions, longest)
        events = max(round(rows * float(lengths.mean())), 1)
        order, step_of_row = _bucketed(lengths, events, np.random.default_rng(seed))
        starts, lengths = starts[order], lengths[order]
        within = _within(lengths)
        step = np.repeat(step_of_row, lengths)
        packed = np.lexsort((within, step))  # stable: rows keep their order, longest first
        clicks = np.repeat(starts, lengths) + within
        super().__init__(sessions, clicks[packed], np.bincount(step))
        beyond = int(lengths.max())  # no place within a row is as far
        at, self._widths = np.unique(step * beyond + within, return_counts=True)
        self._width_offsets = np.searchsorted(at // beyond, np.arange(len(self) + 1))

    def __getitem__(self, step: int) -> Batch:
        widths = self._widths[self._width_offsets[step] : self._width_offsets[step + 1]]
        return Batch(*self._pairs(step), widths)


def _targets(sessions: Sessions) -> NDArray[np.int64]:
    lengths = sessions.lengths - 1
    assert lengths.min() >= 1, "sessions of one click have no target: filter them out before"
    return lengths


def _within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each event's place in its row."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _assign(lengths: NDArray[np.int64], lanes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First step and lane of each session: the lane that is free first, the lowest of equals."""
    free = [(0, lane) for lane in range(lanes)]
    first_step = np.empty(len(lengths), dtype=np.int64)
    chosen = np.empty(len(lengths), dtype=np.int64)
    for session, length in enumerate(lengths.tolist()):
        step, lane = free[0]
        first_step[session], chosen[session] = step, lane
        heapq.heapreplace(free, (step + length, lane))
    return first_step, chosen


def _pieces(sessions: Sessions, longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First click and events of each row; a session of more events than `longest` is cut."""
    lengths = _targets(sessions)
    pieces = -(-lengths // longest)
    place = _within(pieces)
    starts = np.repeat(sessions.offsets[:-1], pieces) + place * longest
    left = np.repeat(lengths, pieces) - place * longest
    return starts, np.minimum(left, longest)


def _bucketed(
    lengths: NDArray[np.int64], events: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the rows and each one's step, in that order.

    A few steps' rows are sorted by length together, longest first, and cut into steps of about
    so many events; these steps follow each other in random order.
    """
    mixed = (np.cumsum(lengths) - 1) // (events * STEPS_MIXED)
    order = np.lexsort((-lengths, mixed))
    mixed, sizes = mixed[order], lengths[order]
    total = np.bincount(mixed, sizes)
    cuts = np.maximum(np.rint(total / events), 1)[mixed]  # steps of each mixture, alike in size
    before = np.cumsum(sizes) - sizes
    first = np.searchsorted(mixed, np.arange(len(total)))
    bucket = ((before - before[first][mixed]) * cuts / total[mixed]).astype(np.int64)
    _, step = np.unique(mixed * (int(cuts.max()) + 1) + bucket, return_inverse=True)
    steps = int(step[-1]) + 1
    shuffled = np.lexsort((random.random(steps), mixed[np.searchsorted(step, np.arange(steps))]))
    place = np.empty(steps, dtype=np.int64)
    place[shuffled] = np.arange(steps)
    step = place[step]
    again = np.argsort(step, kind="stable")
    return order[again], step[again]
