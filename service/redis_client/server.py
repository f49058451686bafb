"""Client of one Redis server: connection pool, circuit breaker and retries, within a time limit.

A command without a reply may have run or not. It is sent a second time only if it is repeatable:
running it twice does what running it once does. If the server does not know a script, the script is
loaded and the calls that need it are sent again.

This module decides what a refusal of Redis means:

    READONLY                                the address leads to a replica: replace the connections,
                                            which resolves the address again
    LOADING, MASTERDOWN, CLUSTERDOWN, BUSY  the server is unavailable: the breaker counts a failure
    OOM, MISCONF, NOREPLICAS                the server refuses writes and answers reads: keep the
                                            connections, because a new one would not help
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1

from redis.exceptions import ClusterDownError, NoScriptError, ReadOnlyError, ResponseError

from service.redis_client.background_tasks import TaskSet, ThrottledTask
from service.redis_client.breaker import BreakerConfig, BreakerState, CircuitBreaker, OnStateChange
from service.redis_client.connections import (
    CONNECT_TIMEOUT,
    NO_FREE_CONNECTION,
    Command,
    ConnectionFailed,
    Reply,
    TimedConnectionPool,
)

WriteRefusal = Callable[[Reply], str | None]

ASKING: Command = ("ASKING",)
PING: Command = ("PING",)
READONLY = "READONLY"
RECONNECT_SECONDS = 1.0  # minimum time between two replacements of all connections
LOG_AGAIN_SECONDS = 10.0  # minimum time between two log lines about a replica
log = logging.getLogger("recsys.service")


class Script:
    """Lua script, called by its digest.

    Args:
        text: the source.
        refusal: returns the code (READONLY, OOM, MISCONF, NOREPLICAS) with which Redis refused the
            writes of the script, from a reply that the script gave all the same; None if Redis
            refused none.
    """

    def __init__(self, text: str, refusal: WriteRefusal | None = None) -> None:
        self.text = text
        self.refusal = refusal
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(
        self, keys: Sequence[str], arguments: Sequence[str | bytes], *, repeatable: bool
    ) -> "RedisCall":
        """Return the call that runs the script."""
        command = ("EVALSHA", self.digest, len(keys), *keys, *arguments)
        return RedisCall(command, keys[0], repeatable, self)


@dataclass(frozen=True, slots=True)
class RedisCall:
    """One command. It is `repeatable` if running it twice does what running it once does."""

    command: Command
    key: str  # a Cluster chooses the server by it; all keys of a call have the same hash slot
    repeatable: bool
    script: Script | None = None


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of every server."""

    timeout_seconds: float  # of one connect or one round trip
    budget_seconds: float  # of all that one call needs
    breaker: BreakerConfig
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class ServerCallbacks:
    """Functions that a server calls."""

    on_state_change: OnStateChange  # the breaker changed its state
    on_scripts_lost: Callable[[], None]  # it did not know a script; it may have lost all data
    on_trouble: Callable[[], None]  # it did not answer or is a replica: look for another server


