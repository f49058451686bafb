"""The Metronome of clients: so many requests a second, whether or not those before are answered.

What it asks is made by number, what came back is kept. A connection that breaks, or that nobody
accepts, is an answer with status 0; after one it asks more slowly, until it is answered again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.service.quick_client import QuickClient

BROKEN, SLOWLY_SECONDS = 0, 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """A path, and what is posted to it."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What came back."""

    asked: Asked
    status: int
    seconds: float
    body: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0  # when it came, as `time.perf_counter` says


class SteadyLoad:
    """Asks what `make` makes of 0, 1, 2, … at `rate` a second; `told` grows as answers come."""

    def __init__(self, host: str, port: int, rate: float, make: Callable[[int], Asked]) -> None:
        self.told: list[Told] = []
        self._client = QuickClient(host, port)
        self._rate, self._make = rate, make

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """While the block runs; what was asked by then is answered before it ends."""
        stop = asyncio.Event()
        asking = asyncio.create_task(self._ask_all(stop))
        try:
            yield
        finally:
            stop.set()
            await asking
            self._client.close()

    async def ask(self, asked: Asked) -> Told:
        began = time.perf_counter()
        try:
            answer = await self._client.post(asked.path, json=asked.body)
            status, content = answer.status_code, answer.content
        except OSError:
            status, content = BROKEN, b""
        now = time.perf_counter()
        body = orjson.loads(content) if content.startswith(b"{") else {}
        return Told(asked, status, now - began, body, now)

    async def _ask_all(self, stop: asyncio.Event) -> None:
        due, number = time.perf_counter(), 0
        under_way: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            asking = asyncio.create_task(self._noted(self._make(number)))
            under_way.add(asking)
            asking.add_done_callback(under_way.discard)
            down = bool(self.told) and self.told[-1].status == BROKEN
            due += SLOWLY_SECONDS if down else 1 / self._rate
            number += 1
        if under_way:
            await asyncio.gather(*under_way)

    async def _noted(self, asked: Asked) -> None:
        self.told.append(await self.ask(asked))
