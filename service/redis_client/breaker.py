"""Circuit breaker: stop asking a server that keeps failing, then let one request try it again.

Written here, in the few lines it takes, because no library at hand does all of it: `pybreaker`,
`purgatory` and `fluxgate` measure the pause by the wall clock, so that a clock set back keeps them
open; those two and `circuitbreaker` let every request try at once; `aiobreaker` was left in 2021.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """State of a circuit breaker."""

    CLOSED = "closed"  # all requests may ask
    OPEN = "open"  # no request may ask
    HALF_OPEN = "half-open"  # one request has been let through to try


OnStateChange = Callable[[State | None, State | None], None]  # (before, after); None: not there


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Number of failures in a row that open the breaker, and how long it then stays open."""

    failures: int
    pause_seconds: float


class Breaker:
    """Count failures in a row of one server; call `on_state_change` at every change of state."""

    def __init__(
        self,
        config: BreakerConfig,
        on_state_change: OnStateChange,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State.CLOSED
        self._config = config
        self._on_state_change = on_state_change
        self._clock = clock
        self._failures = 0
        self._failed_at = float("-inf")
        self._until = 0.0
        on_state_change(None, self.state)

    def admits(self) -> bool:
        """Return whether this request may ask. A request that may must report how it went."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.HALF_OPEN or self._clock() < self._until:
            return False
        self._change(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """Reset the count; close the breaker."""
        self._failures = 0
        if self.state is not State.CLOSED:
            self._change(State.CLOSED)

    def failed(self, began: float) -> None:
        """Count the failure of a request that began then, on the same clock.

        Requests that were under way together met the same trouble: they count once.
        """
        if began < self._failed_at:
            return
        self._failed_at = self._clock()
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._config.failures:
            self._until = self._failed_at + self._config.pause_seconds
            self._change(State.OPEN)

    def abandoned(self) -> None:
        """Let another request try, where the one that tried gave up for reasons of its own."""
        if self.state is State.HALF_OPEN:
            self._until = self._clock()
            self._change(State.OPEN)

    def close(self) -> None:
        """Report that the server is not in use any more."""
        self._on_state_change(self.state, None)

    def _change(self, state: State) -> None:
        before, self.state = self.state, state
        self._on_state_change(before, state)
