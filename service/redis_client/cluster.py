"""Redis Cluster: send each call to the server that has its key, to all servers at the same time.

Any server of the cluster gives the map of slots. The map is read again, in the background and at
most twice a second, when a server says that keys have moved or does not answer. A server that is
unavailable degrades the users whose keys it has and no other user.

redis-py's `RedisCluster` cannot promise that. It closes all connections and reads the map again
inside the call that failed, while other calls wait for it; its pipeline fails or retries all
servers together. This module uses redis-py's pool for each server, `key_slot`, and its MOVED and
ASK errors.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from service.redis_client.background_tasks import TaskSet, ThrottledTask
from service.redis_client.connections import ConnectionFailed, Reply
from service.redis_client.server import RedisCall, ServerClient, ServerLimits
from service.redis_client.url import HostPort

CLUSTER_SLOTS = RedisCall(("CLUSTER", "SLOTS"), "", repeatable=True)
# minimum time between two reads of the map; the first server that answers after a failover may not
# know of it yet
READ_MAP_SECONDS = 0.5
UNKNOWN_HOSTS = ("", "?")  # what a server sends that does not know its own name

ServerFactory = Callable[[HostPort, Callable[[], None]], ServerClient]  # (address, on_trouble)


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Map from slots to servers: `servers[i]` has the slots `firsts[i]` to `lasts[i]`."""

    firsts: Sequence[int] = ()
    lasts: Sequence[int] = ()
    servers: Sequence[HostPort] = ()

    @classmethod
    def from_reply(cls, reply: Reply, source: HostPort) -> "SlotMap":
        """Read a reply of CLUSTER SLOTS that the server `source` gave."""
        rows = sorted(
            (first, last, _resolve((primary[0] or b"").decode(), primary[1], source))
            for first, last, primary, *_ in reply
        )
        return cls(*zip(*rows, strict=True)) if rows else cls()

    def server_of(self, slot: int) -> HostPort | None:
        """Return the server of a slot, or None if no server has it."""
        index = bisect_right(self.firsts, slot) - 1
        return self.servers[index] if index >= 0 and slot <= self.lasts[index] else None


class Cluster:
    """Redis Cluster with a map of slots.

    Args:
        seeds: servers to read the first map from.
        new_server: builds the server at an address.
        limits: limits of every server.
    """

    def __init__(
        self, seeds: Sequence[HostPort], new_server: ServerFactory, limits: ServerLimits
    ) -> None:
        self._seeds = seeds
        self._new_server = new_server
        self._limits = limits
        self._servers: dict[HostPort, ServerClient] = {}
        self._map = SlotMap()
        self._map_reading = ThrottledTask(self._read_map, READ_MAP_SECONDS, limits.clock)
        self._closing = TaskSet()

    async def servers(self, deadline: float) -> list[ServerClient]:
        """Return all servers that have keys; none if no server gave a map before `deadline`."""
        await self._wait_for_map(deadline)
        return [self._server_at(address) for address in dict.fromkeys(self._map.servers)]

    async def execute(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none."""
        await self._wait_for_map(deadline)
        replies: list[Reply] = [ConnectionFailed("SlotNotCovered")] * len(calls)
        targets = {
            i: self._map.server_of(key_slot(call.key.encode())) for i, call in enumerate(calls)
        }
        if None in targets.values():
            self._request_map()
        await self._execute_at(calls, targets, replies, deadline)
        if any(isinstance(reply, AskError) for reply in replies):  # MovedError is a subclass
            await self._follow_redirections(calls, targets, replies, deadline)
        return replies

    async def close(self) -> None:
        """Close all connections."""
        await self._map_reading.close()
        await self._closing.close()
        for server in self._servers.values():
            await server.close()

    async def _execute_at(
        self,
        calls: Sequence[RedisCall],
        targets: Mapping[int, HostPort | None],
        replies: list[Reply],
        deadline: float,
        *,
        asking: bool = False,
    ) -> None:
        """Send each server its calls, to all at the same time; put replies in their places.

        targets: index of the call → address of its server.
        """
        indices: dict[HostPort, list[int]] = {}
        for index, address in targets.items():
            if address is not None:
                indices.setdefault(address, []).append(index)

        async def execute(address: HostPort, own: Sequence[int]) -> None:
            server = self._server_at(address)
            received = await server.execute([calls[i] for i in own], deadline, asking=asking)
            for index, reply in zip(own, received, strict=True):
                replies[index] = reply

        if len(indices) == 1:  # no task is needed
            ((address, own),) = indices.items()
            await execute(address, own)
        else:
            await asyncio.gather(*(execute(address, own) for address, own in indices.items()))

    async def _follow_redirections(
        self,
        calls: Sequence[RedisCall],
        targets: Mapping[int, HostPort | None],
        replies: list[Reply],
        deadline: float,
    ) -> None:
        """Send redirected calls, which have not run, to the servers that were named, once."""
        moved: dict[int, HostPort | None] = {}
        migrating: dict[int, HostPort | None] = {}
        for index, reply in enumerate(replies):
            if isinstance(reply, AskError):
                redirected = moved if isinstance(reply, MovedError) else migrating
                redirected[index] = _resolve(reply.host, reply.port, targets[index])
        if moved:
            self._request_map()
            await self._execute_at(calls, moved, replies, deadline)
        if migrating:
            await self._execute_at(calls, migrating, replies, deadline, asking=True)

    def _server_at(self, address: HostPort) -> ServerClient:
        if address not in self._servers:
            self._servers[address] = self._new_server(address, self._request_map)
        return self._servers[address]

    def _request_map(self) -> None:
        self._map_reading.request()

    async def _wait_for_map(self, deadline: float) -> None:
        """Wait for the first map."""
        if not self._map.servers:
            await self._map_reading.wait(deadline)

    async def _read_map(self) -> None:
        """Read the map from the first server that gives one; close servers without keys."""
        for address in dict.fromkeys((*self._map.servers, *self._seeds)):
            deadline = time.monotonic() + self._limits.budget_seconds
            (reply,) = await self._server_at(address).execute([CLUSTER_SLOTS], deadline)
            slot_map = _slot_map(reply, address)
            if slot_map.servers:
                self._map = slot_map
                for unused in self._servers.keys() - set(self._map.servers):
                    self._closing.start(self._servers.pop(unused).close_later())
                return


def _slot_map(reply: Reply, source: HostPort) -> SlotMap:
    """Read a reply of CLUSTER SLOTS; return an empty map if it cannot be read."""
    try:
        return SlotMap.from_reply(reply, source)
    except (LookupError, ValueError, TypeError, AttributeError):  # also an error that Redis sent
        return SlotMap()


def _resolve(host: str, port: int, source: HostPort | None) -> HostPort:
    """Return the address that the server `source` named; without a host it means its own host."""
    return (source[0] if source is not None and host in UNKNOWN_HOSTS else host), port
