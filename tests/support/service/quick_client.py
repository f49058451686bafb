"""HTTP client with the interface of httpx and a tenth of its CPU time, for measurements."""

import asyncio
import time
from collections import deque
from typing import Any

import httpx
import orjson

from service.bench.connection import Connection

FRESH_SECONDS = 2.0  # uvicorn closes what was idle for five
StatusAndBody = asyncio.Future[tuple[int, bytes]]


class QuickClient:
    """Client with a pool of connections to one server; a broken request has status 0."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: deque[tuple[float, Connection]] = deque()  # time of the last use, connection

    async def get(self, path: str) -> httpx.Response:
        return await self._ask("GET", path)

    async def delete(self, path: str) -> httpx.Response:
        return await self._ask("DELETE", path)

    async def post(self, path: str, *, json: Any) -> httpx.Response:
        return await self._ask("POST", path, orjson.dumps(json))

    def close(self) -> None:
        for _, connection in self._free:
            connection.close()

    async def _ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        connection = self._take_free() or await Connection.open(self._host, self._port)
        status, content = await ask(connection, method, path, self._host, body)
        if status:
            self._free.append((time.monotonic(), connection))
        return httpx.Response(status, content=content)

    def _take_free(self) -> Connection | None:
        """Return a free connection that the server will not close soon, and close the old ones."""
        latest = time.monotonic() - FRESH_SECONDS
        while self._free and self._free[0][0] < latest:
            self._free.popleft()[1].close()
        return self._free.pop()[1] if self._free else None


def ask(
    connection: Connection, method: str, path: str, host: str, body: bytes = b""
) -> StatusAndBody:
    """Send a request; return status and body, status 0 if the connection breaks."""
    answer: StatusAndBody = asyncio.get_running_loop().create_future()

    def answered(status: int, content: bytes) -> None:
        if not answer.done():
            answer.set_result((status, content))

    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n" if body else "\r\n"
    connection.send(head.encode() + body, answered)
    return answer
