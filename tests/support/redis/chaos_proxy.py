"""Fault-injecting TCP proxy between a client and Redis.

It passes bytes on in both directions and knows no protocol, except in the mode `LOADING`, where it
answers in place of Redis.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from enum import Enum
from random import Random

import hiredis

SLOW_SECONDS = 0.5  # delay of replies
LATE_SECONDS = 0.2  # delay of commands, longer than any client waits
FLAP_SECONDS = 0.05
FRAGMENT_SECONDS = 0.01
LOADING_REPLY = b"-LOADING Redis is loading the dataset in memory\r\n"


class FaultMode(Enum):
    """Fault that the proxy injects into all connections."""

    NONE = "passes everything on"
    REFUSED = "refuses new connections and resets those that exist"
    SILENT = "accepts everything and sends no reply"
    SLOW = "passes replies on half a second later"
    CUT_REPLIES = "resets the connection in the middle of a reply"
    FLAPPING = "is unavailable every other moment"
    LATE_COMMANDS = "passes commands on later, when the client may have gone"
    FRAGMENTED = "passes replies on in small pieces, with random delays"
    LOADING = "replies in place of Redis that it is loading"


class ChaosProxy:
    """Proxy that listens on `port` in front of the Redis on `redis_port`; a context manager."""

    def __init__(self, port: int, redis_port: int) -> None:
        self.port = port
        self._redis_port = redis_port
        self._mode = FaultMode.NONE
        self._random = Random(1)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._directions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ChaosProxy":
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.set_mode(FaultMode.REFUSED)
        for direction in self._directions:
            direction.cancel()
        await asyncio.gather(*self._connections)

    async def set_mode(self, mode: FaultMode) -> None:
        """Inject this fault from now on, into existing connections, too."""
        self._mode = mode
        if mode is FaultMode.REFUSED and self._server is not None:
            self._server.close()
            self._server = None
            for writer in self._writers:
                _reset(writer)
        elif mode is not FaultMode.REFUSED and self._server is None:
            await self._listen()

    def set_redis_port(self, redis_port: int) -> None:
        """Connect new connections to this port. Existing connections stay where they are."""
        self._redis_port = redis_port

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    @property
    def _is_unavailable(self) -> bool:
        odd_moment = int(asyncio.get_running_loop().time() / FLAP_SECONDS) % 2 == 1
        flapping = self._mode is FaultMode.FLAPPING and odd_moment
        return self._mode is FaultMode.REFUSED or flapping

    async def _connected(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        except OSError:
            to_client.transport.abort()
            return
        writers = {to_client, to_redis}
        self._writers |= writers
        commands = asyncio.create_task(self._pass_commands(from_client, to_client, to_redis))
        replies = asyncio.create_task(self._pass_replies(from_redis, to_client))
        self._directions |= {commands, replies}
        await asyncio.wait({commands, replies}, return_when=asyncio.FIRST_COMPLETED)
        if self._mode is FaultMode.LATE_COMMANDS:  # deliver, although the client has gone
            await asyncio.sleep(2 * LATE_SECONDS)
        for direction in (commands, replies):
            direction.cancel()
        await asyncio.gather(commands, replies, return_exceptions=True)
        self._directions -= {commands, replies}
        self._writers -= writers
        for writer in writers:
            _reset(writer)

    async def _pass_commands(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_redis: asyncio.StreamWriter,
    ) -> None:
        commands = hiredis.Reader()
        loop = asyncio.get_running_loop()

        async def pass_on(data: bytes) -> None:
            if self._mode is FaultMode.LATE_COMMANDS:
                loop.call_later(LATE_SECONDS, to_redis.write, data)
            elif self._mode is FaultMode.LOADING:
                commands.feed(data)
                while commands.gets() is not False:
                    to_client.write(LOADING_REPLY)
            elif self._mode is not FaultMode.SILENT:
                to_redis.write(data)

        await self._copy(from_client, pass_on)

    async def _pass_replies(
        self, from_redis: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        async def pass_on(data: bytes) -> None:
            if self._mode is FaultMode.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            if self._mode is FaultMode.CUT_REPLIES:
                to_client.write(data[: len(data) // 2])
                await asyncio.sleep(0)
                _reset(to_client)
            elif self._mode is FaultMode.FRAGMENTED:
                middle = self._random.randrange(len(data))
                for piece in (data[:middle], data[middle:]):
                    await asyncio.sleep(self._random.random() * FRAGMENT_SECONDS)
                    to_client.write(piece)
            elif self._mode is not FaultMode.SILENT:
                to_client.write(data)

        await self._copy(from_redis, pass_on)

    async def _copy(
        self, source: asyncio.StreamReader, pass_on: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Pass data on until one side closes the connection or the mode ends it."""
        while not self._is_unavailable:
            try:
                data = await source.read(65536)
            except OSError:
                return
            if not data or self._is_unavailable:
                return
            await pass_on(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection instead of ending it."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
