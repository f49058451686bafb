"""Record of clicks that were not stored, by reason: for the metric, the log and readiness."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextvars import Context

FORGOTTEN = "forgotten"  # a repeat of a click from before a DELETE, which is no failure
LOG_SECONDS = 1.0  # minimum time between two log lines
RECENT_SECONDS = 10.0  # how long the readiness call names a reason
log = logging.getLogger("recsys.service")

CallLater = Callable[[float, Callable[[], None]], object]  # (seconds, function to call then)


def _call_later(seconds: float, action: Callable[[], None]) -> None:
    # in a context of its own: the line is about clicks of several requests
    asyncio.get_running_loop().call_later(seconds, action, context=Context())


class UnstoredClicks:
    """Record of clicks that were answered with `stored: false`.

    Reasons are the lower-case codes with which Redis refuses writes (oom, readonly, misconf,
    noreplicas), feedback (the stream of the user is full), unavailable (no answer), damaged (the
    key holds no session) and forgotten.

    Args:
        count: adds a number of clicks with one reason to a metric.
        clock: monotonic seconds.
        call_later: schedules a function; the running event loop does it by default.
    """

    def __init__(
        self,
        count: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater = _call_later,
    ) -> None:
        self._count, self._clock, self._call_later = count, clock, call_later
        self._last_seen: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()
        self._logged_at = float("-inf")
        self._log_scheduled = False

    def add(self, reason: str, clicks: int) -> None:
        """Record a number of clicks. Log them now, or together a second after the last line."""
        self._count(reason, clicks)
        if reason == FORGOTTEN:
            return
        now = self._clock()
        self._last_seen[reason] = now
        self._unlogged[reason] += clicks
        if now - self._logged_at >= LOG_SECONDS:
            self._log()
        elif not self._log_scheduled:
            self._log_scheduled = True
            self._call_later(self._logged_at + LOG_SECONDS - now, self._log)

    def recent_reasons(self) -> list[str]:
        """Return the reasons of the last ten seconds, in alphabetical order."""
        since = self._clock() - RECENT_SECONDS
        return sorted(reason for reason, at in self._last_seen.items() if at > since)

    def _log(self) -> None:
        self._logged_at, self._log_scheduled = self._clock(), False
        if self._unlogged:
            counts = ", ".join(f"{reason}: {number}" for reason, number in self._unlogged.items())
            log.warning(
                "Redis did not store clicks since the last such line (%s). "
                "docs/redis.md explains the reasons.",
                counts,
            )
            self._unlogged.clear()
