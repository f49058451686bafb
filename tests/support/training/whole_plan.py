"""Plans of an epoch as they were made before they were read group by group: all clicks at once.

They are short, take about 60 bytes a click, and are the reference of `data.batches`.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from data.batches.batch import Batch, BatchPlan
from data.batches.whole_sessions import STEPS_MIXED
from data.sessions import Sessions


class _WholePlan(BatchPlan):
    """Plan of all steps, with the positions of all clicks."""

    def __init__(
        self, sessions: Sessions, inputs: NDArray[np.int64], clicks_of_step: NDArray[np.int64]
    ) -> None:
        """Store the plan.

        Args:
            sessions: Sessions of item indices.
            inputs: (clicks,) int64, position of every input click in `sessions`, step by step.
            clicks_of_step: (steps,) int64, number of input clicks in each step.
        """
        self.clicks = len(inputs)
        self._items = sessions.items
        self._inputs = inputs
        self._offsets = np.concatenate([[0], np.cumsum(clicks_of_step)])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def clicks_before(self, step: int) -> int:
        """Return the number of input clicks in all steps before this one."""
        return int(self._offsets[step])

    def _inputs_and_targets(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        clicks = self._inputs[self._offsets[step] : self._offsets[step + 1]]
        return self._items[clicks].astype(np.int64), self._items[clicks + 1].astype(np.int64)


class SessionParallelAtOnce(_WholePlan):
    """Session-parallel mini-batches: in every step each row moves on by one click."""

    def __init__(self, sessions: Sessions, rows: int) -> None:
        """Plan an epoch; `rows`: sessions side by side (B)."""
        lengths = _input_clicks(sessions)
        first_step, row = _assign(lengths, min(rows, len(sessions)))
        within = _position_in_row(lengths)
        step = np.repeat(first_step, lengths) + within
        order = np.lexsort((np.repeat(row, lengths), step))
        inputs = np.repeat(sessions.offsets[:-1], lengths) + within
        super().__init__(sessions, inputs[order], np.bincount(step))
        self._row = np.repeat(row, lengths)[order]
        self._is_new_session = within[order] == 0

    def __getitem__(self, step: int) -> Batch:
        now = slice(self._offsets[step], self._offsets[step + 1])
        rows = self._row[now]
        return Batch(
            *self._inputs_and_targets(step), np.array([len(rows)]), rows, self._is_new_session[now]
        )


class WholeSessionsAtOnce(_WholePlan):
    """Mini-batches of whole sessions of similar length."""

    def __init__(self, sessions: Sessions, rows: int, longest: int, seed: int) -> None:
        """Plan an epoch.

        Args:
            sessions: Sessions of item indices.
            rows: Average number of sessions in a step (B).
            longest: Highest number of input clicks of a row; longer sessions are cut.
            seed: Seed of the order of steps.
        """
        starts, lengths = _pieces(sessions, longest)
        clicks_per_step = max(round(rows * float(lengths.mean())), 1)
        order, step_of_row = _bucketed(lengths, clicks_per_step, np.random.default_rng(seed))
        starts, lengths = starts[order], lengths[order]
        within = _position_in_row(lengths)
        step = np.repeat(step_of_row, lengths)
        packed = np.lexsort((within, step))  # stable: rows keep their order, longest first
        inputs = np.repeat(starts, lengths) + within
        super().__init__(sessions, inputs[packed], np.bincount(step))
        beyond = int(lengths.max())  # no position in a row is as high
        at, self._batch_sizes = np.unique(step * beyond + within, return_counts=True)
        self._size_offsets = np.searchsorted(at // beyond, np.arange(len(self) + 1))

    def __getitem__(self, step: int) -> Batch:
        sizes = self._batch_sizes[self._size_offsets[step] : self._size_offsets[step + 1]]
        return Batch(*self._inputs_and_targets(step), sizes)


def _input_clicks(sessions: Sessions) -> NDArray[np.int64]:
    """Return each session's number of clicks that have a next click, (sessions,) int64."""
    lengths = sessions.lengths - 1
    assert lengths.min() >= 1, "sessions of one click have no target: filter them out before"
    return lengths


def _position_in_row(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each click's position in its row, from 0."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _assign(lengths: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each session's first step and row: the row that is free first, then the lowest."""
    free = [(0, row) for row in range(rows)]
    first_step = np.empty(len(lengths), dtype=np.int64)
    row_of_session = np.empty(len(lengths), dtype=np.int64)
    for session, length in enumerate(lengths.tolist()):
        step, row = free[0]
        first_step[session], row_of_session[session] = step, row
        heapq.heapreplace(free, (step + length, row))
    return first_step, row_of_session


def _pieces(sessions: Sessions, longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first click and length of each row; sessions longer than `longest` become several."""
    lengths = _input_clicks(sessions)
    pieces = -(-lengths // longest)
    piece = _position_in_row(pieces)
    starts = np.repeat(sessions.offsets[:-1], pieces) + piece * longest
    remaining = np.repeat(lengths, pieces) - piece * longest
    return starts, np.minimum(remaining, longest)


def _bucketed(
    lengths: NDArray[np.int64], clicks_per_step: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows, and the step of each row in that order.

    The rows of `STEPS_MIXED` steps form a group. A group is sorted by length, longest first, and
    cut into steps of about `clicks_per_step` clicks, which are then in random order.
    """
    group = (np.cumsum(lengths) - 1) // (clicks_per_step * STEPS_MIXED)
    order = np.lexsort((-lengths, group))
    group, sizes = group[order], lengths[order]
    total = np.bincount(group, sizes)
    # number of steps of each row's group, all of similar size
    cuts = np.maximum(np.rint(total / clicks_per_step), 1)[group]
    before = np.cumsum(sizes) - sizes
    first = np.searchsorted(group, np.arange(len(total)))
    bucket = ((before - before[first][group]) * cuts / total[group]).astype(np.int64)
    _, step = np.unique(group * (int(cuts.max()) + 1) + bucket, return_inverse=True)
    steps = int(step[-1]) + 1
    shuffled = np.lexsort((random.random(steps), group[np.searchsorted(step, np.arange(steps))]))
    new_step = np.empty(steps, dtype=np.int64)
    new_step[shuffled] = np.arange(steps)
    step = new_step[step]
    by_step = np.argsort(step, kind="stable")
    return order[by_step], step[by_step]
