"""Connection pool of one server that exchanges batches of commands, each within a time limit.

Pool, connections, TLS, AUTH, SELECT and parser are redis-py's, through its public methods:
`ConnectionPool.get_connection` and `release`, `Connection.send_packed_command` and `read_response`.

`Redis.pipeline` is not used. It costs more than twice the CPU (docs/redis.md has the figures): it
packs commands in Python, wraps every reply three times and starts a task for each batch. It drops
the replies that came before a connection broke. It connects inside the call, so connecting and the
round trip cannot have a limit each.

`BlockingConnectionPool` is not used. It waits for a free connection and connects in one call. Here
a semaphore waits, so a pool in full use is not taken for a silent server.

redis-py's timeouts and retries apply to a single command and are off; its connect timeout is longer
than ours. A batch has one timeout instead, which cancels the wait. redis-py closes a connection
whose wait was cancelled, so no reply is left for another caller. A test in
tests/unit/service/redis_client/test_client.py checks that for the version in use.
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
Reply = Any  # the type that redis-py gives replies; an error that Redis sent is a reply, too
PoolFactory = Callable[[HostPort | None], "TimedConnectionPool"]  # None: the socket file
NO_FREE_CONNECTION, CONNECT_TIMEOUT = "NoFreeConnection", "ConnectTimeout"  # nothing was sent

CONNECT_STEPS = 4  # TCP, TLS, AUTH, SELECT
LATE_SECONDS = 0.005  # a timer that fires this late shows that this process was busy, not Redis


class ConnectionFailed(Exception):
    """No reply came. `kind` names the reason. The command may have run or not."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    @classmethod
    def from_error(cls, error: Exception) -> "ConnectionFailed":
        """Build one that is named after the error of the operating system, if there is one."""
        cause = error.__context__
        return cls(type(cause if isinstance(cause, OSError) else error).__name__)


class TlsConnection(SSLConnection):
    """TLS connection with a shared context: reading authorities takes longer than connecting."""

    def __init__(self, *, shared_context: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = shared_context


def pool_factory(
    options: Mapping[str, Any], *, tls: bool, connections: int, connect_seconds: float
) -> PoolFactory:
    """Return a function that builds a pool, not connected yet, for the server at an address.

    Args:
        options: arguments of redis-py's connections, and the TLS files.
        tls: whether to connect with TLS.
        connections: maximum number of connections to each server.
        connect_seconds: time limit of each step of connecting.
    """
    arguments: dict[str, Any] = {
        "max_connections": connections,
        "protocol": 2,  # RESP2 without a library name needs no commands before the first one
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_STEPS * connect_seconds,
        "retry": Retry(NoBackoff(), 0),
        **options,
    }
    names = ("ca_certs", "certfile", "keyfile")
    files = {name: arguments.pop(f"ssl_{name}", None) for name in names}
    context = RedisSSLContext(cert_reqs="required", check_hostname=True, **files)

    def new_pool(address: HostPort | None) -> TimedConnectionPool:
        connection_class: type[AbstractConnection] = UnixDomainSocketConnection
        target: dict[str, Any] = {}
        if address is not None:
            connection_class = TlsConnection if tls else Connection
            target = {"host": address[0], "port": address[1]}
            target |= {"shared_context": context} if tls else {}
        pool = ConnectionPool(connection_class=connection_class, **target, **arguments)
        return TimedConnectionPool(pool, connections)

    return new_pool


async def _reconnect_if_reset(connection: Connection) -> None:
    """Connect again if the server reset the connection while it was idle.

    redis-py's pool notices an end of the stream and not a reset. Sending nothing raises after a
    reset (`RuntimeError` with uvloop), and at that point no command has been sent.
    """
    try:
        await connection.send_packed_command(b"")
    except (RedisError, RuntimeError):
        await connection.connect()  # type: ignore[no-untyped-call]


class TimedConnectionPool:
    """Connection pool of one server. Callers wait in FIFO order when all connections are in use."""

    def __init__(self, pool: ConnectionPool, size: int) -> None:
        self._pool = pool
        self._free = asyncio.Semaphore(size)

    async def exchange(
        self, commands: Sequence[Command], timeout_seconds: float, deadline: float
    ) -> list[Reply]:
        """Send commands in one write and return a reply for each, in order.

        Args:
            commands: the batch.
            timeout_seconds: time limit of connecting, and again of the round trip.
            deadline: monotonic time by which all must end, the wait for a free connection included.

        Returns:
            A reply for each command. It is `ConnectionFailed` where no reply came in time.
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
            return await self._exchange(commands, timeout_seconds, deadline)
        finally:
            self._free.release()

    async def _exchange(
        self, commands: Sequence[Command], timeout_seconds: float, deadline: float
    ) -> list[Reply]:
        replies: list[Reply] = []
        connected = False
        packed = b"".join([hiredis.pack_command(tuple(c)) for c in commands])  # type: ignore[arg-type]
        try:
            async with _TimeLimit(min(time.monotonic() + timeout_seconds, deadline)) as limit:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    await _reconnect_if_reset(connection)
                    connected = True
                    limit.restart(min(time.monotonic() + timeout_seconds, deadline))
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
            failed = ConnectionFailed.from_error(error)
        else:
            return replies
        return [*replies, *[failed] * (len(commands) - len(replies))]

    async def connect_ahead(self, timeout_seconds: float) -> None:
        """Connect for the next caller; `timeout_seconds` limits each step."""
        with contextlib.suppress(TimeoutError, RedisError, OSError):
            async with self._free, asyncio.timeout(CONNECT_STEPS * timeout_seconds):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections, those in use included."""
        with contextlib.suppress(RedisError, OSError):
            await self._pool.aclose()


class _TimeLimit:
    """Time limit like `asyncio.timeout_at`, with a grace period if this process was busy.

    If the timer fires late, the process did not read in time what may have arrived. The limit then
    grants `LATE_SECONDS` more, so that a delay of our own does not count as a silent Redis.
    """

    def __init__(self, until: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._until = until
        self._timer = self._loop.call_later(until - time.monotonic(), self._expire)

    async def __aenter__(self) -> "_TimeLimit":
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

    def restart(self, until: float) -> None:
        """Set another time limit; do nothing if the limit has expired."""
        self._timer.cancel()
        if self._timeout.expired():
            return
        self._timeout.reschedule(None)
        self._until = until
        self._timer = self._loop.call_later(until - time.monotonic(), self._expire)

    def _expire(self) -> None:
        if not self._timeout.expired():
            late = time.monotonic() - self._until > LATE_SECONDS
            self._timeout.reschedule(self._loop.time() + (LATE_SECONDS if late else 0))
