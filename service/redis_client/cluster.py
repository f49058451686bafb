"""A Redis Cluster: send each call to the server that has its key, ask all servers at the same time.

A map of slots is learned from any server, and learned again when one says that keys have moved or
does not answer, in the background and at most twice a second. A server that is away degrades the
users whose keys it has and no others.

redis-py's `RedisCluster` cannot promise that. It closes and learns everything again inside of the
call that failed, while other calls wait for it; its pipeline fails or retries all servers together.
What is used of redis-py is a pool for each server, `key_slot`, and its MOVED and ASK errors.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from service.redis_client.background import BackgroundTasks, Refresh
from service.redis_client.connections import ConnectionFailed, Reply
from service.redis_client.server import Limits, RedisCall, Server
from service.redis_client.url import HostPort

SLOTS = RedisCall(("CLUSTER", "SLOTS"), "", repeatable=True)
LEARN_SECONDS = 0.5  # the first answer after a failover may come from one that has not heard of it
UNKNOWN_HOSTS = ("", "?")  # a server that does not know its own name says these

NewServer = Callable[[HostPort, Callable[[], None]], Server]  # (address, on_trouble)


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Servers by slot: those from `firsts[i]` to `lasts[i]` are at `servers[i]`."""

    firsts: Sequence[int] = ()
    lasts: Sequence[int] = ()
    servers: Sequence[HostPort] = ()

    @classmethod
    def of(cls, reply: Reply, asked: HostPort) -> "SlotMap":
        """Read a reply of CLUSTER SLOTS by the server `asked`."""
        rows = sorted(
            (first, last, _known((primary[0] or b"").decode(), primary[1], asked))
            for first, last, primary, *_ in reply
        )
        return cls(*zip(*rows, strict=True)) if rows else cls()

    def at(self, slot: int) -> HostPort | None:
        """Return the server of a slot; None where it has none."""
        at = bisect_right(self.firsts, slot) - 1
        return self.servers[at] if at >= 0 and slot <= self.lasts[at] else None


class Cluster:
    """The servers of a cluster; `new_server` makes one of them."""

    def __init__(self, seeds: Sequence[HostPort], new_server: NewServer, limits: Limits) -> None:
        self._seeds = seeds
        self._new_server = new_server
        self._limits = limits
        self._servers: dict[HostPort, Server] = {}
        self._map = SlotMap()
        self._learning = Refresh(self._learn, LEARN_SECONDS, limits.clock)
        self._closing = BackgroundTasks()

    async def servers(self, deadline: float) -> list[Server]:
        """Return all that have keys; none where no server has told us."""
        await self._know(deadline)
        return [self._at(server) for server in dict.fromkeys(self._map.servers)]

    async def ask(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none."""
        await self._know(deadline)
        replies: list[Reply] = [ConnectionFailed("SlotNotCovered")] * len(calls)
        places = {at: self._map.at(key_slot(c.key.encode())) for at, c in enumerate(calls)}
        if None in places.values():
            self._learning.soon()
        await self._ask_all(calls, places, replies, deadline)
        if any(isinstance(reply, AskError) for reply in replies):  # MOVED is one, too
            await self._follow(calls, places, replies, deadline)
        return replies

    async def close(self) -> None:
        """Close all connections."""
        await self._learning.close()
        await self._closing.close()
        for server in self._servers.values():
            await server.close()

    async def _ask_all(
        self,
        calls: Sequence[RedisCall],
        places: Mapping[int, HostPort | None],
        replies: list[Reply],
        deadline: float,
        *,
        asking: bool = False,
    ) -> None:
        """Ask each server once, all at the same time; put replies in their places."""
        servers: dict[HostPort, list[int]] = {}
        for at, server in places.items():
            if server is not None:
                servers.setdefault(server, []).append(at)

        async def ask(server: HostPort, mine: Sequence[int]) -> None:
            found = await self._at(server).ask([calls[at] for at in mine], deadline, asking=asking)
            for at, reply in zip(mine, found, strict=True):
                replies[at] = reply

        if len(servers) == 1:  # no task is needed
            ((server, mine),) = servers.items()
            await ask(server, mine)
        else:
            await asyncio.gather(*(ask(server, mine) for server, mine in servers.items()))

    async def _follow(
        self,
        calls: Sequence[RedisCall],
        places: Mapping[int, HostPort | None],
        replies: list[Reply],
        deadline: float,
    ) -> None:
        """Send calls, which did not run where they were sent, to where the server said, once."""
        moved: dict[int, HostPort | None] = {}
        asked: dict[int, HostPort | None] = {}
        for at, reply in enumerate(replies):
            if isinstance(reply, AskError):
                told = moved if isinstance(reply, MovedError) else asked
                told[at] = _known(reply.host, reply.port, places[at])
        if moved:
            self._learning.soon()
            await self._ask_all(calls, moved, replies, deadline)
        if asked:
            await self._ask_all(calls, asked, replies, deadline, asking=True)

    def _at(self, server: HostPort) -> Server:
        if server not in self._servers:
            self._servers[server] = self._new_server(server, self._learning_soon)
        return self._servers[server]

    def _learning_soon(self) -> None:
        self._learning.soon()

    async def _know(self, deadline: float) -> None:
        """Wait for a map, where there is none yet."""
        if not self._map.servers:
            await self._learning.wait(deadline)

    async def _learn(self) -> None:
        """Learn from the first that answers; close servers that have no keys any more."""
        for server in dict.fromkeys((*self._map.servers, *self._seeds)):
            (reply,) = await self._at(server).ask([SLOTS], time.monotonic() + self._limits.budget)
            learned = _slot_map(reply, server)
            if learned.servers:
                self._map = learned
                for gone in self._servers.keys() - set(self._map.servers):
                    self._closing.start(self._servers.pop(gone).close_later())
                return


def _slot_map(reply: Reply, asked: HostPort) -> SlotMap:
    """Read a reply of CLUSTER SLOTS; an empty map where it is none."""
    try:
        return SlotMap.of(reply, asked)
    except (LookupError, ValueError, TypeError, AttributeError):  # also an error that Redis sent
        return SlotMap()


def _known(host: str, port: int, asked: HostPort | None) -> HostPort:
    """Return the address that a server gave; without a host it means its own."""
    return (asked[0] if asked is not None and host in UNKNOWN_HOSTS else host), port
