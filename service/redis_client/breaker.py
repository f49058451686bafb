"""Circuit breaker: stop sending to a server that keeps failing, then let one request try it again.

The code is our own because no library does all of it. `pybreaker`, `purgatory` and `fluxgate`
measure the pause by the wall clock, so a clock that is set back keeps them open. `purgatory`,
`fluxgate` and `circuitbreaker` let every request try at once. `aiobreaker` has had no release since
2021.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """State of a circuit breaker."""

    CLOSED = "closed"  # all requests are let through
    OPEN = "open"  # no request is let through
    HALF_OPEN = "half-open"  # one trial request is under way


# (before, after); None before the breaker is created and after it is closed for good
OnStateChange = Callable[[BreakerState | None, BreakerState | None], None]


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Number of consecutive failures that open the breaker, and how long it then stays open."""

    failures: int
    pause_seconds: float


class CircuitBreaker:
    """Circuit breaker of one server; it calls `on_state_change` at every change of state."""

    def __init__(
        self,
        config: BreakerConfig,
        on_state_change: OnStateChange,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = BreakerState.CLOSED
        self._config = config
        self._on_state_change = on_state_change
        self._clock = clock
        self._failures = 0
        self._failed_at = float("-inf")
        self._open_until = 0.0
        on_state_change(None, self.state)

    def try_acquire(self) -> bool:
        """Return whether this request may be sent. If so, the caller must report the outcome."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.HALF_OPEN or self._clock() < self._open_until:
            return False
        self._change(BreakerState.HALF_OPEN)
        return True

    def record_success(self) -> None:
        """Reset the count of failures and close the breaker."""
        self._failures = 0
        if self.state is not BreakerState.CLOSED:
            self._change(BreakerState.CLOSED)

    def record_failure(self, began: float) -> None:
        """Count the failure of a request that began at `began`, on the clock of the breaker.

        Requests that were under way at the same time count as one failure.
        """
        if began < self._failed_at:
            return
        self._failed_at = self._clock()
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._config.failures:
            self._open_until = self._failed_at + self._config.pause_seconds
            self._change(BreakerState.OPEN)

    def release(self) -> None:
        """Allow another trial request: the last one ended without an outcome of the server."""
        if self.state is BreakerState.HALF_OPEN:
            self._open_until = self._clock()
            self._change(BreakerState.OPEN)

    def close(self) -> None:
        """Report that the server is no longer in use."""
        self._on_state_change(self.state, None)

    def _change(self, state: BreakerState) -> None:
        before, self.state = self.state, state
        self._on_state_change(before, state)
