"""Check a request before its route validates it, at a cost that is linear in the size of the body.

pydantic collects an error for every wrong value, and an error costs a hundred times as much as a
value. So this module counts the parts of a body first: its values, the fields of each object and
the depth of nesting. It checks the requests of all routes and of the fast path.
"""

import re
from collections.abc import Callable, Collection, Coroutine
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Scope

from recsys_client.schemas import MAX_FIELDS

MAX_VALUES = 20_000  # strings, numbers, lists and objects of one body
MAX_DEPTH = 8  # lists and objects within each other
FEW_VALUES = 16  # a body with so few cannot exceed the other limits
JSON = re.compile(rb"application/(?:[\w!#$&^.+-]+\+)?json", re.IGNORECASE)
Schema = TypeVar("Schema", bound=BaseModel)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Route that refuses unknown query parameters, wrong content types and oversized structures."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        parameters = frozenset(param.alias for param in self.dependant.query_params)
        has_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            check_query(request.scope, parameters)
            if not has_body:
                return await handle(request)
            checked = CheckedRequest(request.scope, request.receive)
            await checked.json()
            return await handle(checked)

        return strict


class CheckedRequest(Request):
    """Request that parses and checks its JSON once, although FastAPI reads it again."""

    parsed: object = None

    async def json(self) -> Any:
        if self.parsed is None:
            self.parsed = await read_json(self)
        return self.parsed


def check_query(scope: Scope, known: Collection[str] = ()) -> None:
    """Raise `RequestValidationError` if the query has a parameter that the route does not take."""
    if not scope["query_string"]:
        return
    unknown = [name for name in QueryParams(scope["query_string"]) if name not in known]
    if unknown:
        takes = f"It takes {', '.join(sorted(known))}." if known else "It takes none."
        message = f"is not a query parameter of this call. {takes}"
        errors = [{"type": "extra_forbidden", "loc": ("query", name)} for name in unknown]
        raise RequestValidationError([{**error, "msg": message} for error in errors])


async def read_json(request: Request) -> object:
    """Return the parsed body.

    Raises:
        HTTPException: 415, if the content type is not JSON.
        RequestValidationError: If the body is not JSON or has too many parts.
    """
    types = [value for name, value in request.scope["headers"] if name == b"content-type"]
    if len(types) != 1 or not is_json(types[0]):
        got = b", ".join(types).decode("latin-1") or "none"
        raise HTTPException(415, f"Send the body with Content-Type: application/json. Got: {got}.")
    raw = await request.body()
    values = count_values(raw)
    if values > MAX_VALUES:
        raise _too_large(f"holds more than {MAX_VALUES:,} values. Send less at a time")
    try:
        body: object = orjson.loads(raw)
    except orjson.JSONDecodeError as broken:
        error = {"type": "json_invalid", "loc": ("body", broken.pos), "ctx": {"error": broken.msg}}
        raise RequestValidationError([error]) from broken
    if values > FEW_VALUES:
        check_structure(body)
    return body


async def read_body(request: Request, schema: type[Schema]) -> Schema:
    """Return the body, checked against its schema; raise the errors that a route would raise."""
    check_query(request.scope)
    body = await read_json(request)
    try:
        return schema.model_validate(body)
    except ValidationError as invalid:
        raw = invalid.errors(include_url=False, include_context=False, include_input=False)
        errors = [{**error, "loc": ("body", *error["loc"])} for error in raw]
        raise RequestValidationError(errors) from invalid


@lru_cache(maxsize=256)
def is_json(content_type: bytes) -> bool:
    """Return whether the media type is application/json or ends in +json, with any parameters."""
    return JSON.fullmatch(content_type.partition(b";")[0].strip()) is not None


def count_values(raw: bytes) -> int:
    """Return an upper bound of the number of values in a JSON text.

    A comma or a bracket precedes each value except the first. If the count is too large, separators
    within strings are not counted.
    """
    values = _separators(raw)
    return values if values <= MAX_VALUES else _separators(_without_strings(raw))


def check_structure(body: object) -> None:
    """Raise `RequestValidationError` if an object has too many fields or is nested too deeply."""
    level = [body]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for part in level:
            if isinstance(part, dict):
                if len(part) > MAX_FIELDS:
                    raise _too_large(f"has an object of {len(part):,} fields, {MAX_FIELDS} at most")
                inner += [each for each in part.values() if isinstance(each, (dict, list))]
            elif isinstance(part, list):
                inner += [each for each in part if isinstance(each, (dict, list))]
        if not inner:
            return
        level = inner
    raise _too_large(f"is nested more than {MAX_DEPTH} deep")


def _without_strings(raw: bytes) -> bytes:
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2])


def _separators(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{") + 1


def _too_large(message: str) -> RequestValidationError:
    error = {"type": "too_large", "loc": ("body",), "msg": f"{message}."}
    return RequestValidationError([error])
