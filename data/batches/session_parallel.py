"""Session-parallel mini-batches: in every step each row moves on by one click."""

import bisect
import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.batches.batch import Batch, BatchPlan
from data.batches.selection import Selection
from data.sessions import Sessions

SESSIONS_BETWEEN_MARKS = 1 << 16  # a step is reached from the mark before it


@dataclass(frozen=True)
class _Mark:
    """Rows when the first of some sessions waits, and the step in which it will be taken."""

    session: int
    step: int
    starts: NDArray[np.int64]  # (B,) first click in the log of the session of each row
    lengths: NDArray[np.int64]  # (B,) its input clicks; 0 before the row's first session
    first_steps: NDArray[np.int64]  # (B,) step in which the row took it


class SessionParallelBatches(BatchPlan):
    """Session-parallel mini-batches: in every step each row moves on by one click.

    A mark for every 65,536 sessions is kept. Between two of them the rows are moved on, step by
    step, so that reading in order costs one move a step.
    """

    def __init__(self, sessions: Sessions | Selection, rows: int) -> None:
        """Plan an epoch; `rows`: sessions side by side (B)."""
        self._sessions = Selection.of(sessions)
        self._marks, self._ends = self._walk(min(rows, len(self._sessions)))
        self.clicks = int(self._ends.sum())
        self._rows = _MovingRows(self._sessions, self._marks[0], self._ends)

    def __len__(self) -> int:
        return int(self._ends.max())

    def __getitem__(self, step: int) -> Batch:
        if not self._rows.step <= step <= self._rows.step + 1:
            last = bisect.bisect_right(self._marks, step, key=lambda mark: mark.step) - 1
            self._rows = _MovingRows(self._sessions, self._marks[last], self._ends)
        while self._rows.step < step:
            self._rows.move_on()
        rows, clicks, is_new = self._rows.now()
        return self._sessions.batch(clicks, np.array([len(rows)]), rows, is_new)

    def clicks_before(self, step: int) -> int:
        # a row has one click in each step until its last one
        return int(np.minimum(self._ends, step).sum())

    def _walk(self, rows: int) -> tuple[list[_Mark], NDArray[np.int64]]:
        """Return the marks, and the number of steps of each row, (B,) int64."""
        free = [(0, row) for row in range(rows)]  # the row that is free first, then the lowest
        starts, lengths, first_steps = ([0] * rows for _ in range(3))
        marks = []
        for first in range(0, len(self._sessions.log), SESSIONS_BETWEEN_MARKS):
            state = (np.array(numbers) for numbers in (starts, lengths, first_steps))
            marks.append(_Mark(first, free[0][0], *state))
            for start, length in zip(
                *(a.tolist() for a in _waiting(self._sessions, first)), strict=True
            ):
                step, row = free[0]
                starts[row], lengths[row], first_steps[row] = start, length, step
                heapq.heapreplace(free, (step + length, row))
        ends = np.zeros(rows, dtype=np.int64)
        for step, row in free:
            ends[row] = step
        return marks, ends


class _MovingRows:
    """Rows in one step, which move on to the next one."""

    def __init__(self, sessions: Selection, mark: _Mark, ends: NDArray[np.int64]) -> None:
        """Begin at a mark; ends: (B,) number of steps of each row."""
        self.step = mark.step
        self._sessions, self._ends = sessions, ends
        self._starts, self._lengths = mark.starts.copy(), mark.lengths.copy()
        self._first_steps = mark.first_steps.copy()
        self._chunk = mark.session  # first session of those that were read
        self._waiting = _waiting(sessions, self._chunk)
        self._taken = 0  # of these
        self._take()

    def now(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of this step, the click of each, and whether it begins a session."""
        rows = np.flatnonzero(self.step < self._ends)
        within = self.step - self._first_steps[rows]
        return rows, self._starts[rows] + within, within == 0

    def move_on(self) -> None:
        """Move every row on by one click."""
        self.step += 1
        self._take()

    def _take(self) -> None:
        """Give the next sessions to the rows whose session has ended."""
        ended = self._first_steps + self._lengths == self.step
        rows = np.flatnonzero(ended & (self.step < self._ends))
        while len(rows):
            starts, lengths = self._waiting
            taken = slice(self._taken, self._taken + len(rows))
            now, rows = np.split(rows, [len(starts[taken])])
            self._starts[now], self._lengths[now] = starts[taken], lengths[taken]
            self._first_steps[now] = self.step
            self._taken += len(now)
            if len(rows):
                self._chunk, self._taken = self._chunk + SESSIONS_BETWEEN_MARKS, 0
                self._waiting = _waiting(self._sessions, self._chunk)


def _waiting(sessions: Selection, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first click and number of input clicks of the sessions after a mark."""
    last = min(first + SESSIONS_BETWEEN_MARKS, len(sessions.log))
    _, starts, lengths = sessions.places(first, last)
    assert lengths.min(initial=2) >= 2, "sessions of one click have no target: filter them out"
    return starts, lengths - 1
