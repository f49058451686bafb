"""OpenAPI document of the service, completed beyond what FastAPI reads from the routes.

It describes the problems that each call may answer and, if keys are set, the security scheme. The
served catalogue gives the examples and the attributes that a filter may name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from recsys.catalogue.catalogue import Catalogue
from recsys_client.schemas import Problem
from service.middleware.auth import ADMIN, CATALOGUE, OFF, is_open, part_of
from service.problems import MEDIA_TYPE

Document = dict[str, Any]
SCHEMAS = "#/components/schemas/"
PROBLEMS = {
    "400": "The body is not JSON.",
    "401": "The key is missing or not valid.",
    "403": "The key is valid, but not for this call.",
    "404": "The path or the item does not exist.",
    "405": "The path does not take this method; `Allow` names its methods.",
    "409": "There is no previous model.",
    "413": "The body is too large.",
    "415": "The content type is not JSON.",
    "421": "The Host header does not name this service.",
    "422": "Fields or query parameters are wrong; `errors` names them.",
    "429": "This key sent too many requests.",
    "503": "The service is overloaded or Redis did not answer. Try again.",
}
SIMILAR = ("/v1/items/{item_id}/similar", "/v1/items:similar")
SEARCHES = ("/v1/items", "/v1/attributes", *SIMILAR)  # refused if many searches wait
RULED = ("RecommendationRequest", "SimilarRequest")  # schemas with the fields of `ListRules`
RULES = """A request can set rules of its list. They hold for every list: of the model, popular,
degraded, in a batch, and of similar items (`POST /v1/items:similar`). They are applied in this
order:

1. `filter`: an item needs one of the values, or a number within the bounds, of every attribute. An
   item without the attribute passes neither. Bounds are for attributes whose values are all finite
   numbers, such as a price; numbers are compared as 64-bit floats.
2. `exclude_items` and `exclude_seen` leave items out. If no item is left and `backfill` is true,
   the list is made of the popular items without the filter, by all other rules, and `source` is
   `popular`. Without `backfill` it is empty.
3. `boost` adds a number to the score of the items with a value. Several boosts of an item add up.
   A number has the scale of the scores of the answer: of the model, inner products or scaled
   cosines plus a bias, where a difference of 1 is a factor of 2.7 between the odds of two items if
   the model was trained with a softmax; of a model with neighbours, logarithms of probabilities;
   of popular items, above 0 to 1 by their place; of similar items, cosines from -1 to 1.
4. `pin`: these items come first, in this order, with their scores. An item that the model does not
   know, that the filter does not allow or that is excluded is not shown; unknown ones are in
   `unknown_items`. A second mention counts nothing.
5. `max_per`: items follow in falling score, equal scores in the order of the catalogue, and one is
   passed over if so many items of the list have its value already. Pinned items count, but none of
   them is passed over. An item without the attribute has no limit.
6. `k` is the length of the list, with pinned items.

