"""`Sessions` → session-parallel batches: B lanes, each walking through one session after another.

A lane that finishes its session takes the next waiting one. When none waits the lane ends, so
the last batches are narrower; every session is read to its end. The plan depends on lengths
alone and is made once for all epochs (Hidasi et al., arXiv:1511.06939, section 3.1.1).
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.sessions import Sessions


@dataclass(frozen=True)
class Batch:
    """One step of all lanes that still run.

    clicked, following: (b,) int64 item indices, b ≤ B; fresh: (b,) bool, the lane begins a
    session and its state is zero; lanes: (b,) int64, which rows of the (L, B, W) state these are.
    """

    clicked: NDArray[np.int64]
    following: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    lanes: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert len(self.clicked) == len(self.following) == len(self.fresh) == len(self.lanes), (
            "uneven lanes"
        )

    def __len__(self) -> int:
        return len(self.clicked)


class LanePlan:
    """Every step of one epoch, as rows of a (steps, B) table with -1 where a lane has ended."""

    def __init__(self, sessions: Sessions, lanes: int) -> None:
        lengths = sessions.lengths - 1  # targets in each session
        assert lengths.min() >= 1, "sessions of one click have no target: filter them out before"
        self.events = int(lengths.sum())
        self.lanes = min(lanes, len(sessions))
        first_step, lane = _assign(lengths, self.lanes)
        steps = int((first_step + lengths).max())

        within = np.arange(self.events) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        row = np.repeat(first_step, lengths) + within
        column = np.repeat(lane, lengths)
        click = np.repeat(sessions.offsets[:-1], lengths) + within
        self._clicked = np.full((steps, self.lanes), -1, dtype=np.int64)
        self._following = np.full((steps, self.lanes), -1, dtype=np.int64)
        self._fresh = np.zeros((steps, self.lanes), dtype=bool)
        self._clicked[row, column] = sessions.items[click]
        self._following[row, column] = sessions.items[click + 1]
        self._fresh[row, column] = within == 0

    def __len__(self) -> int:
        return len(self._clicked)

    def events_before(self, step: int) -> int:
        """Targets in all steps before this one."""
        return int((self._clicked[:step] >= 0).sum())

    def __getitem__(self, step: int) -> Batch:
        lanes = np.flatnonzero(self._clicked[step] >= 0)
        return Batch(
            clicked=self._clicked[step, lanes],
            following=self._following[step, lanes],
            fresh=self._fresh[step, lanes],
            lanes=lanes,
        )


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
