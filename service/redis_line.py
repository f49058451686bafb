"""One connection to one Redis server: a batch of commands goes out as one write, replies come back.

It is a connection of redis-py, which connects, speaks TLS, authenticates, chooses the database and
parses with hiredis. What redis-py does around every single command and reply (a pool, a lock, two
timeouts) is done here once for a batch, by a timer that hangs up. Nobody's wait is ever cancelled:
who waits for a reply on a line that was hung up reads its end. A line on which replies may still
come is hung up, never used again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.redis_url import Address, Server

Word = str | bytes | int
Command = Sequence[Word]
Reply = Any  # Redis types its replies so; an error that Redis sent is one, too

LATE_SECONDS = 0.005  # a timer so late says that this process was busy, not Redis


class ConnectionFailed(Exception):
    """The connection broke or was silent, and `kind` says how; whether the command ran is open."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Line(AbstractConnection):
    """What we add to redis-py's connection: whole batches, within a time."""

    _timer: asyncio.TimerHandle
    _hung_up = False

    async def reach(self, seconds: float) -> None:
        """Connect; each step of it takes at most so long. Raises `ConnectionFailed`."""
        self.socket_timeout = self.socket_connect_timeout = seconds
        try:
            await self.disconnect(nowait=True)
            await self.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as failed:
            raise ConnectionFailed(_kind(failed)) from failed

    async def is_usable(self) -> bool:
        """Connected, as far as one can know without asking, and no reply is left over."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or writer.is_closing() or reader.exception():
            return False
        try:
            return not await self.can_read()  # the end of the connection can be read, too
        except RedisError:
            return False

    async def exchange(self, commands: Sequence[Command], until: float) -> list[Reply]:
        """A reply each, in order; `ConnectionFailed` for those that did not come in time.

        until: on the monotonic clock.
        """
        if self._writer is None:  # closed since it was lent
            return [ConnectionFailed("Closed")] * len(commands)
        loop = asyncio.get_running_loop()
        replies: list[Reply] = []
        read = self._parser.read_response  # type: ignore[attr-defined]
        self._hung_up = False
        self._timer = loop.call_later(until - time.monotonic(), self._overdue, until, True)
        try:
            self._writer.write(_packed(commands))
            for _ in commands:
                replies.append(await read())
        except (RedisError, OSError) as failed:
            kind = "TimeoutError" if self._hung_up else _kind(failed)
            replies += [ConnectionFailed(kind)] * (len(commands) - len(replies))
            self._hang_up()
        except BaseException:  # somebody else cancelled us: the replies are nobody's any more
            self._hang_up()
            raise
        finally:
            self._timer.cancel()
        return replies

    def _overdue(self, until: float, patient: bool) -> None:
        """Hang up, unless it was us who kept what has come by now from being read."""
        if patient and time.monotonic() - until > LATE_SECONDS:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LATE_SECONDS, self._overdue, until, False)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        self._hung_up = True
        if self._writer is not None:
            self._writer.transport.abort()


def _packed(commands: Sequence[Command]) -> bytes:
    return b"".join(hiredis.pack_command(tuple(c)) for c in commands)  # type: ignore[arg-type]


class TcpLine(Line, Connection):
    """Over TCP."""


class TlsLine(Line, SSLConnection):
    """Over TCP with TLS; the certificate must be for the host we asked for."""


class SocketLine(Line, UnixDomainSocketConnection):
    """Over a socket file."""


def lines_to(address: Address) -> Callable[[Server | None], Line]:
    """Makes lines, not connected yet, to any server there; None is the socket file."""
    # RESP2 and no library name need no words before the first command
    given = {"protocol": 2, "driver_info": None, "retry": Retry(NoBackoff(), 0), **address.options}
    files = {name: given.pop(f"ssl_{name}", None) for name in ("ca_certs", "certfile", "keyfile")}
    tls = RedisSSLContext(cert_reqs="required", check_hostname=True, **files)

    def make(server: Server | None) -> Line:
        if server is None:
            return SocketLine(**given)
        host, port = server
        if not address.tls:
            return TcpLine(host=host, port=port, **given)
        line = TlsLine(host=host, port=port, **given)
        line.ssl_context = tls  # reading the authorities takes longer than connecting
        return line

    return make


def _kind(failed: Exception) -> str:
    """The system's own name for it, where there is one."""
    cause = failed.__context__
    return type(cause if isinstance(cause, OSError) else failed).__name__
