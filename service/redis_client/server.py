"""Calls to one Redis server: within the time, not while it keeps failing, by a pool of connections.

A call whose fate is open is sent a second time only if running it twice does what running it once
does. Scripts that the server does not know are loaded, and what asked for them is sent again.

What a refusal means is decided here. READONLY: the address leads to a replica, so the connections
are replaced, which resolves the address again. LOADING, MASTERDOWN, CLUSTERDOWN, BUSY: the server
is unavailable and the breaker counts it. OOM, MISCONF, NOREPLICAS: the server refuses writes and
answers reads; nothing would be better on another connection.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1

from redis.exceptions import ClusterDownError, NoScriptError, ReadOnlyError, ResponseError

from service.redis_client.background import BackgroundTasks, Refresh
from service.redis_client.breaker import Breaker, BreakerConfig, OnStateChange, State
from service.redis_client.connections import (
    CONNECT_TIMEOUT,
    NO_FREE_CONNECTION,
    Command,
    ConnectionFailed,
    Connections,
    Reply,
)

Refusal = Callable[[Reply], str | None]

ASKING: Command = ("ASKING",)
PING: Command = ("PING",)
READONLY = "READONLY"
RECONNECT_SECONDS = 1.0  # between two times that all connections are replaced
SAY_AGAIN_SECONDS = 10.0
log = logging.getLogger("recsys.service")


class Script:
    """A Lua script, known to Redis by its digest.

    refusal: returns the code with which Redis refused the script's writes (READONLY, OOM, MISCONF,
    NOREPLICAS), from a reply of a script that answers with what it could read; None for no refusal.
    """

    def __init__(self, text: str, refusal: Refusal | None = None) -> None:
        self.text = text
        self.refusal = refusal
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(
        self, keys: Sequence[str], arguments: Sequence[str | bytes], *, repeatable: bool
    ) -> "RedisCall":
        """Return the command that runs it."""
        command = ("EVALSHA", self.digest, len(keys), *keys, *arguments)
        return RedisCall(command, keys[0], repeatable, self)


@dataclass(frozen=True, slots=True)
class RedisCall:
    """One command; `repeatable` if running it twice does what running it once does."""

    command: Command
    key: str  # a Cluster finds the server by it; all keys of a call belong to one
    repeatable: bool
    script: Script | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of every server."""

    timeout: float  # seconds for one connect or one round trip
    budget: float  # seconds for all of a call
    breaker: BreakerConfig
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Events:
    """Callbacks of a server."""

    on_state_change: OnStateChange  # of the breaker
    on_forgotten: Callable[[], None]  # it did not know a script; it may have lost all else, too
    on_trouble: Callable[[], None]  # it did not answer, or is a replica: look for another one


