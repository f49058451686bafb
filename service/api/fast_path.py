"""The one call that must be quick: its body comes in, and its answer goes out, without detours.

FastAPI's way from a request to a route and back passes twenty functions and checks the answer
against its schema once more. Here `POST /v1/recommendations` turns off before that. What goes in is
checked as everywhere, errors are those of every other route, and a test holds the answer to the
schema. FastAPI keeps the route, for the documentation.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.request_checks import check_query, read_json
from service.problems import as_problem
from service.recommender import RecommendationResult

Body = TypeVar("Body", bound=BaseModel)
PATH = "/v1/recommendations"


@dataclass(frozen=True, slots=True)
class FastRoute:
    """What the metrics of a request name it by."""

    path: str = PATH


class FastPath:
    """ASGI middleware: `answer` writes the answers of `PATH`, everything else goes on."""

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Awaitable[bytes]]) -> None:
        self._app = app
        self._answer = answer
        self._route = FastRoute()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive, send)
        try:
            content = await self._answer(request)
        except Exception as failed:
            response = await as_problem(request, failed)
            await response(scope, receive, send)
            return
        length = str(len(content)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def documented(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads its body itself; other routes define the schema."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


async def read_body(request: Request, kind: type[Body]) -> Body:
    """The checked body; raises `RequestValidationError`, as FastAPI does."""
    check_query(request.scope)
    found = await read_json(request)
    try:
        return kind.model_validate(found)
    except ValidationError as wrong:
        raw = wrong.errors(include_url=False, include_context=False, include_input=False)
        errors = [{**error, "loc": ("body", *error["loc"])} for error in raw]
        raise RequestValidationError(errors) from wrong


def written(answer: RecommendationResult) -> bytes:
    """`schemas.Recommendations` as JSON."""
    content = {
        "model_id": answer.model_id,
        "source": answer.source,
        "degraded": answer.degraded,
        "stored": answer.stored,
        "unknown_items": answer.unknown_items,
        "items": [{"item_id": item_id, "score": score} for item_id, score in answer.items],
    }
    return orjson.dumps(content)