class ServerClient:
    """Client of one server, with a connection pool and a circuit breaker.

    Args:
        name: the address, for the log.
        new_pool: builds a connection pool of this server.
        limits: time limits, breaker and clock.
        callbacks: functions to call when something changes.
    """

    def __init__(
        self,
        name: str,
        new_pool: Callable[[], TimedConnectionPool],
        limits: ServerLimits,
        callbacks: ServerCallbacks,
    ) -> None:
        self._name = name
        self._new_pool = new_pool
        self._limits = limits
        self._callbacks = callbacks
        self._pool = new_pool()
        self._log_again_at = float("-inf")
        self._breaker = CircuitBreaker(limits.breaker, callbacks.on_state_change, limits.clock)
        self._tasks = TaskSet()
        self._reconnecting = ThrottledTask(self._reconnect, RECONNECT_SECONDS, limits.clock)
        self._connecting = ThrottledTask(self._connect_ahead, 0.0, limits.clock)

    async def execute(
        self, calls: Sequence[RedisCall], deadline: float, *, asking: bool = False
    ) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none.

        Args:
            calls: the calls, sent in one write.
            deadline: monotonic time by which all must end.
            asking: whether the calls follow an ASK redirection of another server of the cluster.
        """
        if not self._breaker.try_acquire():
            self._callbacks.on_trouble()
            return [ConnectionFailed("breaker")] * len(calls)
        replies = await self._attempt([call.command for call in calls], deadline, asking)
        if any(isinstance(reply, Exception) for reply in replies):
            await self._retry(calls, replies, deadline, asking)
        if any(map(_is_readonly, calls, replies)):
            self._reconnecting.request()
            self._callbacks.on_trouble()
        return replies

    async def close(self) -> None:
        """Close all connections. A call that is under way fails."""
        self._breaker.close()
        for background in (self._reconnecting, self._connecting, self._tasks):
            await background.close()
        await self._pool.close()

    async def close_later(self) -> None:
        """Close when the calls that are under way have ended."""
        await self._after_calls(self.close)

    async def _retry(
        self, calls: Sequence[RedisCall], replies: list[Reply], deadline: float, asking: bool
    ) -> None:
        """Send repeatable calls and calls of unknown scripts again; replace their replies."""
        failed = [
            index
            for index, reply in enumerate(replies)
            if isinstance(reply, ConnectionFailed) and calls[index].repeatable
        ]
        if failed and self._may_retry(deadline):
            again = await self._attempt([calls[i].command for i in failed], deadline, asking)
            for index, reply in zip(failed, again, strict=True):
                replies[index] = reply
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not unknown:
            return
        self._callbacks.on_scripts_lost()
        scripts = {call.script for i in unknown if (call := calls[i]).script is not None}
        loading: list[Command] = [("SCRIPT", "LOAD", script.text) for script in scripts]
        commands = loading + [calls[i].command for i in unknown]
        again = await self._attempt(commands, deadline, asking)
        for index, reply in zip(unknown, again[len(loading) :], strict=True):
            replies[index] = reply

    def _may_retry(self, deadline: float) -> bool:
        """Return whether there is time for another whole attempt and the breaker is closed."""
        in_time = time.monotonic() + self._limits.timeout_seconds <= deadline
        return in_time and self._breaker.state is BreakerState.CLOSED

    async def _attempt(
        self, commands: Sequence[Command], deadline: float, asking: bool
    ) -> list[Reply]:
        """Send all commands in one write and read their replies."""
        if asking:
            both = [word for command in commands for word in (ASKING, command)]
            return (await self._attempt(both, deadline, asking=False))[1::2]
        began = self._limits.clock()
        try:
            replies = await self._pool.exchange(commands, self._limits.timeout_seconds, deadline)
        except BaseException:
            self._breaker.release()
            raise
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        failures = (kind for error in errors if (kind := _failure_of_server(error)))
        self._record(next(failures, None), began)
        return replies

    def _record(self, failure: str | None, began: float) -> None:
        """Report the outcome of an attempt to the breaker and log what changes."""
        before = self._breaker.state
        if failure == NO_FREE_CONNECTION:  # nothing was sent to the server
            self._breaker.release()
        elif failure is None:
            self._breaker.record_success()
        else:
            self._breaker.record_failure(began)
            self._callbacks.on_trouble()
            if failure == CONNECT_TIMEOUT:
                self._connecting.request()
        after = self._breaker.state
        if before is BreakerState.CLOSED and after is BreakerState.OPEN:
            log.warning(
                "Redis at %s keeps failing (%s). No request is sent to it for %g s.",
                self._name,
                failure,
                self._limits.breaker.pause_seconds,
            )
        elif after is BreakerState.CLOSED and before is not BreakerState.CLOSED:
            log.warning("Redis at %s answers again.", self._name)

    async def _reconnect(self) -> None:
        """Replace the pool; close the old one when the calls on it have ended."""
        if self._limits.clock() >= self._log_again_at:
            self._log_again_at = self._limits.clock() + LOG_AGAIN_SECONDS
            log.warning(
                "Redis at %s is a replica: clicks are not stored. The service resolves the address "
                "again every second. Check that it leads to the primary.",
                self._name,
            )
        old, self._pool = self._pool, self._new_pool()
        self._tasks.start(self._after_calls(old.close))

    async def _after_calls(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close when the calls that are under way have ended."""
        try:
            await asyncio.sleep(self._limits.budget_seconds)
        finally:
            await close()

    async def _connect_ahead(self) -> None:
        await self._pool.connect_ahead(self._limits.timeout_seconds)


def _is_readonly(call: RedisCall, reply: Reply) -> bool:
    if isinstance(reply, Exception):
        return isinstance(reply, ReadOnlyError)
    refusal = call.script.refusal if call.script is not None else None
    return refusal is not None and refusal(reply) == READONLY


def _failure_of_server(error: Exception) -> str | None:
    """Return why the server answers no call at all; None if the error is that of one call."""
    if isinstance(error, ConnectionFailed):
        return error.kind
    if isinstance(error, ClusterDownError):  # also MASTERDOWN: a replica that lost its primary
        return type(error).__name__
    if isinstance(error, ResponseError) and str(error).startswith("BUSY "):
        return "BUSY"  # an endless script runs; redis-py has no class for it
    return None
