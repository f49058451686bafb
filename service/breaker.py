"""A server that keeps failing is left alone for a moment; then one request tries, then all may.

Written here, in the few lines it takes, because no library at hand does all of it: `pybreaker`,
`purgatory` and `fluxgate` measure the pause by the wall clock, so that a clock set back keeps them
open; those two and `circuitbreaker` let everybody try at once; `aiobreaker` was left in 2021.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Closed as an electrician says it: the current flows."""

    CLOSED = "closed"  # everybody may ask
    OPEN = "open"  # nobody may
    HALF_OPEN = "half-open"  # one has been let through to try


Moved = Callable[[State | None, State | None], None]  # (before, after); None: not there


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures in a row are borne, and how long a server is left alone after them."""

    failures: int
    pause_seconds: float


class Breaker:
    """Counts failures in a row of one server; `moved` is told of every change of state."""

    def __init__(
        self, patience: Patience, moved: Moved, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.state = State.CLOSED
        self._patience = patience
        self._moved = moved
        self._clock = clock
        self._failures = 0
        self._failed_at = float("-inf")
        self._until = 0.0
        moved(None, self.state)

    def admits(self) -> bool:
        """May this request ask? Who is let through must say how it went."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.HALF_OPEN or self._clock() < self._until:
            return False
        self._move(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self.state is not State.CLOSED:
            self._move(State.CLOSED)

    def failed(self, began: float) -> None:
        """A request begun then, on the same clock, has failed.

        What was under way when another one failed met the same hiccup, and is not counted again.
        """
        if began < self._failed_at:
            return
        self._failed_at = self._clock()
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._patience.failures:
            self._until = self._failed_at + self._patience.pause_seconds
            self._move(State.OPEN)

    def close(self) -> None:
        """The server is not one of ours any more."""
        self._moved(self.state, None)

    def _move(self, state: State) -> None:
        before, self.state = self.state, state
        self._moved(before, state)
