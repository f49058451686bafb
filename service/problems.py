"""Every error as RFC 9457 problem details; the one table from our exceptions to statuses."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.client.schemas import FieldProblem, Problem
from recsys.errors import (
    BundleRefused,
    NoPreviousModel,
    Overloaded,
    StoreUnavailable,
    UnknownAttribute,
    UnknownItem,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "1"
MOST_ERRORS = 20  # in one answer
LONGEST_ANSWER_BYTES = 16_000
ROOM_FOR_REQUEST_ID = 200
LONGEST_FIELD, LONGEST_TEXT = 128, 1000  # characters; a JSON string has six bytes for each at most
STATUS_OF: dict[type[Exception], int] = {
    UnknownItem: 404,
    UnknownAttribute: 422,
    BundleRefused: 422,
    NoPreviousModel: 409,
    StoreUnavailable: 503,
    Overloaded: 503,
}
log = logging.getLogger("recsys.service")


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every exception of the application, which has these routes, with a problem."""

    async def refused(request: Request, failed: Exception) -> Response:
        assert isinstance(failed, HTTPException)
        headers = dict(failed.headers or {})
        if failed.status_code == 405:  # Starlette names the methods of one route of the path
            headers["Allow"] = ", ".join(_methods(routes, request)) or headers["Allow"]
        return problem(failed.status_code, str(failed.detail), headers=headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ClientDisconnect, _left)
    for kind in STATUS_OF:
        app.add_exception_handler(kind, _ours)


async def as_problem(request: Request, failed: Exception) -> Response:
    """The answer to an exception of a route."""
    if isinstance(failed, RequestValidationError):
        return await invalid(request, failed)
    if isinstance(failed, HTTPException):
        return await _http(request, failed)
    if isinstance(failed, ClientDisconnect):
        return await _left(request, failed)
    if type(failed) in STATUS_OF:
        return await _ours(request, failed)
    return unexpected(request.scope)


def unexpected(scope: Scope) -> Response:
    """The answer to our own mistake, which is logged with the exception now handled."""
    route = getattr(scope.get("route"), "path", "unmatched")  # the path itself may name a user
    log.exception(
        "A request failed.", extra={"request_id": scope.get("request_id"), "route": route}
    )
    return problem(500, "Something went wrong here, not with the request. It is logged.")


class ProblemAnswer(Response):
    """A problem, which is written once it is known which request it answers."""

    media_type = MEDIA_TYPE

    def __init__(self, found: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = found.status
        self._found = found
        self._sent_with = headers

    def of(self, request_id: str | None) -> Response:
        """As the answer to this request."""
        named = self._found.model_copy(update={"request_id": request_id})
        return Response(named.model_dump_json(), self.status_code, self._sent_with, self.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.of(scope.get("request_id"))(scope, receive, send)


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemAnswer:
    """An answer of at most `MOST_ERRORS` errors and `LONGEST_ANSWER_BYTES`, whatever it quotes."""
    found = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_clipped(detail, LONGEST_TEXT),
        errors=[
            FieldProblem(
                field=_clipped(error.field, LONGEST_FIELD),
                message=_clipped(error.message, LONGEST_TEXT),
            )
            for error in errors[:MOST_ERRORS]
        ],
    )
    while len(found.model_dump_json()) > LONGEST_ANSWER_BYTES - ROOM_FOR_REQUEST_ID:
        found.errors.pop()
    return ProblemAnswer(found, headers)


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


async def _ours(request: Request, failed: Exception) -> Response:
    if isinstance(failed, Overloaded):
        request.app.state.running.metrics.refused.inc()
    status = STATUS_OF[type(failed)]
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
    errors = []
    if isinstance(failed, UnknownAttribute):
        errors = [FieldProblem(field=failed.field, message=str(failed))]
    return problem(status, str(failed), errors, headers)


async def invalid(_: Request, failed: Exception) -> Response:
    """The fields at fault by name, the first of them; the body itself is never echoed."""
    assert isinstance(failed, RequestValidationError)
    found = failed.errors()
    errors = [_field_problem(error) for error in found[:MOST_ERRORS]]
    malformed = any(error["type"] == "json_invalid" for error in found)
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:10])
    return problem(400 if malformed else 422, detail, errors)


def _field_problem(error: Any) -> FieldProblem:
    if error["type"] == "json_invalid":
        return FieldProblem(field="body", message=f"is not JSON: {error['ctx']['error']}.")
    part, *path = error["loc"]  # body, path or query, and where in it
    message = error["msg"].removeprefix("Value error, ")
    return FieldProblem(field=".".join(map(str, path)) or part, message=message)


async def _http(_: Request, failed: Exception) -> Response:
    assert isinstance(failed, HTTPException)
    return problem(failed.status_code, str(failed.detail), headers=failed.headers)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """What the path takes."""
    found: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


async def _left(_: Request, __: Exception) -> Response:
    """Who has gone reads no answer; the metrics do."""
    return problem(408, "The request did not arrive whole.")


class Unexpected:
    """ASGI middleware: our own mistake is logged and answered 500, and the connection lives on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if scope["type"] != "http" or begun:
                raise
            await unexpected(scope)(scope, receive, send)
