"""Redis behind Sentinel: ask the sentinels for the primary, and again when the primary fails.

When the primary does not answer or says that it is a replica, all sentinels are asked at the same
time, in the background and at most four times a second. The answer with the highest configuration
epoch counts, because a sentinel that does not know of a failover yet names the old primary.

redis-py's `Sentinel` is not used. It asks one sentinel after the other, so that a silent one delays
every caller, and takes the first answer. Its pool asks inside the call that needs a connection, and
does not wait for a free connection. Here a sentinel is a `ServerClient` with the same limits and a
circuit breaker of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from service.redis_client.background_tasks import TaskSet, ThrottledTask
from service.redis_client.connections import ConnectionFailed, Reply
from service.redis_client.server import RedisCall, ServerClient, ServerLimits
from service.redis_client.url import HostPort

# minimum time between two discoveries; a sentinel learns of a promotion up to a second late, and
# this adds little to it
DISCOVERY_SECONDS = 0.25
LOG_AGAIN_SECONDS = 10.0
log = logging.getLogger("recsys.service")


class Sentinel:
    """Primary that sentinels name.

    Args:
        sentinels: the sentinels to ask.
        primary_name: the name of the primary in their configuration.
        new_server: builds the server at an address; its second argument is called on trouble.
        limits: limits of every server.
    """

    def __init__(
        self,
        sentinels: Sequence[ServerClient],
        primary_name: str,
        new_server: Callable[[HostPort, Callable[[], None]], ServerClient],
        limits: ServerLimits,
    ) -> None:
        self._sentinels = sentinels
        self._discovery_calls = [
            RedisCall(("SENTINEL", subcommand, primary_name), "", repeatable=True)
            for subcommand in ("GET-MASTER-ADDR-BY-NAME", "MASTER")
        ]
        self._primary_name = primary_name
        self._log_again_at = float("-inf")
        self._new_server = new_server
        self._limits = limits
        self._address: HostPort | None = None
        self._primary: ServerClient | None = None
        self._discovery = ThrottledTask(self._discover, DISCOVERY_SECONDS, limits.clock)
        self._closing = TaskSet()

    async def servers(self, deadline: float) -> list[ServerClient]:
        """Return the primary; an empty list if no sentinel names one before `deadline`."""
        if self._primary is None:
            await self._discovery.wait(deadline)
        return [] if self._primary is None else [self._primary]

    async def execute(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none."""
        for primary in await self.servers(deadline):
            return await primary.execute(calls, deadline)
        return [ConnectionFailed("PrimaryNotFound")] * len(calls)

    async def close(self) -> None:
        """Close all connections."""
        await self._discovery.close()
        await self._closing.close()
        for server in (*self._sentinels, *([self._primary] if self._primary else [])):
            await server.close()

    async def _discover(self) -> None:
        deadline = time.monotonic() + self._limits.timeout_seconds
        replies = await asyncio.gather(
            *(sentinel.execute(self._discovery_calls, deadline) for sentinel in self._sentinels)
        )
        named = [primary for address, state in replies if (primary := _primary(address, state))]
        if named:
            self._use(max(named)[1])
        elif self._limits.clock() >= self._log_again_at:
            self._log_again_at = self._limits.clock() + LOG_AGAIN_SECONDS
            log.warning(
                "None of %d sentinels names a primary %r. Check the name in the URL.",
                len(self._sentinels),
                self._primary_name,
            )

    def _use(self, address: HostPort) -> None:
        if address == self._address:
            return
        if self._primary is not None:
            log.warning("The sentinels name another primary: %s:%d.", *address)
            self._closing.start(self._primary.close_later())
        self._address = address
        self._primary = self._new_server(address, self._request_discovery)

    def _request_discovery(self) -> None:
        self._discovery.request()


def _primary(address: Reply, state: Reply) -> tuple[int, HostPort] | None:
    """Return configuration epoch and address; None if the replies do not hold them."""
    try:
        fields = dict(zip(state[::2], state[1::2], strict=True))
        return int(fields[b"config-epoch"]), (address[0].decode(), int(address[1]))
    except (LookupError, ValueError, TypeError, AttributeError):  # an error, nil, or no such list
        return None
