"""One keep-alive connection: prepared bytes go out, each answer's status and body come back."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

Answered = Callable[[int, bytes], None]  # (status, body); status 0 where the connection broke
BROKEN = 0


class Connection(asyncio.Protocol):
    """One request at a time; whoever asks waits for the answer before asking again."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._parser: Any = None
        self._body: list[bytes] = []

    @classmethod
    async def to(cls, host: str, port: int) -> "Connection":
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(cls, host, port)
        return made

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send; `answered` is called once, also where the connection breaks."""
        if self.closed:
            answered(BROKEN, b"")
            return
        assert self._transport is not None, "it is not closed"
        self._answered = answered
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
        self._hand_on(BROKEN, b"")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._hand_on(status, body)

    def _hand_on(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, body)


def post(host: str, port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A request as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
