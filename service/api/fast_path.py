"""Direct path of `POST /v1/recommendations`, from the body of the request to the JSON answer.

FastAPI calls twenty functions between a request and its route, and validates the answer once more.
This path leaves before that. It checks requests and reports errors as every other route does, and a
test compares its answers with the schema. FastAPI keeps a route for the documentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.catalogue.attributes import Range
from recsys.client.schemas import ListRules, RecommendationRequest
from service.api.dependencies import RunningService
from service.api.request_checks import read_body
from service.problems import as_problem
from service.recommendation.queries import ItemList, RecommendationQuery, RecommendationResult
from service.store.click import Click

PATH = "/v1/recommendations"


@dataclass(frozen=True, slots=True)
class FastRoute:
    """Route whose path labels the metrics of a request."""

    path: str = PATH


class FastPath:
    """ASGI middleware that answers POST requests of `PATH` and passes on all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._route = FastRoute()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive, send)
        try:
            body = await recommend(request)
        except Exception as error:
            response = await as_problem(request, error)
            await response(scope, receive, send)
            return
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def recommend(request: Request) -> bytes:
    """Return the answer to a request for recommendations as JSON."""
    service: RunningService = request.app.state.running
    service.batcher.check()  # refuse before the body is read
    body = await read_body(request, RecommendationRequest)
    query = query_of(body)
    service.models.recommender.check(query)
    result = await service.batcher.submit(query)
    return orjson.dumps(content_of(result))


def query_of(body: RecommendationRequest) -> RecommendationQuery:
    """Build the query of a request.

    Without consent the query names no user, and the clicked item is the whole session.
    """
    click = None
    if body.item_id is not None:
        click = Click(body.item_id, body.event_id, event_type=body.event_type, list_id=body.list_id)
    items, user_id = list(body.items or ()), body.user_id
    types = types_of(items, body.event_types)
    if not body.consent and user_id is not None:
        if click is not None:
            items, types = [click.item_id], [click.event_type]
        user_id, click = None, None
    return RecommendationQuery(
        user_id=user_id,
        click=click,
        items=items,
        event_types=types,
        exclude_seen=body.exclude_seen,
        **rules_of(body),
    )


def types_of(items: Sequence[str], event_types: Sequence[str | None] | None) -> list[str | None]:
    """Return one type, or None, for each of the items of a stateless session."""
    if event_types is None:
        return []
    return [*event_types, *[None] * len(items)][: len(items)]


def rules_of(body: ListRules) -> dict[str, Any]:
    """Return the rules of a request, as keyword arguments of a `ListQuery`."""
    wanted = {
        name: values if isinstance(values, list) else Range(**values.model_dump())
        for name, values in body.filter.items()
    }
    return {
        "k": body.k,
        "exclude_items": body.exclude_items,
        "filter": wanted,
        "backfill": body.backfill,
        "boost": body.boost,
        "max_per": body.max_per,
        "pin": body.pin,
        "fields": body.fields,
    }


def content_of(result: RecommendationResult) -> Mapping[str, Any]:
    """Return the JSON content of a result, with the fields of `schemas.Recommendations`."""
    content: dict[str, Any] = {
        "model_id": result.model_id,
        "source": result.source,
        "degraded": result.degraded,
        "stored": result.stored,
        "unknown_items": result.unknown_items,
        "items": items_of(result),
    }
    if result.unknown_event_types:
        content["unknown_event_types"] = result.unknown_event_types
    if result.variant is not None:
        content["variant"] = result.variant
    if result.list_id is not None:
        content["list_id"] = result.list_id
    return content


def items_of(result: ItemList) -> list[dict[str, Any]]:
    """Return the JSON content of the items of a list."""
    items: list[dict[str, Any]] = [
        {"item_id": item_id, "score": score} for item_id, score in result.items
    ]
    if result.attributes is not None:
        for item, attributes in zip(items, result.attributes, strict=True):
            item["attributes"] = attributes
    return items


def json_response(content: Any) -> Response:
    """Return a response with content that needs no validation."""
    return Response(orjson.dumps(content), media_type="application/json")
