"""The OpenAPI document that is served: what FastAPI finds in the routes, and what surrounds them.

Problems have their own media type, keys are a security scheme where some are set, and the catalogue
that is served gives the examples and the attributes a filter may name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from recsys.catalogue.catalogue import Catalogue
from recsys.client.schemas import Problem
from service.middleware.auth import ADMIN, is_open
from service.problems import MEDIA_TYPE

Document = dict[str, Any]
SCHEMAS = "#/components/schemas/"
PROBLEMS = {
    "400": "The body is not JSON.",
    "401": "No key, or one that is not valid.",
    "403": "The key is valid, but not for this call.",
    "404": "What is asked for does not exist.",
    "405": "The path is called with other methods, which `Allow` names.",
    "409": "There is no model to go back to.",
    "413": "The body is too large.",
    "415": "The content type is not JSON.",
    "421": "The Host header names another service.",
    "422": "A field or a query parameter is wrong, and named.",
    "429": "Too many requests of this key.",
    "503": "Overloaded, or Redis did not answer. Ask again.",
}
SEARCHES = ("/v1/items", "/v1/attributes")  # refused where many are in line
HEADERS = {
    "401": {"WWW-Authenticate": "how to send a key"},
    "429": {"Retry-After": "seconds to wait"},
    "503": {"Retry-After": "seconds to wait"},
}


def use_document(app: FastAPI, catalogue: Callable[[], Catalogue], *, keyed: bool) -> None:
    """Have the application serve it; `catalogue` gives what is served, `keyed` if calls need a key.

    It is made once for each catalogue.
    """
    made: dict[Catalogue, Document] = {}

    def openapi() -> Document:
        served = catalogue()
        if served not in made:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            add_problems(document, keyed=keyed)
            add_examples(document, served)
            name_attributes(document, sorted(served.attributes))
            made.clear()
            made[served] = document
        return made[served]

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def add_problems(document: Document, *, keyed: bool) -> None:
    """Every refusal a call may meet, described once and referred to, and the key it needs."""
    components = document["components"]
    schemas = components["schemas"]
    for fastapis_own in ("HTTPValidationError", "ValidationError"):
        schemas.pop(fastapis_own, None)
    found = Problem.model_json_schema(ref_template=SCHEMAS + "{model}")
    schemas |= found.pop("$defs") | {"Problem": found}
    components["responses"] = {f"problem-{status}": _problem(status) for status in PROBLEMS}
    if keyed or any(path.startswith(ADMIN) for path in document["paths"]):
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, call in _calls(document):
        closed = (keyed or path.startswith(ADMIN)) and not is_open(path)
        if closed:
            call["security"] = [{"key": []}]
        for status in _statuses(path, call, closed=closed):
            reference = f"#/components/responses/problem-{status}"
            call["responses"][status] = {"$ref": reference}


def name_attributes(document: Document, attributes: list[str]) -> None:
    """A filter names attributes of the catalogue and no others."""
    asked = document["components"]["schemas"]["RecommendationRequest"]["properties"]
    named = {"propertyNames": {"enum": attributes}}
    asked["filter"] |= named if attributes else {"maxProperties": 0}
    parameters = document["paths"]["/v1/items"]["get"]["parameters"]
    (words,) = (p["schema"] for p in parameters if p["name"] == "filter")
    written = "|".join(re.escape(attribute) for attribute in attributes)
    words |= {"items": {"type": "string", "pattern": f"^({written}):"}}
    words |= {} if attributes else {"maxItems": 0}


def _calls(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, calls in document["paths"].items():
        for call in calls.values():
            yield path, call


def _statuses(path: str, call: dict[str, Any], *, closed: bool) -> Iterator[str]:
    """Yield the statuses of a call's refusals; under /v1 a query parameter may be wrong."""
    if "422" in call["responses"] or path.startswith("/v1/"):
        yield "422"
    if "requestBody" in call:
        yield from ("400", "413", "415")
    if closed:
        yield from ("401", "403")
    if "{item_id}" in path:
        yield "404"
    if not path.startswith("/health/"):
        yield from ("421", "429")
    if path.startswith(("/v1/recommendations", "/v1/users/", "/health/ready")) or path in SEARCHES:
        yield "503"
    if path.startswith(ADMIN):
        yield "409"


def _problem(status: str) -> dict[str, Any]:
    headers = {
        name: {"description": said, "schema": {"type": "string"}}
        for name, said in HEADERS.get(status, {}).items()
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    found = {"description": PROBLEMS[status], "content": content}
    return found | ({"headers": headers} if headers else {})


SHOWN_ITEMS = 3


def examples(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Schema name → {title: body}; every body is answered with 200 by this very service."""
    items = catalogue.item_ids.take(catalogue.by_popularity[:SHOWN_ITEMS].tolist())
    record = {"user_id": "ada", "item_id": items[0], "event_id": "e-1", "k": 5}
    return {
        "RecommendationRequest": {
            "record a click and recommend": record,
            "recommend only": {"user_id": "ada", "k": 5},
            "stateless": {"items": items, "k": 5, "exclude_seen": True},
        },
        "ItemIds": {"two items": {"item_ids": items[:2]}},
        "Session": {"a session": {"items": items}},
        "ReloadRequest": {"what RECSYS_BUNDLE names now": {}},
        "ManyRequests": {"two requests": {"requests": [record, {"items": items, "k": 5}]}},
        "NewClicks": {
            "several clicks": {
                "clicks": [
                    {"item_id": item_id, "event_id": f"e-{place}", "timestamp": 1409565600 + place}
                    for place, item_id in enumerate(items, start=2)
                ]
            }
        },
    }


def add_examples(document: dict[str, Any], catalogue: Catalogue) -> None:
    """Have an OpenAPI document carry examples made from popular items."""
    bodies = examples(catalogue)
    for path, calls in document["paths"].items():
        for call in calls.values():
            for parameter in call.get("parameters", ()):
                if parameter["name"] == "user_id":
                    parameter["example"] = "ada"
                if parameter["name"] == "item_id":
                    first = next(iter(bodies["RecommendationRequest"].values()))
                    parameter["example"] = first["item_id"]
            content = call.get("requestBody", {}).get("content", {})
            for media in content.values():
                name = media["schema"]["$ref"].rsplit("/", 1)[-1]
                assert name in bodies, f"{path} takes a {name}, which has no example"
                media["examples"] = {title: {"value": body} for title, body in bodies[name].items()}