class Server:
    """One server: a connection pool of redis-py, and a circuit breaker.

    name: its address, for the log. new_connections: makes connections to it.
    """

    def __init__(
        self,
        name: str,
        new_connections: Callable[[], Connections],
        limits: Limits,
        events: Events,
    ) -> None:
        self._name = name
        self._new_connections = new_connections
        self._limits = limits
        self._events = events
        self._connections = new_connections()
        self._say_again = float("-inf")
        self._breaker = Breaker(limits.breaker, events.on_state_change, limits.clock)
        self._tasks = BackgroundTasks()
        self._reconnecting = Refresh(self._reconnect, RECONNECT_SECONDS, limits.clock)
        self._connecting = Refresh(self._connect_ahead, 0.0, limits.clock)

    async def ask(
        self, calls: Sequence[RedisCall], deadline: float, *, asking: bool = False
    ) -> list[Reply]:
        """Return a reply for each call, in order; an exception where there is none.

        deadline: on the monotonic clock. asking: another server, which is handing the keys over,
        sent the calls here.
        """
        if not self._breaker.admits():
            self._events.on_trouble()
            return [ConnectionFailed("breaker")] * len(calls)
        replies = await self._attempt([call.command for call in calls], deadline, asking)
        if any(isinstance(reply, Exception) for reply in replies):
            await self._try_again(calls, replies, deadline, asking)
        if any(map(_says_readonly, calls, replies)):
            self._reconnecting.soon()
            self._events.on_trouble()
        return replies

    async def close(self) -> None:
        """Close all connections. No call may be under way, or it fails."""
        self._breaker.close()
        for background in (self._reconnecting, self._connecting, self._tasks):
            await background.close()
        await self._connections.close()

    async def close_later(self) -> None:
        """Close when the calls that are under way have ended."""
        await self._after_calls(self.close)

    async def _try_again(
        self, calls: Sequence[RedisCall], replies: list[Reply], deadline: float, asking: bool
    ) -> None:
        """Send again, in place, what is repeatable and what missed its script."""
        failed = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, ConnectionFailed) and calls[at].repeatable
        ]
        if failed and self._may_try_again(deadline):
            again = await self._attempt([calls[at].command for at in failed], deadline, asking)
            for at, reply in zip(failed, again, strict=True):
                replies[at] = reply
        late = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not late:
            return
        self._events.on_forgotten()
        scripts = {call.script for at in late if (call := calls[at]).script is not None}
        loading: list[Command] = [("SCRIPT", "LOAD", script.text) for script in scripts]
        again = await self._attempt(loading + [calls[at].command for at in late], deadline, asking)
        for at, reply in zip(late, again[len(loading) :], strict=True):
            replies[at] = reply

    def _may_try_again(self, deadline: float) -> bool:
        """Return whether there is time for another whole attempt and the breaker is closed."""
        in_time = time.monotonic() + self._limits.timeout <= deadline
        return in_time and self._breaker.state is State.CLOSED

    async def _attempt(
        self, commands: Sequence[Command], deadline: float, asking: bool
    ) -> list[Reply]:
        """Send all commands at once and read their replies."""
        if asking:
            both = [word for command in commands for word in (ASKING, command)]
            return (await self._attempt(both, deadline, asking=False))[1::2]
        began = self._limits.clock()
        try:
            replies = await self._connections.exchange(commands, self._limits.timeout, deadline)
        except BaseException:
            self._breaker.abandoned()
            raise
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        self._note(next((kind for error in errors if (kind := _unable(error))), None), began)
        return replies

    def _note(self, failure: str | None, began: float) -> None:
        before = self._breaker.state
        if failure == NO_FREE_CONNECTION:  # the server was not asked
            self._breaker.abandoned()
        elif failure is None:
            self._breaker.succeeded()
        else:
            self._breaker.failed(began)
            self._events.on_trouble()
            if failure == CONNECT_TIMEOUT:
                self._connecting.soon()
        after = self._breaker.state
        if before is State.CLOSED and after is State.OPEN:
            pause = self._limits.breaker.pause_seconds
            said = "Redis at %s keeps failing (%s). It is left alone for %g s."
            log.warning(said, self._name, failure, pause)
        elif after is State.CLOSED and before is not State.CLOSED:
            log.warning("Redis at %s answers again.", self._name)

    async def _reconnect(self) -> None:
        """Replace the pool; the old one stays open until the calls on it have ended."""
        if self._limits.clock() >= self._say_again:
            self._say_again = self._limits.clock() + SAY_AGAIN_SECONDS
            log.warning(
                "Redis at %s is a replica: clicks are not stored. Its address is looked up again "
                "every second.",
                self._name,
            )
        old, self._connections = self._connections, self._new_connections()
        self._tasks.start(self._after_calls(old.close))

    async def _after_calls(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close when the calls that are under way have ended."""
        try:
            await asyncio.sleep(self._limits.budget)
        finally:
            await close()

    async def _connect_ahead(self) -> None:
        await self._connections.connect_ahead(self._limits.timeout)


def _says_readonly(call: RedisCall, reply: Reply) -> bool:
    if isinstance(reply, Exception):
        return isinstance(reply, ReadOnlyError)
    refusal = call.script.refusal if call.script is not None else None
    return refusal is not None and refusal(reply) == READONLY


def _unable(error: Exception) -> str | None:
    """Return the reason why the server answers no call, if this error gives one."""
    if isinstance(error, ConnectionFailed):
        return error.kind
    if isinstance(error, ClusterDownError):  # also MASTERDOWN: a replica that lost its primary
        return type(error).__name__
    if isinstance(error, ResponseError) and str(error).startswith("BUSY "):
        return "BUSY"  # an endless script runs; redis-py has no name for it
    return None
