"""As much of httpx's client as the Caller needs, for a tenth of the time, which figures need."""

import asyncio
from typing import Any

import httpx
import orjson

from service.bench.connection import Connection

Answer = asyncio.Future[tuple[int, bytes]]  # status and body


class QuickClient:
    """Keeps connections to one server; a request that breaks is answered with status 0."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[Connection] = []

    async def get(self, path: str) -> httpx.Response:
        return await self._ask("GET", path)

    async def delete(self, path: str) -> httpx.Response:
        return await self._ask("DELETE", path)

    async def post(self, path: str, *, json: Any) -> httpx.Response:
        return await self._ask("POST", path, orjson.dumps(json))

    def close(self) -> None:
        for connection in self._free:
            connection.close()

    async def _ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        connection, answer = None, None
        while self._free and (answer is None or answer.done()):  # closed by then for being idle
            connection = self._free.pop()
            answer = ask(connection, method, path, self._host, body)
        if connection is None or answer is None or answer.done():
            connection = await Connection.to(self._host, self._port)
            answer = ask(connection, method, path, self._host, body)
        status, content = await answer
        if status:
            self._free.append(connection)
        return httpx.Response(status, content=content)


def ask(connection: Connection, method: str, path: str, host: str, body: bytes = b"") -> Answer:
    """Answered at once, with status 0, where the connection was closed before."""
    answer: Answer = asyncio.get_running_loop().create_future()

    def answered(status: int, content: bytes) -> None:
        if not answer.done():
            answer.set_result((status, content))

    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n" if body else "\r\n"
    connection.ask(head.encode() + body, answered)
    return answer
