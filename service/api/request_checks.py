"""Check a request before its route validates it, at a cost that the size of the body bounds.

pydantic collects an error for every value at fault, and an error costs a hundred times as much as
the value. So the parts of a body are counted first: how many values it holds, how many fields an
object has, how deep it is nested. All routes are checked here, the one of `hot_path.py` as well.
"""

import re
from collections.abc import Callable, Collection, Coroutine
from functools import lru_cache
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Scope

MOST_VALUES = 20_000  # in one body: strings, numbers, lists, objects
MOST_FIELDS = 32  # of one object
DEEPEST = 8  # lists and objects within each other
FEW_VALUES = 16  # so few need no look at each
JSON = re.compile(rb"application/(?:[\w!#$&^.+-]+\+)?json", re.IGNORECASE)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Refuse query parameters, content types and large structures that a route does not take."""

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
    """Request whose JSON was checked when it was read; FastAPI asks for it again."""

    parsed: object = None

    async def json(self) -> Any:
        if self.parsed is None:
            self.parsed = await read_json(self)
        return self.parsed


def check_query(scope: Scope, known: Collection[str] = ()) -> None:
    """Raises `RequestValidationError` where the query has a parameter that the route does not."""
    if not scope["query_string"]:
        return
    unknown = [name for name in QueryParams(scope["query_string"]) if name not in known]
    if unknown:
        takes = f"It takes {', '.join(sorted(known))}." if known else "It takes none."
        said = f"is not a query parameter of this call. {takes}"
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": said} for name in unknown]
        )


async def read_json(request: Request) -> object:
    """The parsed body.

    Raises `HTTPException` (415) where the content type is not JSON, and `RequestValidationError`
    where the body is not JSON or has too many parts.
    """
    sent = [value for name, value in request.scope["headers"] if name == b"content-type"]
    if len(sent) != 1 or not is_json(sent[0]):
        got = b", ".join(sent).decode("latin-1") or "none"
        raise HTTPException(415, f"Send the body with Content-Type: application/json. Got: {got}.")
    raw = await request.body()
    values = count_values(raw)
    if values > MOST_VALUES:
        raise _refused(f"holds more than {MOST_VALUES:,} values. Send less at a time")
    try:
        found: object = orjson.loads(raw)
    except orjson.JSONDecodeError as broken:
        error = {"type": "json_invalid", "loc": ("body", broken.pos), "ctx": {"error": broken.msg}}
        raise RequestValidationError([error]) from broken
    if values > FEW_VALUES:
        check_structure(found)
    return found


@lru_cache(maxsize=256)
def is_json(content_type: bytes) -> bool:
    """The media type is application/json or ends in +json; its parameters do not matter."""
    return JSON.fullmatch(content_type.partition(b";")[0].strip()) is not None


def count_values(raw: bytes) -> int:
    """An upper bound of the values in a JSON text; no JSON has more values than this.

    A comma or a bracket stands before each value but the first. Those within strings are left out
    where it matters.
    """
    found = _separators(raw)
    return found if found <= MOST_VALUES else _separators(_without_strings(raw))


def check_structure(found: object) -> None:
    """Raises `RequestValidationError` where an object has too many fields or is nested too deep."""
    level = [found]
    for _ in range(DEEPEST + 1):
        inner: list[object] = []
        for part in level:
            if isinstance(part, dict):
                if len(part) > MOST_FIELDS:
                    raise _refused(f"has an object of {len(part):,} fields, {MOST_FIELDS} at most")
                inner += [each for each in part.values() if isinstance(each, (dict, list))]
            elif isinstance(part, list):
                inner += [each for each in part if isinstance(each, (dict, list))]
        if not inner:
            return
        level = inner
    raise _refused(f"is nested more than {DEEPEST} deep")


def _without_strings(raw: bytes) -> bytes:
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2])


def _separators(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{") + 1


def _refused(said: str) -> RequestValidationError:
    error = {"type": "too_large", "loc": ("body",), "msg": f"{said}."}
    return RequestValidationError([error])