`fields` names attributes to return with each item. The rules apply to so many of the best items,
and of the best boosted ones, that no other item can belong to the list. A rule that names an
unknown attribute, and a range of an attribute that is text, are 422.
"""
HEADERS = {
    "401": {"WWW-Authenticate": "how to send a key"},
    "429": {"Retry-After": "seconds to wait"},
    "503": {"Retry-After": "seconds to wait"},
}


def operation_id(route: APIRoute) -> str:
    """Return the name of a route, which generated clients give to their method.

    It is the name of the method of the Python client.
    """
    return route.name


def use_document(app: FastAPI, catalogue: Callable[[], Catalogue], *, keyed: bool) -> None:
    """Set the function that builds the document of an application, once for each catalogue.

    `catalogue` returns the catalogue that is served now. `keyed`: calls need a key.
    """
    cache: dict[Catalogue, Document] = {}

    def openapi() -> Document:
        served = catalogue()
        if served not in cache:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            document["tags"] = [{"name": "recommendations", "description": RULES}]
            add_problems(document, keyed=keyed)
            drop_titles(document)
            add_examples(document, served)
            name_attributes(document, served)
            cache.clear()
            cache[served] = document
        return cache[served]

    app.openapi = openapi  # type: ignore[method-assign]  # as the documentation of FastAPI recommends


def add_problems(document: Document, *, keyed: bool) -> None:
    """Add the problems that each call may answer, described once, and the key that it needs."""
    components = document["components"]
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schema = Problem.model_json_schema(ref_template=SCHEMAS + "{model}", mode="serialization")
    schemas |= schema.pop("$defs") | {"Problem": schema}
    components["responses"] = {f"problem-{status}": _problem(status) for status in PROBLEMS}
    for path, method, call in _calls(document):
        closed = not is_open(path) and (keyed or part_of(path, method.upper()) in OFF)
        if closed:
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            call["security"] = [{"key": []}]
        for status in _statuses(path, call, closed=closed):
            reference = f"#/components/responses/problem-{status}"
            call["responses"][status] = {"$ref": reference}


def drop_titles(document: Document) -> None:
    """Drop the titles that pydantic makes from the names of schemas, fields and parameters."""
    for schema in document["components"]["schemas"].values():
        _drop_title(schema)
    for _, _, call in _calls(document):
        for parameter in call.get("parameters", ()):
            _drop_title(parameter["schema"])
        for response in call["responses"].values():
            for media in response.get("content", {}).values():
                media["schema"].pop("title", None)


def _drop_title(schema: dict[str, Any]) -> None:
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        _drop_title(field)
        _drop_title(field.get("items", {}))


def name_attributes(document: Document, catalogue: Catalogue) -> None:
    """Allow only attributes of the catalogue in rules, and ranges only of numbers."""
    attributes = sorted(catalogue.attributes)
    texts = [name for name in attributes if catalogue.attributes[name].numbers is None]
    names = {"propertyNames": {"enum": attributes}} if attributes else {"maxProperties": 0}
    for schema_name in RULED:
        properties = document["components"]["schemas"][schema_name]["properties"]
        for field in ("filter", "boost", "max_per"):
            properties[field] |= names
        values, _ = properties["filter"]["additionalProperties"]["anyOf"]  # the other is a range
        properties["filter"]["properties"] = dict.fromkeys(texts, values)
        named = {"items": {"type": "string", "enum": attributes}} if attributes else {"maxItems": 0}
        properties["fields"] |= named
    for path in ("/v1/items", "/v1/items/{item_id}/similar"):
        parameters = document["paths"][path]["get"]["parameters"]
        (schema,) = (p["schema"] for p in parameters if p["name"] == "filter")
        pattern = "|".join(re.escape(attribute) for attribute in attributes)
        schema |= {"items": {"type": "string", "pattern": f"^({pattern}):"}}
        schema |= {} if attributes else {"maxItems": 0}


def _calls(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            yield path, method, call


def _statuses(path: str, call: dict[str, Any], *, closed: bool) -> Iterator[str]:
    """Yield the status codes of the refusals of a call. Every path of /v1 checks its query."""
    if "422" in call["responses"] or path.startswith("/v1/"):
        yield "422"
    if "requestBody" in call:
        yield from ("400", "413", "415")
    if closed:
        yield from ("401", "403")
    if path in (*SIMILAR, "/v1/items:one"):
        yield "404"
    if not path.startswith("/health/"):
        yield from ("421", "429")
    if path.startswith(("/v1/recommendations", "/v1/users/", "/health/ready")) or path in (
        *SEARCHES,
        *CATALOGUE,
    ):
        yield "503"
    if path.startswith(ADMIN):
        yield "409"


def _problem(status: str) -> dict[str, Any]:
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in HEADERS.get(status, {}).items()
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    response = {"description": PROBLEMS[status], "content": content}
    return response | ({"headers": headers} if headers else {})


SHOWN_ITEMS = 3
SHOWN_ATTRIBUTES = 2


def examples(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Return schema name → {title: body}. The service answers every body with 200."""
    items = catalogue.item_ids.take(catalogue.by_popularity[:SHOWN_ITEMS].tolist())
    record = {"user_id": "ada", "item_id": items[0], "event_id": "e-1", "k": 5}
    names = list(catalogue.attributes)[:SHOWN_ATTRIBUTES]
    rules = {"max_per": dict.fromkeys(names[-1:], 2), "fields": names}
    return {
        "RecommendationRequest": {
            "record a click and recommend": record,
            "recommend only": {"user_id": "ada", "k": 5},
            "stateless": {"items": items, "k": 5, "exclude_seen": True},
            "by rules": {"items": items, "k": 5, "pin": items[-1:], **rules},
        },
        "SimilarRequest": {
            "without one item": {"item_id": items[0], "exclude_items": items[1:2], "k": 5, **rules}
        },
        "ItemIds": {"two items": {"item_ids": items[:2]}},
        "ItemChanges": {
            "change items": {
                "items": [
                    {"item_id": items[0], "available": True},
                    {"item_id": items[1], "attributes": dict.fromkeys(names[:1], "Another")},
                ]
            }
        },
        "ItemsToDelete": {"items that are sold no more": {"item_ids": ["discontinued"]}},
        "Session": {"a session": {"items": items}},
        "ReloadRequest": {"the bundle that RECSYS_BUNDLE names now": {}},
        "ManyRequests": {"two requests": {"requests": [record, {"items": items, "k": 5}]}},
        "NewClicks": {
            "several clicks": {
                "clicks": [
                    {
                        "item_id": item_id,
                        "event_id": f"e-{number}",
                        "timestamp": 1409565600 + number,
                    }
                    for number, item_id in enumerate(items, start=2)
                ]
            }
        },
    }


def add_examples(document: dict[str, Any], catalogue: Catalogue) -> None:
    """Add examples of popular items to the document."""
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
