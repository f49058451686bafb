"""Batches of commands over connections of redis-py, each within a time.

Pool, connections, TLS, AUTH, SELECT and parser are redis-py's own, by their public methods:
`ConnectionPool.get_connection` and `release`, `Connection.send_packed_command` and `read_response`.
`Redis.pipeline` was tried instead. It costs more than twice the CPU (docs/redis.md has the
figures), as it packs in Python, wraps every reply three times and starts a task for each batch; it
drops the replies that came before a connection broke; and it connects inside of the call, so that
connecting and the round trip could not have a limit each. `BlockingConnectionPool` waits for a free
connection and connects in one call; here a semaphore waits, so that a pool in full use is not taken
for a silent server.

redis-py's own timeouts and retries are for a single command, and off; its connect timeout is longer
than ours. A batch has one timeout instead. It cancels the wait; redis-py closes a connection whose
wait was cancelled, so that no reply is left for another caller
(tests/unit/service/redis_client/test_client.py checks that for the version in use).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection, RedisSSLContext, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.redis_client.url import HostPort

Command = Sequence[str | bytes | int]
Reply = Any  # Redis types its replies so; an error that Redis sent is one, too
NewConnections = Callable[[HostPort | None], "Connections"]  # None: the socket file
NO_FREE_CONNECTION, CONNECT_TIMEOUT = "NoFreeConnection", "ConnectTimeout"  # nothing was sent

CONNECT_STEPS = 4  # TCP, TLS, AUTH, SELECT
LATE_SECONDS = 0.005  # a timer so late says that this process was busy, not Redis


class ConnectionFailed(Exception):
    """No reply came, and `kind` says why; whether the command ran is open."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    @classmethod
    def because(cls, failed: Exception) -> "ConnectionFailed":
        """Take the system's own name for it, where there is one."""
        cause = failed.__context__
        return cls(type(cause if isinstance(cause, OSError) else failed).__name__)


class TlsConnection(SSLConnection):
    """Share one TLS context: to read the authorities takes longer than to connect."""

    def __init__(self, *, shared_context: RedisSSLContext, **given: Any) -> None:
        super().__init__(**given)
        self.ssl_context = shared_context


def connections_to(
    options: Mapping[str, Any], *, tls: bool, connections: int, connect_seconds: float
) -> NewConnections:
    """Return a function that makes connections, not connected yet, to any server.

    options: what redis-py's connections take, and the files of TLS. connections: to each server.
    """
    given: dict[str, Any] = {
        "max_connections": connections,
        "protocol": 2,  # RESP2 and no library name need no commands before the first one
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_STEPS * connect_seconds,
        "retry": Retry(NoBackoff(), 0),
        **options,
    }
    files = {name: given.pop(f"ssl_{name}", None) for name in ("ca_certs", "certfile", "keyfile")}
    context = RedisSSLContext(cert_reqs="required", check_hostname=True, **files)

    def new_connections(server: HostPort | None) -> Connections:
        kind: type[AbstractConnection] = UnixDomainSocketConnection
        where: dict[str, Any] = {}
        if server is not None:
            kind = TlsConnection if tls else Connection
            where = {"host": server[0], "port": server[1]}
            where |= {"shared_context": context} if tls else {}
        return Connections(ConnectionPool(connection_class=kind, **where, **given), connections)

    return new_connections


async def _revive(connection: Connection) -> None:
    """Connect again if the connection was reset meanwhile; the pool sees only that it has ended.

    To send nothing raises if it was reset (uvloop: `RuntimeError`), and no command was sent then.
    """
    try:
        await connection.send_packed_command(b"")
    except (RedisError, RuntimeError):
        await connection.connect()  # type: ignore[no-untyped-call]


class Connections:
    """At most `size` connections of redis-py to one server; callers wait in FIFO order."""

    def __init__(self, pool: ConnectionPool, size: int) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(size)

    async def exchange(
        self, commands: Sequence[Command], timeout: float, deadline: float
    ) -> list[Reply]:
        """Return a reply for each command, in order; `ConnectionFailed` where none came in time.

        timeout: seconds for connecting, and again for the round trip. deadline: for all, also for
        waiting until a connection is free, on the monotonic clock.
        """
        try:
            if self._free.locked():
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._free.acquire()
            else:
                await self._free.acquire()
        except TimeoutError:
            return [ConnectionFailed(NO_FREE_CONNECTION)] * len(commands)
        try:
            return await self._exchange(commands, timeout, deadline)
        finally:
            self._free.release()

    async def _exchange(
        self, commands: Sequence[Command], timeout: float, deadline: float
    ) -> list[Reply]:
        replies: list[Reply] = []
        connected = False
        packed = b"".join([hiredis.pack_command(tuple(c)) for c in commands])  # type: ignore[arg-type]
        try:
            async with _Limit(min(time.monotonic() + timeout, deadline)) as limit:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    await _revive(connection)
                    connected = True
                    limit.move(min(time.monotonic() + timeout, deadline))
                    await connection.send_packed_command(packed)
                    for _ in commands:
                        try:
                            replies.append(await connection.read_response())
                        except ResponseError as error:
                            replies.append(error)
                finally:
                    await self._pool.release(connection)
        except TimeoutError:
            failed = ConnectionFailed("TimeoutError" if connected else CONNECT_TIMEOUT)
        except (RedisError, OSError, ValueError) as error:  # ValueError: a MOVED without an address
            failed = ConnectionFailed.because(error)
        else:
            return replies
        return [*replies, *[failed] * (len(commands) - len(replies))]

    async def connect_ahead(self, timeout: float) -> None:
        """Connect for the next caller; timeout: seconds for each step."""
        with contextlib.suppress(TimeoutError, RedisError, OSError):
            async with self._free, asyncio.timeout(CONNECT_STEPS * timeout):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections, also those in use."""
        with contextlib.suppress(RedisError, OSError):
            await self._pool.aclose()


class _Limit:
    """Like `asyncio.timeout_at`, but allow a process that was busy then to read what has come.

    It gets `LATE_SECONDS` more, so that its own delay does not count as a silent Redis.
    """

    def __init__(self, until: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._until = until
        self._timer = self._loop.call_later(until - time.monotonic(), self._end)

    async def __aenter__(self) -> "_Limit":
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def move(self, until: float) -> None:
        """Start again with another time; too late if the limit has expired."""
        self._timer.cancel()
        if self._timeout.expired():
            return
        self._timeout.reschedule(None)
        self._until = until
        self._timer = self._loop.call_later(until - time.monotonic(), self._end)

    def _end(self) -> None:
        if not self._timeout.expired():
            late = time.monotonic() - self._until > LATE_SECONDS
            self._timeout.reschedule(self._loop.time() + (LATE_SECONDS if late else 0))
