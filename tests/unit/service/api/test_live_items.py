"""Items change while the service runs, and no list holds unavailable ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from recsys.catalogue.catalogue import Catalogue
from service.middleware.auth import hash_of, new_key
from tests.support.bundles.model_kinds import random_weights, recipe_of
from tests.support.service.app_client import ClientOf
from training.export import Export, write_bundle

ASK, SIMILAR = "/v1/recommendations", "/v1/items:similar"
IDS = [f"item-{number}" for number in range(10)]
BRANDS = ["Ada", "Bob"] * 5
PRICES = ["5", "10", "15", "20", "25", "30", "35", "40", None, "1e2"]
API, CATALOGUE = new_key(), new_key()
KEYS = {"api_key_hashes": [hash_of(API)], "catalogue_key_hashes": [hash_of(CATALOGUE)]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose items have a brand and, but for one, a price."""
    catalogue = Catalogue(IDS, np.arange(10, 0, -1), {"brand": BRANDS, "price": PRICES})
    recipe = recipe_of("gru shared")
    weights = random_weights(recipe, len(IDS))
    folder = tmp_path_factory.mktemp("live") / "bundle"
    write_bundle(folder, Export(weights, catalogue, recipe, {}, {}, [IDS[:3], [IDS[4]]]))
    return folder


