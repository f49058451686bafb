"""Mini-batch of one step, its rows in one of several processes, and the plan of an epoch."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Mini-batch of one step: input items, and the target item that follows each of them.

    Clicks are packed as in `torch.nn.utils.rnn.PackedSequence`: the first click of every row, then
    the second click of the rows that have one, and so on.
    """

    inputs: NDArray[np.int64]  # (clicks,) item indices
    targets: NDArray[np.int64]  # (clicks,) item indices
    batch_sizes: NDArray[np.int64]  # (T,) rows that have a first, second, … click; never rises
    # session-parallel batches only: (batch_sizes[0],) rows of the carried state, and whether each
    # begins a new session; None where every row begins from the zero state
    state_rows: NDArray[np.int64] | None = None
    is_new_session: NDArray[np.bool_] | None = None
    # numbers of the types of inputs and targets, (clicks,); None where types do not count
    events: NDArray[np.int64] | None = None
    target_events: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert len(self.inputs) == len(self.targets) == self.batch_sizes.sum(), "uneven batch"

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def row_of_click(self) -> NDArray[np.int64]:
        """Return the row that each click belongs to, (clicks,) int64."""
        return np.concatenate([np.arange(rows) for rows in self.batch_sizes])

    def part_of(self, rank: int, size: int) -> "BatchPart":
        """Return the rows of one of `size` processes; perhaps none, if there are few rows."""
        if size == 1:
            return BatchPart(self)
        row_of_click = self.row_of_click
        numbers = np.arange(self.batch_sizes[0]) if self.state_rows is None else self.state_rows
        own = rows_of_process(numbers, rank, size)
        clicks, rows = np.flatnonzero(own[row_of_click]), np.flatnonzero(own)
        sizes = np.cumsum(own, dtype=np.int64)[self.batch_sizes - 1]  # own among the first rows
        part = Batch(self.inputs[clicks], self.targets[clicks], sizes[sizes > 0])
        if self.events is not None and self.target_events is not None:
            part = dataclasses.replace(
                part, events=self.events[clicks], target_events=self.target_events[clicks]
            )
        if self.state_rows is not None and self.is_new_session is not None:
            part = dataclasses.replace(
                part, state_rows=self.state_rows[rows], is_new_session=self.is_new_session[rows]
            )
        return BatchPart(part, clicks, rows)


@dataclass(frozen=True)
class BatchPart:
    """Rows of one process in a mini-batch that several processes share."""

    batch: Batch  # these rows alone
    clicks: NDArray[np.int64] | None = None  # their clicks in the whole mini-batch; None: all
    rows: NDArray[np.int64] | None = None  # their places in the whole mini-batch; None: all


def rows_of_process(rows: NDArray[np.int64], rank: int, size: int) -> NDArray[np.bool_]:
    """Return whether each row belongs to this process: they take turns, so that lengths even out.

    Args:
        rows: (rows,) int64, numbers of rows: in the mini-batch, longest first, or of carried state.
        rank: Number of the process, from 0.
        size: Number of processes.
    """
    return np.equal(rows % size, rank)


class BatchPlan(ABC):
    """Plan of all steps of one epoch: any step can be read, in any order.

    A plan keeps a few numbers for each group of steps or sessions. The rest is computed again when
    a step is read, so that memory does not grow with the clicks.
    """

    clicks: int  # input clicks of all steps

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, step: int) -> Batch: ...

    @abstractmethod
    def clicks_before(self, step: int) -> int:
        """Return the number of input clicks in all steps before this one."""


def position_in_row(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each click's position in its row, from 0."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
