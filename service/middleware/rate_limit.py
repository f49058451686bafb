"""How often one caller may call: a leaky bucket for each key or, without keys, for each address.

A bucket holds as many requests as the limit names and empties evenly over its period: a burst is
taken, a steady excess is 429. Buckets are this process's own. With several workers or replicas a
caller who spreads its connections over them may thus do as many times more; a shared count would
cost a round trip a request, and would have to let everybody in whenever it is away.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from aiolimiter import AsyncLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from service.middleware.auth import is_open
from service.problems import problem

MOST_CALLERS = 10_000  # beyond that, who has been away longest begins anew
SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    requests: int
    seconds: int

    @classmethod
    def of(cls, text: str) -> "Rate":
        """Of the setting: `100/second`."""
        requests, _, period = text.partition("/")
        return cls(int(requests), SECONDS[period])

    @property
    def retry_after(self) -> str:
        """Whole seconds until the bucket has room for one more."""
        return str(max(1, ceil(self.seconds / self.requests)))


class RateLimit:
    """ASGI middleware: answers 429 to who calls too often.

    Health and pages are never refused: a page without its scripts could not even say what is wrong.
    """

    def __init__(self, app: ASGIApp, rate: Rate) -> None:
        self._app = app
        self._rate = rate
        self._buckets: OrderedDict[bytes | str, AsyncLimiter] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            bucket = self._bucket(scope.get("caller") or _address(scope))
            if not bucket.has_capacity():
                await self._too_often(scope, receive, send)
                return
            await bucket.acquire()  # at once, as there is room
        await self._app(scope, receive, send)

    def _bucket(self, caller: bytes | str) -> AsyncLimiter:
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = AsyncLimiter(self._rate.requests, self._rate.seconds)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
        return bucket

    async def _too_often(self, scope: Scope, receive: Receive, send: Send) -> None:
        rate = self._rate
        detail = (
            f"More than {rate.requests:,} requests in {rate.seconds:,} s came from this caller. "
            f"Ask again in {rate.retry_after} s."
        )
        answer = problem(429, detail, headers={"Retry-After": rate.retry_after})
        await answer(scope, receive, send)


def _address(scope: Scope) -> str:
    """Of whoever holds the other end of the connection; behind a proxy that is the proxy."""
    client = scope.get("client")
    return client[0] if client else ""