@pytest.fixture
async def live(open_client: ClientOf, bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with an API key; `put` and `delete` send the other key."""
    async with open_client(bundle=bundle, playground=True, **KEYS) as client:
        client.headers.update(bearer(API))
        yield client


async def put(client: httpx.AsyncClient, *items: dict[str, Any], status: int = 200) -> Any:
    body = {"items": list(items)}
    answer = await client.put("/v1/items", json=body, headers=bearer(CATALOGUE))
    assert answer.status_code == status, answer.text
    return answer.json()


async def delete(client: httpx.AsyncClient, *item_ids: str) -> Any:
    body = {"item_ids": item_ids}
    answer = await client.post("/v1/items:delete", json=body, headers=bearer(CATALOGUE))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def one(client: httpx.AsyncClient, item_id: str) -> Any:
    params = {"item_id": item_id}
    answer = await client.get("/v1/items:one", params=params, headers=bearer(CATALOGUE))
    return answer.json() if answer.status_code == 200 else answer.status_code


async def lists(client: httpx.AsyncClient) -> dict[str, list[str]]:
    """Return the items of a list of every path."""
    pinned = {"k": 10, "pin": [IDS[3]], "boost": {"brand": {"Bob": 9}}}
    posts: dict[str, tuple[str, dict[str, Any]]] = {
        "model": (ASK, {"items": [IDS[0]]}),
        "filter": (ASK, {"items": [IDS[0]], "filter": {"brand": ["Bob"]}}),
        "rules": (ASK, {"items": [IDS[0]], **pinned}),
        "popular": (ASK, {"items": []}),
        "popular with rules": (ASK, {"items": [], **pinned}),
        "backfill": (ASK, {"items": [], "filter": {"price": {"gt": 900}}, "backfill": True}),
        "similar": (SIMILAR, {"item_id": IDS[0]}),
        "similar with rules": (SIMILAR, {"item_id": IDS[0], **pinned}),
        "user": (ASK, {"user_id": "ada", "item_id": IDS[0], "event_id": "e"}),
    }
    found = {}
    for name, (path, body) in posts.items():
        found[name] = (await client.post(path, json=body)).json()
    batch = {"requests": [{"items": [IDS[0]]}]}
    (found["batch"],) = (await client.post(f"{ASK}:batch", json=batch)).json()["responses"]
    for name, path in {
        "of a user": "/v1/users/ada/recommendations",
        "similar, GET": f"/v1/items/{IDS[0]}/similar",
        "search": "/v1/items",
        "search by a word": "/v1/items?q=item",
    }.items():
        found[name] = (await client.get(path)).json()
    return {name: [item["item_id"] for item in answer["items"]] for name, answer in found.items()}


async def until(client: httpx.AsyncClient, shown: set[str], gone: set[str]) -> None:
    """Wait until all popular items are shown but those that are gone."""
    async with asyncio.timeout(20):
        while set((await lists(client))["popular"]) != shown - gone:
            await asyncio.sleep(0.02)


async def test_no_list_holds_an_unavailable_item(live: httpx.AsyncClient) -> None:
    before = await lists(live)
    assert all(IDS[3] in items for items in before.values())

    await put(live, {"item_id": IDS[3], "available": False})
    await until(live, set(IDS), {IDS[3]})

    after = await lists(live)
    assert {name: set(items) for name, items in after.items()} == {
        name: set(items) - {IDS[3]} for name, items in before.items()
    }

    await put(live, {"item_id": IDS[3], "available": True})
    await until(live, set(IDS), set())
    assert await lists(live) == before


async def test_changed_attributes_count_in_filters_boosts_limits_and_fields(
    live: httpx.AsyncClient,
) -> None:
    changes = {"brand": "Cy", "price": 7.5}
    await put(live, {"item_id": IDS[1], "attributes": changes})
    await put(live, {"item_id": IDS[2], "attributes": {"brand": None}})
    body: dict[str, Any] = {"items": [], "filter": {"brand": ["Cy", "Dee"]}, "fields": ["brand"]}
    async with asyncio.timeout(20):
        while not (answer := (await live.post(ASK, json=body)).json())["items"]:
            await asyncio.sleep(0.02)

    assert [item["attributes"] for item in answer["items"]] == [{"brand": "Cy"}]
    cheap = (await live.post(ASK, json={"items": [], "filter": {"price": {"lt": 10}}})).json()
    assert [item["item_id"] for item in cheap["items"]] == IDS[:2]
    one_each = (await live.post(ASK, json={"items": [], "max_per": {"brand": 1}})).json()
    assert [item["item_id"] for item in one_each["items"]] == [IDS[0], IDS[1], IDS[2], IDS[3]]
    boosted = (await live.post(ASK, json={"items": [], "boost": {"brand": {"Cy": 9}}})).json()
    assert boosted["items"][0]["item_id"] == IDS[1]
    values = (await live.get("/v1/attributes")).json()["attributes"]
    brands = {each["value"]: each["items"] for each in values[0]["values"]}
    assert brands == {"Ada": 4, "Bob": 4, "Cy": 1}


async def test_a_part_that_is_left_out_stays_and_a_repeat_changes_nothing(
    live: httpx.AsyncClient,
) -> None:
    change = {"item_id": IDS[0], "attributes": {"price": 1}}

    first = await put(live, change, {"item_id": IDS[1], "available": False})
    again = await put(live, change)
    more = await put(live, {"item_id": IDS[0], "available": False, "attributes": {"brand": "Cy"}})

    counts = [(answer["applied"], answer["changed"]) for answer in (first, again, more)]
    assert counts == [(2, 2), (1, 0), (1, 1)]
    assert first["epoch"] == more["epoch"] != ""
    stored = await one(live, IDS[0])
    assert (stored["available"], stored["attributes"]) == (False, {"price": 1, "brand": "Cy"})
    assert stored["changed"] > 1_700_000_000


async def test_a_deleted_item_is_unavailable_and_has_no_changes(live: httpx.AsyncClient) -> None:
    await put(live, {"item_id": IDS[0], "attributes": {"brand": "Cy"}})

    assert (await delete(live, IDS[0], IDS[1]))["deleted"] == 2
    assert (await delete(live, IDS[0]))["deleted"] == 0

    await until(live, set(IDS), {IDS[0], IDS[1]})
    stored = await one(live, IDS[0])
    assert (stored["available"], stored["attributes"]) == (False, {})
    await put(live, {"item_id": IDS[0], "available": True})
    await until(live, set(IDS), {IDS[1]})
    assert (await one(live, "nothing")) == 404
    assert (await one(live, IDS[5]))["changed"] is None


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"available": True}, "item_id"),
    "long id": ({"item_id": "x" * 129}, "item_id"),
    "available as text": ({"item_id": "a", "available": "yes"}, "available"),
    "unknown field": ({"item_id": "a", "stock": 3}, "stock"),
    "unknown attribute": ({"item_id": "a", "attributes": {"colour": "red"}}, "attributes.colour"),
    "price as text": ({"item_id": "a", "attributes": {"price": "cheap"}}, "attributes.price"),
    "nested value": ({"item_id": "a", "attributes": {"brand": {"x": 1}}}, "attributes.brand"),
    "vector of text": ({"item_id": "a", "vectors": {"image": [1, "2"]}}, "vectors.image.1"),
    "vector with null": ({"item_id": "a", "vectors": {"image": [None]}}, "vectors.image.0"),
}


async def test_a_wrong_item_is_listed_with_its_field_and_the_others_are_applied(
    live: httpx.AsyncClient,
) -> None:
    items = [given for given, _ in WRONG.values()]

    answer = await put(live, *items, {"item_id": IDS[0], "available": False}, "text")  # type: ignore[arg-type]

    assert (answer["applied"], answer["changed"]) == (1, 1)
    fields = [(error["position"], error["field"]) for error in answer["errors"]]
    assert fields == [*enumerate(field for _, field in WRONG.values()), (len(items) + 1, "item")]
    assert [error["item_id"] for error in answer["errors"]] == [None, None, *["a"] * 7, None]
    assert all(error["message"] for error in answer["errors"])


@pytest.mark.parametrize(
    "body",
    [
        {"items": [{"item_id": f"i{n}", "available": False} for n in range(1001)]},
        {"items": []},
        {"items": {"item_id": IDS[0]}},
        {"items": [{"item_id": IDS[0], "available": False}], "more": 1},
        {},
    ],
    ids=["1,001 items", "none", "no list", "unknown field", "empty"],
)
async def test_a_malformed_call_changes_nothing(
    live: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await live.put("/v1/items", json=body, headers=bearer(CATALOGUE))

    assert answer.status_code == 422
    assert (await one(live, IDS[0]))["changed"] is None


async def test_each_key_opens_its_own_calls(open_client: ClientOf, live: httpx.AsyncClient) -> None:
    calls = [("PUT", "/v1/items"), ("GET", "/v1/items:one?item_id=a"), ("POST", "/v1/items:delete")]
    others = [("GET", "/v1/users/ada"), ("POST", ASK), ("GET", "/v1/items"), ("GET", "/metrics")]

    for key, paths in ((API, calls), (CATALOGUE, others)):
        for method, path in paths:
            refused = await live.request(method, path, headers=bearer(key))
            assert refused.status_code == 403, (method, path)
    async with open_client() as without_keys:
        for method, path in calls:
            off = await without_keys.request(method, path)
            assert (off.status_code, "RECSYS_CATALOGUE_KEY" in off.text) == (403, True)


async def test_a_new_item_without_an_encoder_is_stored_and_not_placed(
    live: httpx.AsyncClient,
) -> None:
    answer = await put(live, {"item_id": "new", "attributes": {"brand": "Ada"}})

    assert answer["not_placed"] == ["new"]
    assert (await one(live, "new"))["placed"] is False
