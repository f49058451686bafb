"""Mini-batches of whole sessions of similar length, planned group by group when they are read."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from data.batches.batch import Batch, BatchPlan, position_in_row
from data.batches.selection import SESSIONS_AT_ONCE, Selection
from data.sessions import Sessions
from recsys.ragged import offsets_of

STEPS_MIXED = 16  # steps whose sessions are sorted by length together; more steps mix time more


@dataclass(frozen=True)
class _Rows:
    """Rows of mini-batches: sessions, or the pieces of those that are too long for one row."""

    session: NDArray[np.int64]  # (rows,) number of its session
    piece: NDArray[np.int64]  # (rows,) number among the pieces of that session
    starts: NDArray[np.int64]  # (rows,) first click in the log
    lengths: NDArray[np.int64]  # (rows,) input clicks

    def __len__(self) -> int:
        return len(self.session)

    def part(self, first: int, last: int | None = None) -> "_Rows":
        """Return the rows `first` … `last`-1."""
        now = slice(first, last)
        return _Rows(self.session[now], self.piece[now], self.starts[now], self.lengths[now])


@dataclass(frozen=True)
class _Group:
    """Steps of one group, in their final order."""

    inputs: NDArray[np.int64]  # (clicks,) position of each input click in the log, step by step
    offsets: NDArray[np.int64]  # (steps + 1,) where the clicks of each step begin
    batch_sizes: NDArray[np.int64]  # those of all steps, end to end
    size_offsets: NDArray[np.int64]  # (steps + 1,) where the sizes of each step begin


@dataclass(frozen=True, slots=True)
class _Place:
    """Beginning of a group."""

    session: int  # session of the first row
    piece: int  # piece of this session
    row: int  # number of the first row, step and input click among all
    step: int
    click: int


@dataclass(frozen=True)
class _Groups:
    """Beginnings of all groups, (groups + 1,) int64 each; the last entry is the end of all."""

    session: NDArray[np.int64]
    piece: NDArray[np.int64]
    row: NDArray[np.int64]
    step: NDArray[np.int64]
    click: NDArray[np.int64]

    def at(self, number: int) -> _Place:
        """Return the beginning of one group."""
        return _Place(*(int(getattr(self, field.name)[number]) for field in fields(self)))


class WholeSessionBatches(BatchPlan):
    """Mini-batches of whole sessions of similar length.

    The rows of `STEPS_MIXED` steps form a group. A group is sorted by length, longest first, and
    cut into steps of about as many clicks each, which are then in random order.
    """

    def __init__(self, sessions: Sessions | Selection, rows: int, longest: int, seed: int) -> None:
        """Plan an epoch.

        Args:
            sessions: Sessions of item indices.
            rows: Average number of sessions in a step (B).
            longest: Highest number of input clicks of a row; longer sessions are cut.
            seed: Seed of the order of steps.
        """
        self._sessions = Selection.of(sessions)
        self._longest, self._seed = longest, seed
        self.clicks, all_rows = 0, 0
        for first in range(0, len(self._sessions.log), SESSIONS_AT_ONCE):
            lengths = self._rows(first, first + SESSIONS_AT_ONCE).lengths
            self.clicks, all_rows = self.clicks + int(lengths.sum()), all_rows + len(lengths)
        self._clicks_per_step = max(round(rows * (self.clicks / all_rows)), 1)
        self._groups = self._find_groups()
        self._number, self._group = 0, self._planned(0)  # the group that was read last

    def __len__(self) -> int:
        return int(self._groups.step[-1])

    def __getitem__(self, step: int) -> Batch:
        number, within = self._place(step)
        group = self._read(number)
        clicks = group.inputs[group.offsets[within] : group.offsets[within + 1]]
        sizes = group.batch_sizes[group.size_offsets[within] : group.size_offsets[within + 1]]
        return self._sessions.batch(clicks, sizes)

    def clicks_before(self, step: int) -> int:
        number, within = self._place(step)
        before = int(self._groups.click[number])
        return before if within == 0 else before + int(self._read(number).offsets[within])

    def _place(self, step: int) -> tuple[int, int]:
        """Return the group of a step, and the step's number in the group."""
        number = int(np.searchsorted(self._groups.step, step, side="right")) - 1
        return number, step - int(self._groups.step[number])

    def _rows(self, first: int, last: int) -> _Rows:
        """Return all rows of the sessions first … last-1."""
        session, starts, lengths = self._sessions.places(first, min(last, len(self._sessions.log)))
        lengths = lengths - 1  # clicks that have a next one
        assert lengths.min(initial=1) >= 1, "sessions of one click have no target: filter them out"
        pieces = -(-lengths // self._longest)
        piece = position_in_row(pieces)
        cut = piece * self._longest
        return _Rows(
            np.repeat(session, pieces),
            piece,
            np.repeat(starts, pieces) + cut,
            np.minimum(np.repeat(lengths, pieces) - cut, self._longest),
        )

    def _find_groups(self) -> _Groups:
        """Pass over the lengths of all sessions; return where each group begins."""
        begins: list[NDArray[np.int64]] = []  # (5, groups) each
        session = piece = row = step = click = 0
        end, at_once = len(self._sessions.log), SESSIONS_AT_ONCE
        while session < end:
            rows = self._rows(session, session + at_once).part(piece)
            clicks = click + offsets_of(rows.lengths)
            group = (clicks[1:] - 1) // (self._clicks_per_step * STEPS_MIXED)
            first, whole = np.flatnonzero(np.diff(group, prepend=-1)), len(rows)
            if session + at_once < end:  # the last group may go on
                if len(first) < 2:
                    at_once *= 2
                    continue
                first, whole = first[:-1], int(first[-1])
            _, steps = _bucketed(rows.lengths[:whole], group[:whole], self._clicks_per_step)
            places = [row + first, step + steps[first], clicks[first]]
            begins.append(np.stack([rows.session[first], rows.piece[first], *places]))
            row, step, click = row + whole, step + int(steps[-1]) + 1, int(clicks[whole])
            if whole == len(rows):
                break
            session, piece = int(rows.session[whole]), int(rows.piece[whole])
        return _Groups(*np.column_stack([*begins, [end, 0, row, step, click]]))

    def _read(self, number: int) -> _Group:
        if number != self._number:
            self._number, self._group = number, self._planned(number)
        return self._group

    def _planned(self, number: int) -> _Group:
        """Return the steps of a group."""
        now, then = (self._groups.at(n) for n in (number, number + 1))
        rows = self._rows(now.session, then.session + 1).part(now.piece)
        rows = rows.part(0, then.row - now.row)
        one_group = np.zeros(len(rows), dtype=np.int64)
        order, step = _bucketed(rows.lengths, one_group, self._clicks_per_step)
        bits = np.random.PCG64(self._seed)
        bits.advance(now.step)  # each earlier step has drawn one number
        draws = np.random.Generator(bits).random(int(step[-1]) + 1)
        new_step = np.empty(len(draws), dtype=np.int64)
        new_step[np.argsort(draws, kind="stable")] = np.arange(len(draws))
        step = new_step[step]
        by_step = np.argsort(step, kind="stable")
        order = order[by_step]
        return _packed(rows.starts[order], rows.lengths[order], step[by_step])


def _bucketed(
    lengths: NDArray[np.int64], group: NDArray[np.int64], clicks_per_step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows, and the step of each row in that order, before steps are mixed.

    A group is sorted by length, longest first, and cut into steps of about `clicks_per_step`
    clicks, all of similar size.
    """
    order = np.lexsort((-lengths, group))
    group, sizes = group[order], lengths[order]
    begins = np.diff(group, prepend=-1) != 0
    number, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
    total = np.bincount(number, sizes)
    cuts = np.maximum(np.rint(total / clicks_per_step), 1)[number]
    before = np.cumsum(sizes) - sizes
    bucket = ((before - before[first][number]) * cuts / total[number]).astype(np.int64)
    begins[1:] |= bucket[1:] != bucket[:-1]
    return order, np.cumsum(begins) - 1


def _packed(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], step: NDArray[np.int64]
) -> _Group:
    """Return the clicks of the rows, packed in each step; rows: by step, longest first."""
    within, steps = position_in_row(lengths), int(step[-1]) + 1
    beyond = int(lengths.max())  # no position in a row is as high
    key = np.repeat(step * beyond, lengths) + within
    # stable: rows keep their order; numpy sorts small numbers several times faster
    packed = np.argsort(key.astype(np.min_scalar_type(steps * beyond)), kind="stable")
    at = np.bincount(key, minlength=steps * beyond).reshape(steps, beyond)  # rows by position
    return _Group(
        (np.repeat(starts, lengths) + within)[packed],
        offsets_of(at.sum(axis=1)),
        at[at > 0],
        offsets_of(np.count_nonzero(at, axis=1)),
    )
