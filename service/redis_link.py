"""Script calls on Redis within a time budget, whatever Redis does.

redis-py waits up to 59 s for a silent host by default. Here a connect or a reply takes at most the
timeout, all of it at most the budget, and a call is sent a second time only if repeating it changes
nothing. A call that is under way is never cancelled: a cancelled one would leave its reply in the
connection for somebody else. When the budget ends, we stop waiting and it ends by itself.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, TypeVar

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from recsys.errors import StoreUnavailable

Observe = Callable[[str, float, str], None]  # (call, seconds, outcome: ok or a reason)
Reply = Any  # Redis types its replies so
Result = TypeVar("Result")
CONNECTION_FAILURES = (RedisConnectionError, RedisTimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Call:
    """One script call; `repeatable` if running it twice does what running it once does."""

    script: "Script"
    keys: Sequence[str]
    arguments: Sequence[str | bytes]
    repeatable: bool


class Script:
    """A Lua script, known to Redis by its digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(
        self, keys: Sequence[str], arguments: Sequence[str | bytes], *, repeatable: bool
    ) -> Call:
        return Call(self, keys, arguments, repeatable)


class RedisLink:
    """One client with tight timeouts; `observe` is told of every round trip and its outcome."""

    def __init__(
        self, url: str, *, timeout_ms: int, budget_ms: int, connections: int, observe: Observe
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            socket_timeout=timeout_ms / 1000,
            socket_connect_timeout=timeout_ms / 1000,
            max_connections=connections,
            timeout=budget_ms / 1000,  # wait for a connection instead of failing
            retry=Retry(NoBackoff(), 0),
        )
        pool.connection_class = _packing(pool.connection_class)
        self._client = Redis(connection_pool=pool)
        self._pool = pool
        self._budget = budget_ms / 1000
        self._timeout = timeout_ms / 1000
        self._observe = observe
        self._shared: dict[str, bytes] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    async def run(self, name: str, calls: Sequence[Call]) -> list[Reply | StoreUnavailable]:
        """The reply of each call, in order, or why there is none."""
        if not calls:
            return []
        replies = await self._within_budget(name, lambda deadline: self._twice(calls, deadline))
        if isinstance(replies, StoreUnavailable):
            return [replies] * len(calls)
        return [_reason(r) if isinstance(r, Exception) else r for r in replies]

    async def shared_secret(self, key: str) -> bytes:
        """The value of `key`, made at random by whoever asks first; raises `StoreUnavailable`."""

        async def fetch(_: float) -> bytes:
            await self._client.set(key, secrets.token_hex(32), nx=True)
            found = await self._client.get(key)
            assert isinstance(found, bytes), "set above, and connected with decode_responses=False"
            self._shared[key] = found  # put back, should Redis come back empty
            return found

        found = await self._within_budget("secret", fetch)
        if isinstance(found, StoreUnavailable):
            raise found
        return found

    async def ping(self) -> bool:
        """Redis answers within the budget."""

        async def ask(_: float) -> object:
            return await self._client.ping()

        return not isinstance(await self._within_budget("ping", ask), StoreUnavailable)

    async def close(self) -> None:
        """Wait for what is under way, then close all connections."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._budget * 2)
        await self._client.aclose()
        await self._pool.disconnect()

    async def _within_budget(
        self, name: str, work: Callable[[float], Coroutine[None, None, Result]]
    ) -> Result | StoreUnavailable:
        """What the work gives, or why it gave nothing within the budget.

        work: called with the time by which it must have ended, on the monotonic clock.
        """
        began = time.monotonic()
        task = asyncio.create_task(work(began + self._budget))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=self._budget)
        outcome, answer = _outcome(task)
        if isinstance(answer, list):  # replies of several calls: the worst of them is the outcome
            outcome = next((_kind(r) for r in answer if isinstance(r, Exception)), outcome)
        self._observe(name, time.monotonic() - began, outcome)
        return answer

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it again

    async def _twice(self, calls: Sequence[Call], deadline: float) -> list[Reply]:
        """Send all; send again what failed with the connection and may be repeated."""
        replies = await self._send(calls)
        failed = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, ConnectionFailed) and calls[at].repeatable
        ]
        if failed and time.monotonic() + self._timeout <= deadline:
            again = await self._send([calls[at] for at in failed])
            for at, reply in zip(failed, again, strict=True):
                replies[at] = reply
        return replies

    async def _send(self, calls: Sequence[Call]) -> list[Reply]:
        """One pipelined round trip; a failed call's reply is its exception."""
        try:
            replies = await self._pipelined(calls)
            missing = {
                call.script.digest: call.script
                for call, reply in zip(calls, replies, strict=True)
                if isinstance(reply, NoScriptError)
            }
            if missing:  # nothing ran of these: Redis was restarted or its scripts flushed
                for script in missing.values():
                    await self._client.script_load(script.text)
                for key, value in self._shared.items():
                    await self._client.set(key, value, nx=True)
                late = [at for at, r in enumerate(replies) if isinstance(r, NoScriptError)]
                again = await self._pipelined([calls[at] for at in late])
                for at, reply in zip(late, again, strict=True):
                    replies[at] = reply
        except CONNECTION_FAILURES as failed:
            return [ConnectionFailed(type(failed).__name__)] * len(calls)
        except RedisError as failed:
            return [failed] * len(calls)
        return replies

    async def _pipelined(self, calls: Sequence[Call]) -> list[Reply]:
        """Straight to a connection: a pipeline object costs as much again for each call."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            commands = [
                ("EVALSHA", call.script.digest, len(call.keys), *call.keys, *call.arguments)
                for call in calls
            ]
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed)
            return [await _reply(connection) for _ in calls]
        except BaseException:
            await connection.disconnect(nowait=True)  # replies left in it are nobody's any more
            raise
        finally:
            await self._pool.release(connection)


async def _reply(connection: AbstractConnection) -> Reply:
    """The next reply; an error that Redis sent is one, too."""
    try:
        return await connection.read_response()
    except ResponseError as said:
        return said


def _packing(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """That kind of connection with commands packed by hiredis, which is ten times quicker."""

    class Packing(kind):  # type: ignore[valid-type,misc]
        def pack_command(self, *arguments: str | bytes | int | float) -> list[bytes]:
            words = str(arguments[0]).split()  # SCRIPT LOAD is two of them
            packed = hiredis.pack_command((*words, *arguments[1:]))  # type: ignore[arg-type]
            return [packed]

    return Packing


class ConnectionFailed(Exception):
    """The connection broke or was silent; whether the call ran is not known."""


def _outcome(task: "asyncio.Task[Result]") -> tuple[str, Result | StoreUnavailable]:
    """("ok", the result), or a reason for the metrics and the error that says it."""
    if not task.done():
        return "budget", StoreUnavailable("Redis did not answer within the time budget.")
    failed = task.exception()
    if failed is None:
        return "ok", task.result()
    if not isinstance(failed, (RedisError, OSError)):
        raise failed
    return type(failed).__name__, _reason(failed)


def _reason(failed: Exception) -> StoreUnavailable:
    """What we say of a failure: its kind, never Redis's own words, which may hold keys."""
    return StoreUnavailable(f"Redis did not do what was asked ({_kind(failed)}).")


def _kind(failed: Exception) -> str:
    return str(failed.args[0]) if isinstance(failed, ConnectionFailed) else type(failed).__name__
