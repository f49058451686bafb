"""Redis client that answers within a time budget: one server, a Cluster, or Sentinel.

redis-py waits up to 59 s for a silent host by default. Here one attempt takes at most the timeout,
all attempts together take at most the budget, and a call is sent a second time only if it is
repeatable.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from recsys.errors import StoreUnavailable
from service.redis_client.breaker import BreakerConfig, OnStateChange
from service.redis_client.cluster import Cluster
from service.redis_client.connections import ConnectionFailed, Reply, pool_factory
from service.redis_client.sentinel import Sentinel
from service.redis_client.server import PING, RedisCall, ServerCallbacks, ServerClient, ServerLimits
from service.redis_client.url import DeploymentKind, HostPort, read_url

Observe = Callable[[str, float, str], None]  # (name of the batch, seconds, ok or failure)
PING_CALL = RedisCall(PING, "", repeatable=True)
PING_SECONDS = 1.0  # for so long `ping` returns its last result


class Deployment(Protocol):
    """Interface of a Redis deployment: a single server, a Cluster, or servers behind Sentinel."""

    async def execute(self, calls: Sequence[RedisCall], deadline: float) -> list[Reply]: ...
    async def servers(self, deadline: float) -> list[ServerClient]: ...
    async def close(self) -> None: ...


class SingleServer:
    """Deployment of one server."""

    def __init__(self, server: ServerClient) -> None:
        self._server = server
        self.execute = server.execute
        self.close = server.close

    async def servers(self, _: float) -> list[ServerClient]:
        """Return the server."""
        return [self._server]


class RedisClient:
    """Client of the Redis deployment at a URL.

    Args:
        url: where Redis is and how to connect to it; url.py has the forms.
        timeout_ms: time limit of one connect and of one round trip.
        budget_ms: time limit of a batch with all attempts.
        connections: maximum number of connections to each server.
        breaker: settings of each server's circuit breaker.
        observe: called after every batch with its name, its seconds, and "ok" or the first failure.
        on_state_change: called when a server's circuit breaker changes its state.
        clock: monotonic seconds, for the breaker and for pauses.

    Raises:
        ValueError: if the URL cannot be used.
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
        self._budget_seconds = budget_ms / 1000
        self._observe = observe
        self._clock = clock
        self._pinging: asyncio.Task[bool] | None = None
        self._ping_expires = float("-inf")
        # called when a server does not know our scripts: it may have lost all of its data
        self.on_scripts_lost: Callable[[], None] = _nothing
        limits = ServerLimits(timeout_ms / 1000, self._budget_seconds, breaker, clock)
        self._deployment = self._deployment_at(url, connections, limits, on_state_change)

    def _deployment_at(
        self, url: str, connections: int, limits: ServerLimits, on_state_change: OnStateChange
    ) -> Deployment:
        target = read_url(url)
        new_pool = pool_factory(
            target.options,
            tls=target.tls,
            connections=connections,
            connect_seconds=limits.timeout_seconds,
        )

        def new_server(address: HostPort | None, on_trouble: Callable[[], None]) -> ServerClient:
            name = f"{address[0]}:{address[1]}" if address else str(target.options["path"])
            callbacks = ServerCallbacks(on_state_change, lambda: self.on_scripts_lost(), on_trouble)
            return ServerClient(name, partial(new_pool, address), limits, callbacks)

        if target.kind is DeploymentKind.CLUSTER:
            return Cluster(target.hosts, new_server, limits)
        if target.kind is DeploymentKind.SINGLE:
            return SingleServer(new_server(target.hosts[0] if target.hosts else None, _nothing))
        new_sentinel_pool = pool_factory(
            target.sentinel_options,
            tls=target.tls,
            connections=1,
            connect_seconds=limits.timeout_seconds,
        )
        silent = ServerCallbacks(lambda before, after: None, _nothing, _nothing)
        sentinels = [
            ServerClient(f"{host}:{port}", partial(new_sentinel_pool, (host, port)), limits, silent)
            for host, port in target.hosts
        ]
        return Sentinel(sentinels, target.primary_name, new_server, limits)

    def deadline(self) -> float:
        """Return the monotonic time by which all calls of a request that begins now must end."""
        return time.monotonic() + self._budget_seconds

    async def run(
        self, name: str, calls: Sequence[RedisCall], deadline: float | None = None
    ) -> list[Reply | StoreUnavailable]:
        """Run calls in one batch.

        Args:
            name: name of the batch, for `observe`.
            calls: the calls. Those on keys of one server run in this order.
            deadline: monotonic time by which all must end; None means `deadline()`.

        Returns:
            The reply of each call, in order. It is `StoreUnavailable` where the call failed.
        """
        if not calls:
            return []
        began = time.monotonic()
        replies = await self._deployment.execute(calls, deadline or began + self._budget_seconds)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        outcome = _failure_kind(errors[0]) if errors else "ok"
        self._observe(name, time.monotonic() - began, outcome)
        if errors:
            return [_unavailable(r) if isinstance(r, Exception) else r for r in replies]
        return replies

    async def ask_servers(self, call: RedisCall) -> list[Reply | StoreUnavailable]:
        """Return the reply of each server to a call without keys."""
        deadline = self.deadline()
        servers = await self._deployment.servers(deadline)
        replies = await asyncio.gather(*(s.execute([call], deadline) for s in servers))
        return [_unavailable(r) if isinstance(r, Exception) else r for (r,) in replies]

    async def ping(self) -> bool:
        """Return whether every server answered within the budget, now or less than a second ago.

        Callers at the same time share one ping.
        """
        if self._pinging is None or (self._pinging.done() and self._clock() >= self._ping_expires):
            self._pinging = asyncio.create_task(self._ping())
        return await asyncio.shield(self._pinging)

    async def close(self) -> None:
        """Close all connections. No call may be made afterwards."""
        if self._pinging is not None:
            await asyncio.wait({self._pinging})
        await self._deployment.close()

    async def _ping(self) -> bool:
        began = time.monotonic()
        replies = await self.ask_servers(PING_CALL)
        healthy = bool(replies) and all(reply == b"PONG" for reply in replies)
        self._observe("ping", time.monotonic() - began, "ok" if healthy else "no answer")
        self._ping_expires = self._clock() + PING_SECONDS
        return healthy


def _nothing() -> None:
    """Do nothing."""


def _unavailable(error: Exception) -> StoreUnavailable:
    """Build the error to return. It names the kind of failure, never Redis's text with its keys."""
    kind = _failure_kind(error)
    if kind == "breaker":
        return StoreUnavailable(
            "Redis failed several times in a row, so no request is sent to it for a moment. "
            "Ask again soon."
        )
    return StoreUnavailable(f"A Redis command failed or got no reply ({kind}). Ask again soon.")


def _failure_kind(error: Exception) -> str:
    return error.kind if isinstance(error, ConnectionFailed) else type(error).__name__
