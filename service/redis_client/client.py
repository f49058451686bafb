"""Calls on Redis within a time budget, whatever Redis does: one server, a cluster, or Sentinel.

redis-py waits up to 59 s for a silent host by default. Here one attempt takes at most the timeout,
all of them at most the budget, and a call is sent a second time only if that does no harm.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from recsys.errors import StoreUnavailable
from service.redis_client.breaker import BreakerConfig, OnStateChange
from service.redis_client.cluster import Cluster
from service.redis_client.connections import ConnectionFailed, Reply, connections_to
from service.redis_client.sentinel import Sentinel
from service.redis_client.server import PING, Events, Limits, RedisCall, Server
from service.redis_client.url import HostPort, Kind, read_url

Observe = Callable[[str, float, str], None]  # (call, seconds, outcome: ok or a reason)
PING_CALL = RedisCall(PING, "", repeatable=True)
PING_SECONDS = 1.0  # a result of `ping` is used again for so long


class Servers(Protocol):
    """One server or many."""

    async def ask(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]: ...
    async def servers(self, deadline: float) -> list[Server]: ...
    async def close(self) -> None: ...


class Single:
    """A Redis that is one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.ask = server.ask
        self.close = server.close

    async def servers(self, _: float) -> list[Server]:
        """Return the one."""
        return [self._server]


class RedisClient:
    """The client of the Redis at a URL.

    observe: called with every round trip and its outcome. on_state_change: called when a server is
    left alone, tried again and trusted again. Raises `ValueError` where the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int,
        budget_ms: int,
        connections: int,
        breaker: BreakerConfig,
        observe: Observe,
        on_state_change: OnStateChange = lambda before, after: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget_ms / 1000
        self._observe = observe
        self._clock = clock
        self._pinging: asyncio.Task[bool] | None = None
        self._ping_expires = float("-inf")
        self.when_forgotten: Callable[[], None] = _nothing  # a server lost our scripts, or all
        limits = Limits(timeout_ms / 1000, self._budget, breaker, clock)
        self._servers = self._servers_at(url, connections, limits, on_state_change)

    def _servers_at(
        self, url: str, connections: int, limits: Limits, on_state_change: OnStateChange
    ) -> Servers:
        address = read_url(url)
        new_connections = connections_to(
            address.options,
            tls=address.tls,
            connections=connections,
            connect_seconds=limits.timeout,
        )

        def new_server(at: HostPort | None, on_trouble: Callable[[], None]) -> Server:
            name = f"{at[0]}:{at[1]}" if at else str(address.options["path"])
            events = Events(on_state_change, lambda: self.when_forgotten(), on_trouble)
            return Server(name, partial(new_connections, at), limits, events)

        if address.kind is Kind.CLUSTER:
            return Cluster(address.hosts, new_server, limits)
        if address.kind is Kind.SINGLE:
            return Single(new_server(address.hosts[0] if address.hosts else None, _nothing))
        to_sentinel = connections_to(
            address.sentinel_options, tls=address.tls, connections=1, connect_seconds=limits.timeout
        )
        quiet = Events(lambda before, after: None, _nothing, _nothing)
        sentinels = [
            Server(f"{host}:{port}", partial(to_sentinel, (host, port)), limits, quiet)
            for host, port in address.hosts
        ]
        return Sentinel(sentinels, address.primary_name, new_server, limits)

    def deadline(self) -> float:
        """Return by when all of Redis must end for what begins now, on the monotonic clock."""
        return time.monotonic() + self._budget

    async def run(
        self, name: str, calls: Sequence[RedisCall], deadline: float | None = None
    ) -> list[Reply | StoreUnavailable]:
        """Return the reply of each call, in order, or why there is none."""
        if not calls:
            return []
        began = time.monotonic()
        replies = await self._servers.ask(calls, deadline or began + self._budget)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        outcome = _kind(errors[0]) if errors else "ok"
        self._observe(name, time.monotonic() - began, outcome)
        if errors:
            return [_reason(r) if isinstance(r, Exception) else r for r in replies]
        return replies

    async def ping(self) -> bool:
        """Return whether every server answered within the budget, now or less than a second ago.

        Callers at the same time share one ping.
        """
        if self._pinging is None or (self._pinging.done() and self._clock() >= self._ping_expires):
            self._pinging = asyncio.create_task(self._ping())
        return await asyncio.shield(self._pinging)

    async def close(self) -> None:
        """Close all connections; no caller may ask any more."""
        if self._pinging is not None:
            await asyncio.wait({self._pinging})
        await self._servers.close()

    async def _ping(self) -> bool:
        began = time.monotonic()
        deadline = began + self._budget
        servers = await self._servers.servers(deadline)
        answers = await asyncio.gather(*(server.ask([PING_CALL], deadline) for server in servers))
        well = bool(answers) and all(answer == [b"PONG"] for answer in answers)
        self._observe("ping", time.monotonic() - began, "ok" if well else "no answer")
        self._ping_expires = self._clock() + PING_SECONDS
        return well


def _nothing() -> None:
    """Do nothing."""


def _reason(failed: Exception) -> StoreUnavailable:
    """Name the kind of a failure, never Redis's own words, which may hold keys."""
    kind = _kind(failed)
    if kind == "breaker":
        return StoreUnavailable("Redis kept failing and is not asked for a moment. Ask again soon.")
    return StoreUnavailable(f"Redis did not do what was asked ({kind}).")


def _kind(failed: Exception) -> str:
    return failed.kind if isinstance(failed, ConnectionFailed) else type(failed).__name__
