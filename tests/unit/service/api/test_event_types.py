"""Event types of clicks in the calls of the API, with a model that knows view, cart and order."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from recsys.bundle.golden import open_predictor
from recsys.predictor import Predictor
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.service.app_client import ClientOf


@pytest.fixture
def typed(model_kinds: ModelKinds) -> Predictor:
    return open_predictor(model_kinds.typed_bundle("gru shared", window=9))


@pytest.fixture
async def client(
    open_client: ClientOf, model_kinds: ModelKinds
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(bundle=model_kinds.typed_bundle("gru shared", window=9)) as client:
        yield client


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json={"k": 5, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_all_ways_to_send_the_same_clicks_give_the_same_list(
    client: httpx.AsyncClient, typed: Predictor
) -> None:
    ids, types = list(typed.catalogue.item_ids[:3]), ["cart", None, "order"]
    clicks = [
        {"item_id": item_id} | ({} if event_type is None else {"event_type": event_type})
        for item_id, event_type in zip(ids, types, strict=True)
    ]
    for click in clicks:
        alone = await ask(client, user_id="ada", **click)
    await client.post("/v1/users/ben/clicks", json={"clicks": clicks})
    together = await ask(client, user_id="ben")
    stateless = await ask(client, items=ids, event_types=types)
    codes = typed.known(ids, types)

    expected = typed.catalogue.item_ids.take(typed.recommend(codes).items[:5])
    for answer in (alone, together, stateless):
        assert [item["item_id"] for item in answer["items"]] == expected
    assert ids[2] not in expected  # it was ordered
    filled = await ask(client, items=ids[:2], event_types=types[:1])
    assert filled == await ask(client, items=ids[:2], event_types=types)
    untyped = await ask(client, items=ids)
    assert untyped["items"] != stateless["items"]
    stored = (await client.get("/v1/users/ada")).json()["clicks"]
    assert [click["event_type"] for click in stored] == types


async def test_without_consent_the_type_counts_and_is_not_stored(client: httpx.AsyncClient) -> None:
    items = ["aurora-tent"]
    answer = await ask(client, user_id="ada", item_id=items[0], event_type="cart", consent=False)

    assert answer["items"] == (await ask(client, items=items, event_types=["cart"]))["items"]
    assert answer["items"] != (await ask(client, items=items, event_types=["view"]))["items"]


async def test_an_unknown_type_is_reported_counted_and_stored(client: httpx.AsyncClient) -> None:
    answer = await ask(client, user_id="ada", item_id="aurora-tent", event_type="wishlist")
    body = {"clicks": [{"item_id": "aurora-tent", "event_type": "wishlist"}] * 2}
    taken = (await client.post("/v1/users/ada/clicks", json=body)).json()

    assert answer["unknown_event_types"] == taken["unknown_event_types"] == ["wishlist"]
    assert "recsys_unknown_event_types_total 3.0" in (await client.get("/metrics")).text
    known = await ask(client, user_id="ada", item_id="aurora-tent", event_type="cart")
    assert "unknown_event_types" not in known


async def test_a_model_without_types_reports_none(open_client: ClientOf) -> None:
    async with open_client() as client:
        answer = await ask(client, user_id="ada", item_id="aurora-tent", event_type="cart")
        described = (await client.get("/v1/model")).json()

    assert "unknown_event_types" not in answer
    assert described["event_types"] == []


async def test_the_model_lists_its_types_the_default_first(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/model")).json()["event_types"] == ["view", "cart", "order"]


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "ada", "event_type": "cart"},
        {"user_id": "ada", "item_id": "aurora-tent", "event_type": "x" * 65},
        {"user_id": "ada", "item_id": "aurora-tent", "event_type": ""},
        {"user_id": "ada", "item_id": "aurora-tent", "event_type": 1},
        {"items": ["aurora-tent"], "event_types": [""]},
        {"user_id": "ada", "event_types": ["cart"]},
    ],
)
async def test_types_without_their_clicks_are_refused(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    refused = await client.post("/v1/recommendations", json=body)

    assert refused.status_code == 422
    assert "event_type" in refused.text
