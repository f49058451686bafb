"""Lends the lines to one server, one user at a time; who finds none free waits for one.

A line is connected when it is first wanted and whenever it was hung up. Connecting goes on by
itself where nobody can wait any longer, and the next one finds it done.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from service.redis_line import ConnectionFailed, Line

STEPS = 4  # to connect: TCP, TLS, AUTH, SELECT


class Switchboard:
    """At most `lines` connections, made by `make`; one step of connecting takes `timeout`."""

    def __init__(self, make: Callable[[], Line], lines: int, timeout: float) -> None:
        self._make = make
        self._most = lines
        self._timeout = timeout
        self._lines: list[Line] = []
        self._free: list[Line] = []
        self._waiting: deque[asyncio.Future[Line]] = deque()
        self._reaching: set[asyncio.Task[None]] = set()
        self._closed = False

    async def take(self, deadline: float) -> Line:
        """A connected line, to be given back; raises `ConnectionFailed`."""
        if self._closed:
            raise ConnectionFailed("Closed")
        line = self._free.pop() if self._free else await self._another(deadline)
        if not await line.is_usable():
            await self._reach(line, deadline)
        return line

    def give_back(self, line: Line) -> None:
        """To whoever has waited longest."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(line)
                return
        self._free.append(line)

    async def close(self) -> None:
        """Hang up all; who still waits for a reply reads the end of the line."""
        self._closed = True
        if self._reaching:
            await asyncio.wait(self._reaching, timeout=STEPS * self._timeout)
        for line in self._lines:
            with contextlib.suppress(RedisError, OSError):
                await line.disconnect()

    async def _another(self, deadline: float) -> Line:
        """A new one, while there may be more, else the next that is given back."""
        if len(self._lines) < self._most:
            self._lines.append(self._make())
            return self._lines[-1]
        waiting: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await asyncio.wait({waiting}, timeout=max(deadline - time.monotonic(), 0))
        except asyncio.CancelledError:
            if waiting.done():
                self.give_back(waiting.result())
            raise
        finally:
            waiting.cancel()  # nothing, where a line has come
        if waiting.cancelled():
            raise ConnectionFailed("NoFreeConnection")
        return waiting.result()

    async def _reach(self, line: Line, deadline: float) -> None:
        reaching = asyncio.create_task(line.reach(self._timeout))
        self._reaching.add(reaching)
        reaching.add_done_callback(self._reached)
        left = max(deadline - time.monotonic(), 0)
        try:
            await asyncio.wait({reaching}, timeout=min(self._timeout, left))
        finally:
            if not reaching.done():
                reaching.add_done_callback(lambda _: self.give_back(line))
        if not reaching.done():
            raise ConnectionFailed("TimeoutError")
        failed = reaching.exception()
        if failed is not None:
            self.give_back(line)
            raise failed

    def _reached(self, reaching: "asyncio.Task[None]") -> None:
        self._reaching.discard(reaching)
        if not reaching.cancelled():
            reaching.exception()  # looked at, so that asyncio does not report it again
