"""Clicks that were not stored, by reason: counted, logged, and said by the readiness call."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

FORGOTTEN = "forgotten"  # a repeat from before a DELETE: no failure
LOG_SECONDS = 1.0  # between two log lines
RECENT_SECONDS = 10.0  # for readiness
log = logging.getLogger("recsys.service")


Later = Callable[[float, Callable[[], None]], object]  # (seconds, what is called then)


def _on_loop(seconds: float, action: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, action)


class UnstoredClicks:
    """Record of clicks that were answered `stored: false`.

    count: adds a number of clicks of one reason to a metric. clock: monotonic seconds.

    Reasons are the lower-case codes with which Redis refuses writes (oom, readonly, misconf,
    noreplicas), unavailable (no answer), damaged (the key holds no session) and forgotten.
    """

    def __init__(
        self,
        count: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
        later: Later = _on_loop,
    ) -> None:
        self._count, self._clock, self._later = count, clock, later
        self._last: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()
        self._logged_at = float("-inf")
        self._waiting = False  # for the next log line

    def add(self, reason: str, clicks: int) -> None:
        """Record so many clicks; log them now, or with others a second after the last line."""
        self._count(reason, clicks)
        if reason == FORGOTTEN:
            return
        now = self._clock()
        self._last[reason] = now
        self._unlogged[reason] += clicks
        if now - self._logged_at >= LOG_SECONDS:
            self._log()
        elif not self._waiting:
            self._waiting = True
            self._later(self._logged_at + LOG_SECONDS - now, self._log)

    def recent_reasons(self) -> list[str]:
        """Return the reasons of the last ten seconds, in alphabetical order."""
        since = self._clock() - RECENT_SECONDS
        return sorted(reason for reason, at in self._last.items() if at > since)

    def _log(self) -> None:
        self._logged_at, self._waiting = self._clock(), False
        if self._unlogged:
            found = ", ".join(f"{reason}: {number}" for reason, number in self._unlogged.items())
            log.warning("Clicks were not stored in Redis since the last such line (%s).", found)
            self._unlogged.clear()
