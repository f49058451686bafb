"""Rate limit: a leaky bucket for each key or, without keys, for each address.

A bucket holds as many requests as the limit allows and empties evenly over its period. A burst is
accepted, and a steady excess is answered with 429. Each process has its own buckets, so a caller
that spreads its connections over several workers or replicas may send as many times more. Shared
buckets would cost a round trip for each request, and would limit no caller while they are down.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from aiolimiter import AsyncLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from service.middleware.auth import is_open
from service.problems import problem

MAX_CALLERS = 10_000  # the bucket that was unused longest is dropped first
PERIOD_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """Number of requests in a number of seconds."""

    requests: int
    seconds: int

    @classmethod
    def of(cls, text: str) -> "Rate":
        """Parse a setting such as `100/second`."""
        requests, _, period = text.partition("/")
        return cls(int(requests), PERIOD_SECONDS[period])

    @property
    def retry_after(self) -> str:
        """Return whole seconds until the bucket has room for one request."""
        return str(max(1, ceil(self.seconds / self.requests)))


class RateLimit:
    """ASGI middleware that answers 429 to callers that exceed the rate.

    Health and pages are never refused, because a page needs its scripts to show an error.
    """

    def __init__(self, app: ASGIApp, rate: Rate) -> None:
        self._app = app
        self._rate = rate
        self._buckets: OrderedDict[bytes | str, AsyncLimiter] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            bucket = self._bucket(scope.get("caller") or _address(scope))
            if not bucket.has_capacity():
                await self._refuse(scope, receive, send)
                return
            await bucket.acquire()  # does not wait, as there is room
        await self._app(scope, receive, send)

    def _bucket(self, caller: bytes | str) -> AsyncLimiter:
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = AsyncLimiter(self._rate.requests, self._rate.seconds)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
        return bucket

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        rate = self._rate
        detail = (
            f"More than {rate.requests:,} requests in {rate.seconds:,} s came from this caller. "
            f"Try again in {rate.retry_after} s."
        )
        answer = problem(429, detail, headers={"Retry-After": rate.retry_after})
        await answer(scope, receive, send)


def _address(scope: Scope) -> str:
    """Return the address at the other end of the connection, which may be that of a proxy."""
    client = scope.get("client")
    return client[0] if client else ""
