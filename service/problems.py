"""Problem details of RFC 9457 for all errors, and the table from exceptions to status codes."""

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

from recsys.errors import (
    BundleRefused,
    NoPreviousModel,
    Overloaded,
    StoreUnavailable,
    TextAttribute,
    UnknownAttribute,
    UnknownItem,
    WrongAttribute,
)
from recsys_client.schemas import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "1"
MAX_ERRORS = 20  # in one answer
MAX_ANSWER_BYTES = 16_000
REQUEST_ID_BYTES = 200
MAX_FIELD_LENGTH, MAX_TEXT_LENGTH = 128, 1000  # characters, of at most six bytes in JSON
STATUS_OF: dict[type[Exception], int] = {
    UnknownItem: 404,
    UnknownAttribute: 422,
    TextAttribute: 422,
    BundleRefused: 422,
    NoPreviousModel: 409,
    StoreUnavailable: 503,
    Overloaded: 503,
}
log = logging.getLogger("recsys.service")


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every exception of an application, which has these routes, with a problem."""

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers, detail = dict(error.headers or {}), str(error.detail)
        if error.status_code == 405:  # Starlette names the methods of only one route of the path
            headers["Allow"] = ", ".join(_methods(routes, request)) or headers["Allow"]
            detail = f"This path takes {headers['Allow']}, and not {request.method}."
        if detail == HTTPStatus.NOT_FOUND.phrase:  # by Starlette: no route has the path
            detail = "There is no such call. The page /docs shows all calls."
        return problem(error.status_code, detail, headers=headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    for kind in STATUS_OF:
        app.add_exception_handler(kind, _expected)


async def as_problem(request: Request, error: Exception) -> Response:
    """Return the answer to an exception of a route."""
    if isinstance(error, RequestValidationError):
        return await invalid(request, error)
    if isinstance(error, HTTPException):
        return await _http_error(request, error)
    if isinstance(error, ClientDisconnect):
        return await _disconnected(request, error)
    if type(error) in STATUS_OF:
        return await _expected(request, error)
    return unexpected(request.scope)


def unexpected(scope: Scope) -> Response:
    """Log the exception that is being handled and return the answer to it."""
    route = getattr(scope.get("route"), "path", "unmatched")  # the path may hold a user id
    log.exception("A request failed.", extra={"route": route})
    return problem(500, "The service failed because of a bug. The log has the details.")


class ProblemResponse(Response):
    """Response with a problem, completed with the id of the request when it is sent."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = problem.status
        self._problem = problem
        self._problem_headers = headers

    def with_request_id(self, request_id: str | None) -> Response:
        """Return the response to the request with this id."""
        body = self._problem.model_copy(update={"request_id": request_id}).model_dump_json()
        return Response(body, self.status_code, self._problem_headers, self.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.with_request_id(scope.get("request_id"))(scope, receive, send)


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """Return a response of at most `MAX_ERRORS` errors and `MAX_ANSWER_BYTES`."""
    details = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_clipped(detail, MAX_TEXT_LENGTH),
        errors=[
            FieldProblem(
                field=_clipped(error.field, MAX_FIELD_LENGTH),
                message=_clipped(error.message, MAX_TEXT_LENGTH),
            )
            for error in errors[:MAX_ERRORS]
        ],
    )
    while len(details.model_dump_json()) > MAX_ANSWER_BYTES - REQUEST_ID_BYTES:
        details.errors.pop()
    return ProblemResponse(details, headers)


def _clipped(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


async def _expected(request: Request, error: Exception) -> Response:
    if isinstance(error, Overloaded):
        request.app.state.running.metrics.refused.inc()
    status = STATUS_OF[type(error)]
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
    errors = []
    if isinstance(error, WrongAttribute):
        errors = [FieldProblem(field=error.field, message=str(error))]
    return problem(status, str(error), errors, headers)


async def invalid(_: Request, error: Exception) -> Response:
    """Name the first wrong fields. The answer never repeats the body."""
    assert isinstance(error, RequestValidationError)
    raw = error.errors()
    errors = [_field_problem(each) for each in raw[:MAX_ERRORS]]
    malformed = any(each["type"] == "json_invalid" for each in raw)
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:10])
    return problem(400 if malformed else 422, detail, errors)


def _field_problem(error: Any) -> FieldProblem:
    if error["type"] == "json_invalid":
        return FieldProblem(field="body", message=f"is not JSON: {error['ctx']['error']}.")
    part, *path = error["loc"]  # body, path or query, and the position in it
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "is not permitted: this call has no such field; the page /docs shows its fields"
    return FieldProblem(field=".".join(map(str, path)) or part, message=message)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """Return the methods that the path takes."""
    methods: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _disconnected(_: Request, __: Exception) -> Response:
    """Return the answer for a client that has left. Only the metrics read it."""
    return problem(408, "The request did not arrive completely. Send it again.")


class UnexpectedErrors:
    """ASGI middleware that logs an unexpected exception, answers 500 and keeps the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            await unexpected(scope)(scope, receive, send)
