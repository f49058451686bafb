"""Keep-alive connection that sends prepared bytes and reports status and body of each answer."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

OnAnswer = Callable[[int, bytes], None]  # receives status and body
BROKEN = 0  # status of a request whose connection broke


class Connection(asyncio.Protocol):
    """Connection for one request at a time. Callers wait for the answer before the next request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._on_answer: OnAnswer | None = None
        self._parser: Any = None
        self._body: list[bytes] = []

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port)
        return connection

    def send(self, request: bytes, on_answer: OnAnswer) -> None:
        """Send a request. `on_answer` is called once, also if the connection breaks."""
        if self.closed:
            on_answer(BROKEN, b"")
            return
        assert self._transport is not None, "an open connection has a transport"
        self._on_answer = on_answer
        self._transport.write(request)

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._report(BROKEN, b"")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._report(status, body)

    def _report(self, status: int, body: bytes) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(status, body)


def post(host: str, port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of a POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
