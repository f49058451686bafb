"""Open-loop load: send requests at a fixed rate, whether or not earlier ones are answered.

A broken or refused connection counts as a response with status 0. After one the rate drops until
the service answers again.
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
class LoadRequest:
    """Path and JSON body of a POST request."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadResponse:
    """Response to one request of the load."""

    request: LoadRequest
    status: int
    seconds: float
    body: dict[str, Any] = field(default_factory=dict)
    received_at: float = 0.0  # `time.perf_counter`


class SteadyLoad:
    """Load of `rate` requests a second.

    make: returns request number 0, 1, 2, …
    responses: grows while the load runs.
    """

    def __init__(
        self, host: str, port: int, rate: float, make: Callable[[int], LoadRequest]
    ) -> None:
        self.responses: list[LoadResponse] = []
        self._client = QuickClient(host, port)
        self._rate, self._make = rate, make

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send requests while the block runs, then wait for the last responses."""
        stop = asyncio.Event()
        sending = asyncio.create_task(self._send_all(stop))
        try:
            yield
        finally:
            stop.set()
            await sending
            self._client.close()

    async def send(self, request: LoadRequest) -> LoadResponse:
        began = time.perf_counter()
        try:
            answer = await self._client.post(request.path, json=request.body)
            status, content = answer.status_code, answer.content
        except OSError:
            status, content = BROKEN, b""
        now = time.perf_counter()
        body = orjson.loads(content) if content.startswith(b"{") else {}
        return LoadResponse(request, status, now - began, body, now)

    async def _send_all(self, stop: asyncio.Event) -> None:
        due, number = time.perf_counter(), 0
        under_way: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            sending = asyncio.create_task(self._record(self._make(number)))
            under_way.add(sending)
            sending.add_done_callback(under_way.discard)
            down = bool(self.responses) and self.responses[-1].status == BROKEN
            due += SLOWLY_SECONDS if down else 1 / self._rate
            number += 1
        if under_way:
            await asyncio.gather(*under_way)

    async def _record(self, request: LoadRequest) -> None:
        self.responses.append(await self.send(request))
