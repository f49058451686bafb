"""Examples in `/docs` that work: they name items of the catalogue that is served."""

from typing import Any

from recsys.catalogue import Catalogue

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
