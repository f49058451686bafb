"""The fast path answers as documented, and the reference server gives the same lists."""

import asyncio
from typing import Any

import httpx
import pytest

from recsys.bundle.golden import unverified_predictor
from recsys.bundle.load import load_bundle
from recsys_client.schemas import Recommendations
from service.api.fast_path import PATH
from service.store import state_writer
from service.store.session_store import RedisStore
from tests.benchmarks import reference_server
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import ClientOf, client_of

TENT, BAG, MAT = "aurora-tent", "aurora-sleeping-bag", "aurora-sleeping-mat"


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "ada", "item_id": TENT},
        {"user_id": "unknown"},
        {"items": [TENT, "no such item"], "k": 3},
        {"items": [TENT], "exclude_seen": True, "filter": {"category": ["Camping"]}},
        {"items": [TENT], "pin": ["aurora-kettle"], "fields": ["brand", "name"]},
    ],
    ids=["click", "stranger", "stateless", "filtered", "ruled"],
)
async def test_the_answer_has_exactly_the_fields_of_the_schema(
    client: httpx.AsyncClient, body: dict[str, object]
) -> None:
    answer = await client.post(PATH, json=body)

    assert answer.headers["content-type"] == "application/json"
    read = Recommendations.model_validate_json(answer.content)
    assert read.model_dump(exclude_unset=True) == answer.json()


async def test_the_fast_path_and_the_batch_route_give_the_same_bytes(open_client: ClientOf) -> None:
    """All routes serialise as the schema does."""
    async with open_client() as client:
        body = {"items": [TENT, BAG, "ä\u2028\U0001f9a6"], "k": 7}
        fast = await client.post(PATH, json=body)
        batch = await client.post(PATH + ":batch", json={"requests": [body]})
        of_user = await client.get("/v1/users/unknown/recommendations?k=7")
        same_user = await client.post(PATH, json={"user_id": "unknown", "k": 7})

    for answer in (fast, of_user):
        schema = Recommendations.model_validate_json(answer.content)
        assert schema.model_dump_json(exclude_unset=True).encode() == answer.content
    assert batch.content == b'{"responses":[%b]}' % fast.content
    assert of_user.content == same_user.content
    kinds = {answer.headers["content-type"] for answer in (fast, batch, of_user)}
    assert kinds == {"application/json"}


async def test_the_fast_path_is_documented_with_its_body_and_its_answer(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()

    call = document["paths"][PATH]["post"]
    body = call["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    answer = call["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert body.endswith("/RecommendationRequest")
    assert answer.endswith("/Recommendations")
    for reference in (body, answer):
        assert reference.rsplit("/", 1)[-1] in document["components"]["schemas"]


@pytest.mark.parametrize("path", [PATH, PATH + ":batch"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"user_id": "\xff"}', "UTF-8"),
        (b"[" * 5000, "depth"),
        (b"", "empty"),
        (b'{"user_id": "\\ud800"}', "surrogate"),
        (b'{"k": ' + b"9" * 5000 + b"}", "number"),
        (b'{"k": NaN}', "unexpected character"),
    ],
    ids=["bytes", "deep", "empty", "half a character", "huge number", "not a number"],
)
async def test_invalid_json_is_400_with_the_reason(
    client: httpx.AsyncClient, path: str, body: bytes, message: str
) -> None:
    answer = await client.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["field"] == "body"
    assert message in error["message"]
    assert ("UTF-8" in error["message"]) == (message == "UTF-8")


async def test_a_stateless_request_does_not_wait_for_redis(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds even while states of earlier answers wait for a round trip."""
    visited: list[int] = []
    exchange = RedisStore.exchange

    async def counting(store: RedisStore, states: Any, visits: Any) -> Any:
        visited.append(len(visits))
        return await exchange(store, states, visits)

    monkeypatch.setattr(state_writer, "FLUSH_SECONDS", 3600.0)
    monkeypatch.setattr(RedisStore, "exchange", counting)
    try:
        await client.post(PATH, json={"user_id": "ada", "item_id": TENT})
        await client.post(PATH, json={"items": [TENT]})

        assert visited == [1]
    finally:  # else the service would wait for this task before it stops
        (waiting,) = (task for task in asyncio.all_tasks() if "_flush" in repr(task.get_coro()))
        waiting.cancel()


async def test_the_fast_path_takes_only_posts_to_its_path(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).status_code == 405
    assert (await client.post(PATH + "/", json={"items": [TENT]})).status_code == 404


async def test_requests_of_the_fast_path_are_counted_under_its_path(
    client: httpx.AsyncClient,
) -> None:
    await client.post(PATH, json={"items": [TENT]})

    metrics = (await client.get("/metrics")).text
    assert f'recsys_requests_total{{method="POST",route="{PATH}",status="200"}}' in metrics


async def test_the_reference_server_gives_the_lists_of_the_model_alone(
    trained: TrainedShop, redis_url: str
) -> None:
    predictor = unverified_predictor(load_bundle(trained.bundle), None, None)
    clicks = [TENT, BAG, MAT]
    async with client_of(reference_server.create_app(trained.bundle, redis_url)) as client:
        for item_id in clicks:
            body = {"user_id": "ada", "item_id": item_id, "k": 5}
            answer = (await client.post(PATH, json=body)).json()

    ids = predictor.catalogue.item_ids
    known = [predictor.catalogue.index(item_id) for item_id in clicks]
    wanted = predictor.recommend(known)
    assert [item["item_id"] for item in answer["items"]] == [ids[i] for i in wanted.items[:5]]
    scores = [item["score"] for item in answer["items"]]
    assert scores == pytest.approx(wanted.scores[:5], abs=1e-5)
