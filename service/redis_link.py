"""Calls on Redis within a time budget, whatever Redis does, whether one server or a cluster.

redis-py waits up to 59 s for a silent host by default. Here one connect or one round trip takes at
most the timeout, all of it at most the budget, and a call is sent a second time only if that does
no harm. A wait for a reply is never cancelled: a cancelled one would leave its reply in the
connection for somebody else.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from recsys.errors import StoreUnavailable
from service.breaker import Moved, Patience
from service.redis_cluster import Cluster
from service.redis_line import ConnectionFailed, Reply, lines_to
from service.redis_node import Call, Limits, Node
from service.redis_url import Server, read_url

Observe = Callable[[str, float, str], None]  # (call, seconds, outcome: ok or a reason)
PING = Call(("PING",), "", repeatable=True)


class Servers(Protocol):
    """One server or many."""

    async def ask(self, calls: Sequence[Call], deadline: float) -> list[Reply]: ...
    async def nodes(self, deadline: float) -> list[Node]: ...
    async def close(self) -> None: ...


class Single:
    """A Redis that is one server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.ask = node.ask
        self.close = node.close

    async def nodes(self, _: float) -> list[Node]:
        return [self._node]


class RedisLink:
    """The way to Redis.

    observe: told of every round trip and its outcome. moved: told when a server is left alone,
    tried again and trusted again. Raises `ValueError` where the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int,
        budget_ms: int,
        connections: int,
        patience: Patience,
        observe: Observe,
        moved: Moved = lambda before, after: None,
    ) -> None:
        address = read_url(url)
        limits = Limits(timeout_ms / 1000, connections, patience)
        self._budget = budget_ms / 1000
        self._observe = observe
        self.when_forgotten: Callable[[], None] = _nothing  # a server lost our scripts, or all

        line_to = lines_to(address)

        def node(server: Server | None) -> Node:
            name = f"{server[0]}:{server[1]}" if server else str(address.options["path"])
            line = partial(line_to, server)
            return Node(name, line, limits, moved, lambda: self.when_forgotten())

        self._servers: Servers
        if address.cluster:
            self._servers = Cluster(address.servers, node, limits.timeout)
        else:
            self._servers = Single(node(address.servers[0] if address.servers else None))

    def deadline(self) -> float:
        """By when all of Redis must have ended for what begins now, on the monotonic clock."""
        return time.monotonic() + self._budget

    async def run(
        self, name: str, calls: Sequence[Call], deadline: float | None = None
    ) -> list[Reply | StoreUnavailable]:
        """The reply of each call, in order, or why there is none."""
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
        """Every server answers within the budget."""
        began = time.monotonic()
        deadline = began + self._budget
        nodes = await self._servers.nodes(deadline)
        answers = await asyncio.gather(*(node.ask([PING], deadline) for node in nodes))
        well = bool(answers) and all(answer == [b"PONG"] for answer in answers)
        self._observe("ping", time.monotonic() - began, "ok" if well else "no answer")
        return well

    async def close(self) -> None:
        """Close all connections; nobody asks any more."""
        await self._servers.close()


def _nothing() -> None:
    """Nobody wants to know."""


def _reason(failed: Exception) -> StoreUnavailable:
    """What we say of a failure: its kind, never Redis's own words, which may hold keys."""
    kind = _kind(failed)
    if kind == "breaker":
        return StoreUnavailable("Redis kept failing and is not asked for a moment. Ask again soon.")
    return StoreUnavailable(f"Redis did not do what was asked ({kind}).")


def _kind(failed: Exception) -> str:
    return failed.kind if isinstance(failed, ConnectionFailed) else type(failed).__name__
