"""Redis behind Sentinel: ask the sentinels which server is the primary, again when it fails.

All sentinels are asked at the same time, in the background, when the primary does not answer or
says that it is a replica, at most four times a second. The answer with the highest configuration
epoch counts: a sentinel that has not heard of a failover yet names the server before it.

redis-py's `Sentinel` asks one sentinel after the other, so that a silent one delays all, and takes
the first answer; its pool does so inside of the call that needs a connection, and does not wait for
a free one. Here a sentinel is a `Server` like any other: it has the same limits, and it is left
alone while it fails.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from service.redis_client.background import BackgroundTasks, Refresh
from service.redis_client.connections import ConnectionFailed, Reply
from service.redis_client.server import Limits, RedisCall, Server
from service.redis_client.url import HostPort

LOOK_SECONDS = 0.25  # a sentinel learns of a promotion up to a second late; this adds little to it
SAY_AGAIN_SECONDS = 10.0
log = logging.getLogger("recsys.service")


class Sentinel:
    """The primary that sentinels name; `new_server` makes a server (address, on_trouble)."""

    def __init__(
        self,
        sentinels: Sequence[Server],
        primary_name: str,
        new_server: Callable[[HostPort, Callable[[], None]], Server],
        limits: Limits,
    ) -> None:
        self._sentinels = sentinels
        self._questions = [
            RedisCall(("SENTINEL", question, primary_name), "", repeatable=True)
            for question in ("GET-MASTER-ADDR-BY-NAME", "MASTER")
        ]
        self._primary_name = primary_name
        self._say_again = float("-inf")
        self._new_server = new_server
        self._limits = limits
        self._address: HostPort | None = None
        self._primary: Server | None = None
        self._looking = Refresh(self._look, LOOK_SECONDS, limits.clock)
        self._closing = BackgroundTasks()

    async def servers(self, deadline: float) -> list[Server]:
        """Return the primary; nothing where no sentinel has named it."""
        if self._primary is None:
            await self._looking.wait(deadline)
        return [] if self._primary is None else [self._primary]

    async def ask(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none."""
        for primary in await self.servers(deadline):
            return await primary.ask(calls, deadline)
        return [ConnectionFailed("PrimaryNotFound")] * len(calls)

    async def close(self) -> None:
        """Close all connections."""
        await self._looking.close()
        await self._closing.close()
        for server in (*self._sentinels, *([self._primary] if self._primary else [])):
            await server.close()

    async def _look(self) -> None:
        until = time.monotonic() + self._limits.timeout
        answers = await asyncio.gather(
            *(sentinel.ask(self._questions, until) for sentinel in self._sentinels)
        )
        named = [found for address, state in answers if (found := _named(address, state))]
        if named:
            self._use(max(named)[1])
        elif self._limits.clock() >= self._say_again:
            self._say_again = self._limits.clock() + SAY_AGAIN_SECONDS
            log.warning(
                "None of %d sentinels names a primary %r. Is the name in the URL right?",
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
        self._primary = self._new_server(address, self._look_soon)

    def _look_soon(self) -> None:
        self._looking.soon()


def _named(address: Reply, state: Reply) -> tuple[int, HostPort] | None:
    """Return configuration epoch and address; None where the sentinel does not give them."""
    try:
        fields = dict(zip(state[::2], state[1::2], strict=True))
        return int(fields[b"config-epoch"]), (address[0].decode(), int(address[1]))
    except (LookupError, ValueError, TypeError, AttributeError):  # an error, nil, or no such list
        return None
