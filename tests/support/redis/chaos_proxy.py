"""The Gremlin: sits between a client and Redis, passes everything on, and misbehaves when told to.

It speaks TCP and knows nothing of either side, except where it answers in Redis's place.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from enum import Enum
from random import Random

import hiredis

SLOW_SECONDS = 0.5  # on the way back
LATE_SECONDS = 0.2  # on the way there, longer than anybody waits
FLAP_SECONDS = 0.05
DAWDLE_SECONDS = 0.01
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


class FaultMode(Enum):
    """What it does to everybody from now on."""

    GOOD = "passes everything on"
    ABSENT = "refuses connections, breaks those there are"
    SILENT = "takes everything, answers nothing"
    SLOW = "answers half a second later"
    RUDE = "hangs up in the middle of an answer"
    FLAPPING = "is away every other moment"
    LATE = "delivers what was sent later, also when nobody waits for it any more"
    DAWDLING = "passes everything on in small pieces, after a while that differs"
    LOADING = "answers in Redis's place that it is loading"


class ChaosProxy:
    """Listens on `port`, in front of the Redis on `redis_port`; a context manager."""

    def __init__(self, port: int, redis_port: int) -> None:
        self.port = port
        self._redis_port = redis_port
        self._mood = FaultMode.GOOD
        self._draw = Random(1)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._meetings: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ChaosProxy":
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.be(FaultMode.ABSENT)
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._meetings)

    async def be(self, mood: FaultMode) -> None:
        self._mood = mood
        if mood is FaultMode.ABSENT and self._server is not None:
            self._server.close()
            self._server = None
            self._hang_up()
        elif mood is not FaultMode.ABSENT and self._server is None:
            await self._listen()

    def lead_to(self, redis_port: int) -> None:
        """From now on new connections go there; those there are stay where they are."""
        self._redis_port = redis_port

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)

    def _hang_up(self) -> None:
        for writer in self._writers:
            _reset(writer)

    @property
    def _away(self) -> bool:
        flap = int(asyncio.get_running_loop().time() / FLAP_SECONDS) % 2 == 1
        return self._mood is FaultMode.ABSENT or (self._mood is FaultMode.FLAPPING and flap)

    async def _meet(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        meeting = asyncio.current_task()
        assert meeting is not None
        self._meetings.add(meeting)
        meeting.add_done_callback(self._meetings.discard)
        try:
            redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        except OSError:
            to_client.transport.abort()
            return
        both = {to_client, to_redis}
        self._writers |= both
        there = asyncio.create_task(self._there(client, to_client, to_redis))
        back = asyncio.create_task(self._back(redis, to_client))
        self._pumps |= {there, back}
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if self._mood is FaultMode.LATE:  # nobody waits, it is delivered all the same
            await asyncio.sleep(2 * LATE_SECONDS)
        for direction in (there, back):
            direction.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        self._pumps -= {there, back}
        self._writers -= both
        for writer in both:
            _reset(writer)

    async def _there(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_redis: asyncio.StreamWriter,
    ) -> None:
        commands = hiredis.Reader()
        loop = asyncio.get_running_loop()

        async def pass_on(data: bytes) -> None:
            if self._mood is FaultMode.LATE:
                loop.call_later(LATE_SECONDS, to_redis.write, data)
            elif self._mood is FaultMode.LOADING:
                commands.feed(data)
                while commands.gets() is not False:
                    to_client.write(LOADING)
            elif self._mood is not FaultMode.SILENT:
                to_redis.write(data)

        await self._pump(client, pass_on)

    async def _back(self, redis: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async def pass_on(data: bytes) -> None:
            if self._mood is FaultMode.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            if self._mood is FaultMode.RUDE:
                to_client.write(data[: len(data) // 2])
                await asyncio.sleep(0)
                _reset(to_client)
            elif self._mood is FaultMode.DAWDLING:
                at = self._draw.randrange(len(data))
                for piece in (data[:at], data[at:]):
                    await asyncio.sleep(self._draw.random() * DAWDLE_SECONDS)
                    to_client.write(piece)
            elif self._mood is not FaultMode.SILENT:
                to_client.write(data)

        await self._pump(redis, pass_on)

    async def _pump(
        self, source: asyncio.StreamReader, pass_on: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Until one side ends or the mood does it."""
        while not self._away:
            try:
                data = await source.read(65536)
            except OSError:
                return
            if not data or self._away:
                return
            await pass_on(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    """The other side is told that the connection is broken, not that it has ended."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
