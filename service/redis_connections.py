"""Batches of commands over connections of redis-py, each within a time.

Pool, connections, TLS, AUTH, SELECT and parser are redis-py's own, by their public methods:
`BlockingConnectionPool.get_connection` and `release`, `Connection.send_packed_command` and
`read_response`. `Redis.pipeline` was tried instead. It costs more than twice the CPU (docs/redis.md
has the figures), as it packs in Python, wraps every reply three times and starts a task for each
batch; it drops the replies that came before a connection broke; and it connects inside of the call,
so that connecting and the round trip could not have a limit each.

redis-py's own timeouts and retries are off, but for connecting: they are for a single command. A
batch has one `asyncio.timeout` instead. It cancels the wait; redis-py closes a connection whose
wait was cancelled, so that no reply is left for another caller (tests/test_service_redis_client.py
checks that for the version in use).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.connection import RedisSSLContext, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.redis_url import HostPort

Command = Sequence[str | bytes | int]
Reply = Any  # Redis types its replies so; an error that Redis sent is one, too
NewPool = Callable[[HostPort | None], BlockingConnectionPool]  # None: the socket file

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


def pools(
    options: Mapping[str, Any], *, tls: bool, connections: int, connect_seconds: float
) -> NewPool:
    """Return a function that makes a pool, not connected yet, for any server.

    options: what redis-py's connections take, and the files of TLS. connections: of each pool.
    """
    given: dict[str, Any] = {
        "max_connections": connections,
        "timeout": None,  # of waiting for a free connection: the caller limits it
        "protocol": 2,  # RESP2 and no library name need no commands before the first one
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": connect_seconds,
        "retry": Retry(NoBackoff(), 0),
        **options,
    }
    files = {name: given.pop(f"ssl_{name}", None) for name in ("ca_certs", "certfile", "keyfile")}
    context = RedisSSLContext(cert_reqs="required", check_hostname=True, **files)

    def new_pool(server: HostPort | None) -> BlockingConnectionPool:
        if server is None:
            return BlockingConnectionPool(connection_class=UnixDomainSocketConnection, **given)
        where = {"host": server[0], "port": server[1], **given}
        if not tls:
            return BlockingConnectionPool(connection_class=Connection, **where)
        return BlockingConnectionPool(
            connection_class=TlsConnection, shared_context=context, **where
        )

    return new_pool


async def exchange(
    pool: BlockingConnectionPool, commands: Sequence[Command], timeout: float, deadline: float
) -> list[Reply]:
    """Return a reply for each command, in order; `ConnectionFailed` where none came in time.

    timeout: seconds for connecting, and again for the round trip. deadline: for both, on the
    monotonic clock.
    """
    replies: list[Reply] = []
    connected = False
    packed = b"".join([hiredis.pack_command(tuple(c)) for c in commands])  # type: ignore[arg-type]
    try:
        async with _Limit(min(time.monotonic() + timeout, deadline)) as limit:
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
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
                await pool.release(connection)
    except TimeoutError:
        failed = ConnectionFailed("TimeoutError" if connected else "ConnectTimeout")
    except (RedisError, OSError) as error:
        failed = ConnectionFailed.because(error)
    else:
        return replies
    return [*replies, *[failed] * (len(commands) - len(replies))]


async def _revive(connection: Connection) -> None:
    """Connect again if the connection was reset meanwhile; the pool sees only that it has ended.

    To send nothing raises if it was reset (uvloop: `RuntimeError`), and no command was sent then.
    """
    try:
        await connection.send_packed_command(b"")
    except (RedisError, RuntimeError):
        await connection.connect()  # type: ignore[no-untyped-call]


async def connect_ahead(pool: BlockingConnectionPool, timeout: float) -> None:
    """Connect for the next caller; timeout: seconds for each step."""
    with contextlib.suppress(TimeoutError, RedisError, OSError):
        async with asyncio.timeout(CONNECT_STEPS * timeout):
            await pool.release(await pool.get_connection())  # type: ignore[no-untyped-call]


async def close(pool: BlockingConnectionPool) -> None:
    """Close all connections, also those in use."""
    with contextlib.suppress(RedisError, OSError):
        await pool.aclose()


class _Limit:
    """Raise `TimeoutError` at a time on the monotonic clock.

    A process that was busy at that time could not read what had come by then. It gets
    `LATE_SECONDS` more to read it, so that its own delay does not count as a silent Redis.
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
        """Set another time."""
        self._timer.cancel()
        self._until = until
        self._timer = self._loop.call_later(until - time.monotonic(), self._end)

    def _end(self) -> None:
        late = time.monotonic() - self._until > LATE_SECONDS
        self._timeout.reschedule(self._loop.time() + (LATE_SECONDS if late else 0))
