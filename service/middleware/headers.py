"""What every answer carries: its request's id, and that nobody may guess at it or keep it."""

import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SANE = re.compile(rb"[A-Za-z0-9._:=+@-]{1,128}")  # fits a header, a log line and a shell


def request_id_of(scope: Scope) -> str:
    """The client's own X-Request-ID where it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE.fullmatch(value):
            sent: bytes = value
            return sent.decode()
    return new_request_id()


def new_request_id() -> str:
    return os.urandom(8).hex()


NO_GUESSING = (b"x-content-type-options", b"nosniff")
NO_KEEPING = (b"cache-control", b"no-store")  # answers are about a user, and of this moment
ASK_AGAIN = (b"cache-control", b"no-cache")  # files of one version of ours belong together
FILES = ("/static-offline-docs/", "/playground/")


class AnswerHeaders:
    """ASGI middleware: names the request in `scope["request_id"]`, and adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = scope["request_id"] = request_id_of(scope)
        more = added(name, file=scope["path"].startswith(FILES))

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, adding)


def added(request_id: str, *, file: bool = False) -> list[tuple[bytes, bytes]]:
    """`file`: it is a file of ours, which a browser may keep if it asks whether it is still so."""
    return [
        (b"x-request-id", request_id.encode()),
        NO_GUESSING,
        ASK_AGAIN if file else NO_KEEPING,
    ]
