"""Clicks that were not stored, by reason: counted, logged, and said by the readiness call."""

import logging
import time
from collections import Counter
from collections.abc import Callable

FORGOTTEN = "forgotten"  # a repeat from before a DELETE: no failure
LOG_SECONDS = 1.0  # between two log lines
RECENT_SECONDS = 10.0  # for readiness
log = logging.getLogger("recsys.service")


class UnstoredClicks:
    """Record of clicks that were answered `stored: false`.

    count: adds a number of clicks of one reason to a metric. clock: monotonic seconds.

    Reasons are the lower-case codes with which Redis refuses writes (oom, readonly, misconf,
    noreplicas), unavailable (no answer), damaged (the key holds no session) and forgotten.
    """

    def __init__(
        self, count: Callable[[str, int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count, self._clock = count, clock
        self._last: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def add(self, reason: str, clicks: int) -> None:
        self._count(reason, clicks)
        if reason == FORGOTTEN:
            return
        now = self._clock()
        self._last[reason] = now
        self._unlogged[reason] += clicks
        if now - self._logged_at < LOG_SECONDS:
            return
        found = ", ".join(f"{reason}: {number}" for reason, number in self._unlogged.items())
        log.warning("Clicks were not stored in Redis since the last such line (%s).", found)
        self._unlogged.clear()
        self._logged_at = now

    def recent_reasons(self) -> list[str]:
        """Return the reasons of the last ten seconds, in alphabetical order."""
        since = self._clock() - RECENT_SECONDS
        return sorted(reason for reason, at in self._last.items() if at > since)
