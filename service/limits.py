"""ASGI middleware that stops reading a request body at the limit, announced or not."""

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import problem


class BodyLimit:
    """Bodies above `max_bytes` are 413, before they are held in memory."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._sentence = f"The body may have at most {max_bytes:,} bytes. Send less at a time."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((v for name, v in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit():  # uvicorn lets nobody send more than is announced
            small = int(announced) <= self._max_bytes
            await (self._app if small else problem(413, self._sentence))(scope, receive, send)
            return
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413, self._sentence)
            return message

        await self._app(scope, counting, send)
