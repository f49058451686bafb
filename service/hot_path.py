"""The one call that must be quick: its body comes in, and its answer goes out, without detours.

FastAPI would check the answer against its schema once more and copy it twice. What goes in is
checked as everywhere; what goes out is written here, and a test holds it to the schema.
Documentation and errors are those of every other route.
"""

import json
from typing import Any, TypeVar

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from service.recommender import Answer

Body = TypeVar("Body", bound=BaseModel)


def documented(kind: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads its body itself; other routes define the schema."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


async def read_body(request: Request, kind: type[Body]) -> Body:
    """The checked body; raises `RequestValidationError`, as FastAPI does."""
    raw = await request.body()
    found: object = raw
    if "json" in request.headers.get("content-type", "json"):
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as broken:
            raise RequestValidationError([_no_json(broken)]) from broken
    try:
        return kind.model_validate(found)
    except ValidationError as wrong:
        errors = [{**error, "loc": ("body", *error["loc"])} for error in wrong.errors()]
        raise RequestValidationError(errors) from wrong


def written(answer: Answer) -> Response:
    """`schemas.Recommendations` as JSON."""
    content = {
        "model_id": answer.model_id,
        "source": answer.source,
        "degraded": answer.degraded,
        "stored": answer.stored,
        "unknown_items": answer.unknown_items,
        "items": [{"item_id": item_id, "score": score} for item_id, score in answer.items],
    }
    return Response(orjson.dumps(content), media_type="application/json")


def _no_json(broken: Exception) -> dict[str, Any]:
    at = getattr(broken, "pos", 0)  # bytes that are no UTF-8 have no place
    said = getattr(broken, "msg", "bytes that are no UTF-8")
    return {"type": "json_invalid", "loc": ("body", at), "msg": said, "ctx": {"error": said}}
