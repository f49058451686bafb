"""Limit of the size of request bodies, with or without a Content-Length."""

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import problem


class BodyLimit:
    """ASGI middleware: the body limit of Starlette, with problem details in its 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._limited = RequestBodyLimitMiddleware(app, max_bytes)
        self._refusal = problem(
            413, f"The body may have at most {max_bytes:,} bytes. Send less at a time."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def with_problem(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                refused = True
                await self._refusal(scope, receive, send)
            elif not refused:
                await send(message)

        await self._limited(scope, receive, with_problem)
