"""A Redis Cluster: each call goes to the server that has its key, all servers are asked at once.

Which server has which keys is learned from any of them, and learned again when one says that keys
have moved or does not answer, at most once a second. A server that is away degrades the users whose
keys it has, nobody else.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from service.redis_line import ConnectionFailed, Reply
from service.redis_node import Call, Node
from service.redis_url import Server

SLOTS = Call(("CLUSTER", "SLOTS"), "", repeatable=True)
RENEW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Map:
    """Which server has which slots: those from `firsts[i]` to `lasts[i]` are at `servers[i]`."""

    firsts: Sequence[int] = ()
    lasts: Sequence[int] = ()
    servers: Sequence[Server] = ()

    @classmethod
    def of(cls, reply: Reply, asked: Server) -> "Map":
        """From CLUSTER SLOTS; a server that does not know its own name is the one we asked."""
        rows = sorted(
            (first, last, (master[0].decode() if master[0] else asked[0], master[1]))
            for first, last, master, *_ in reply
        )
        return cls(*zip(*rows, strict=True)) if rows else cls()

    def at(self, slot: int) -> Server | None:
        at = bisect_right(self.firsts, slot) - 1
        return self.servers[at] if at >= 0 and slot <= self.lasts[at] else None


class Cluster:
    """The servers of a cluster; `node` makes one of them, `timeout` is for one round trip."""

    def __init__(
        self, seeds: Sequence[Server], node: Callable[[Server], Node], timeout: float
    ) -> None:
        self._seeds = seeds
        self._node = node
        self._timeout = timeout
        self._nodes: dict[Server, Node] = {}
        self._map = Map()
        self._learning: asyncio.Task[None] | None = None
        self._learned_at = float("-inf")

    async def nodes(self, deadline: float) -> list[Node]:
        """All that have keys; none where nobody has told us."""
        await self._know(deadline)
        return [self._at(server) for server in dict.fromkeys(self._map.servers)]

    async def ask(self, calls: Sequence[Call], deadline: float) -> list[Reply]:
        """A reply each, in order; an exception where there is none."""
        await self._know(deadline)
        replies: list[Reply] = [ConnectionFailed("SlotNotCovered")] * len(calls)
        found = {at: self._map.at(key_slot(c.key.encode())) for at, c in enumerate(calls)}
        await self._ask_all(calls, found, replies, deadline)
        if any(isinstance(reply, Exception) for reply in replies):
            await self._follow(calls, replies, deadline)
        return replies

    async def close(self) -> None:
        if self._learning is not None:
            await asyncio.wait({self._learning}, timeout=self._timeout)
        for node in self._nodes.values():
            await node.close()

    async def _ask_all(
        self,
        calls: Sequence[Call],
        places: Mapping[int, Server | None],
        replies: list[Reply],
        deadline: float,
        *,
        asking: bool = False,
    ) -> None:
        """Each server once, all at the same time; replies are put in their places."""
        servers: dict[Server, list[int]] = {}
        for at, server in places.items():
            if server is not None:
                servers.setdefault(server, []).append(at)

        async def ask(server: Server, mine: Sequence[int]) -> None:
            node = self._at(server)
            found = await node.ask([calls[at] for at in mine], deadline, asking=asking)
            for at, reply in zip(mine, found, strict=True):
                replies[at] = reply

        if len(servers) == 1:  # no task is needed
            ((server, mine),) = servers.items()
            await ask(server, mine)
        else:
            await asyncio.gather(*(ask(server, mine) for server, mine in servers.items()))

    async def _follow(self, calls: Sequence[Call], replies: list[Reply], deadline: float) -> None:
        """Calls that a server sent elsewhere did not run there; they go where it said, once."""
        moved = {at: (r.host, r.port) for at, r in enumerate(replies) if isinstance(r, MovedError)}
        asked = {
            at: (r.host, r.port)
            for at, r in enumerate(replies)
            if isinstance(r, AskError) and at not in moved
        }
        if moved or any(isinstance(r, ConnectionFailed | ClusterDownError) for r in replies):
            self._learn_soon()
        if moved:
            await self._ask_all(calls, moved, replies, deadline)
        if asked:
            await self._ask_all(calls, asked, replies, deadline, asking=True)

    def _at(self, server: Server) -> Node:
        if server not in self._nodes:
            self._nodes[server] = self._node(server)
        return self._nodes[server]

    async def _know(self, deadline: float) -> None:
        """Wait for a map, where there is none yet."""
        if self._map.servers:
            return
        learning = self._learn_soon()
        if learning is not None:
            await asyncio.wait({learning}, timeout=max(deadline - time.monotonic(), 0))

    def _learn_soon(self) -> "asyncio.Task[None] | None":
        """Who is learning, if anybody; nobody where it was tried a moment ago."""
        busy = self._learning is not None and not self._learning.done()
        if not busy and time.monotonic() >= self._learned_at + RENEW_SECONDS:
            self._learned_at = time.monotonic()
            self._learning = asyncio.create_task(self._learn())
            busy = True
        return self._learning if busy else None

    async def _learn(self) -> None:
        """From the first that answers; servers that have no keys any more are let go."""
        for server in dict.fromkeys((*self._map.servers, *self._seeds)):
            within = time.monotonic() + 2 * self._timeout  # to connect, and for the answer
            (reply,) = await self._at(server).ask([SLOTS], within)
            if isinstance(reply, list) and reply:
                self._map = Map.of(reply, server)
                for gone in self._nodes.keys() - set(self._map.servers):
                    await self._nodes.pop(gone).close()
                return
