"""Headers of every answer: the id of its request and the rules for browsers and caches."""

import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import REQUEST_FIELDS

SAFE_ID = re.compile(rb"[A-Za-z0-9._:=+@-]{1,128}")  # in headers, log lines and shells


def request_id_of(scope: Scope) -> str:
    """Return the X-Request-ID of the client if it is safe, else a new id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SAFE_ID.fullmatch(value):
            request_id: bytes = value
            return request_id.decode()
    return new_request_id()


def new_request_id() -> str:
    return os.urandom(8).hex()


NO_SNIFFING = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")  # answers concern a user and change at any time
REVALIDATE = (b"cache-control", b"no-cache")  # all files must be of one version
FILES = ("/static-offline-docs/", "/playground/")


class AnswerHeaders:
    """ASGI middleware that adds the headers, and sets the request id for answers and log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = request_id_of(scope)
        REQUEST_FIELDS.set({"request_id": request_id})
        headers = common_headers(request_id, file=scope["path"].startswith(FILES))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def common_headers(request_id: str, *, file: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer. A browser may cache a `file` if it revalidates it."""
    return [(b"x-request-id", request_id.encode()), NO_SNIFFING, REVALIDATE if file else NO_STORE]
