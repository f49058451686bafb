"""Each call of the API keeps its contract, with a trained shop and a real Redis."""

from typing import Any

import httpx

from recsys.predictor import Predictor
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import ClientOf

TENT, BAG, MAT, STOVE = (
    "aurora-tent", "aurora-sleeping-bag", "aurora-sleeping-mat", "aurora-camping-stove",
)  # fmt: skip
PROBLEM = "application/problem+json"


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


async def test_a_click_is_recorded_and_answered_in_one_call(client: httpx.AsyncClient) -> None:
    answer = await ask(client, user_id="ada", item_id=TENT, k=3)

    assert ids(answer)[0] == BAG
    assert len(answer["items"]) == 3
    assert answer["source"] == "model"
    assert (answer["stored"], answer["degraded"], answer["unknown_items"]) == (True, False, [])
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


async def test_a_list_depends_on_all_clicks_of_the_session(
    client: httpx.AsyncClient, predictor: Predictor
) -> None:
    clicks = [TENT, BAG, TENT, MAT]
    for item_id in clicks:
        answer = await ask(client, user_id="ada", item_id=item_id)

    stateless = await ask(client, items=clicks)
    assert ids(answer) == ids(stateless)
    expected = predictor.recommend([predictor.catalogue.index(i) for i in clicks])
    assert ids(answer) == [predictor.catalogue.item_ids[item] for item in expected.items]


async def test_a_request_without_an_item_records_nothing(client: httpx.AsyncClient) -> None:
    await ask(client, user_id="ada", item_id=TENT)

    answer = await ask(client, user_id="ada")

    assert ids(answer)[0] == BAG
    assert answer["stored"] is False
    assert len((await client.get("/v1/users/ada")).json()["clicks"]) == 1


async def test_an_unknown_user_gets_the_popular_list(
    client: httpx.AsyncClient, predictor: Predictor
) -> None:
    answer = await ask(client, user_id="unknown", k=5)

    popular = (-predictor.catalogue.popularity).argsort()[:5]
    assert answer["source"] == "popular"
    assert ids(answer) == [predictor.catalogue.item_ids[item] for item in popular]
    by_get = await client.get("/v1/users/unknown/recommendations?k=5")
    assert by_get.json() == answer


async def test_an_unknown_item_is_recorded_and_reported_and_changes_no_list(
    client: httpx.AsyncClient,
) -> None:
    before = await ask(client, user_id="ada", item_id=TENT)
    answer = await ask(client, user_id="ada", item_id="mate")

    assert answer["unknown_items"] == ["mate"]
    assert answer["stored"] is True
    assert answer["items"] == before["items"]
    clicks = (await client.get("/v1/users/ada")).json()["clicks"]
    assert [click["item_id"] for click in clicks] == [TENT, "mate"]


async def test_only_unknown_items_are_answered_from_popularity(client: httpx.AsyncClient) -> None:
    answer = await ask(client, user_id="ada", item_id="mate")

    assert (answer["source"], answer["stored"]) == ("popular", True)
    assert (await ask(client, items=["mate", "yerba"]))["unknown_items"] == ["mate", "yerba"]


async def test_a_repeated_event_changes_nothing(client: httpx.AsyncClient) -> None:
    first = await ask(client, user_id="ada", item_id=TENT, event_id="e1")
    again = await ask(client, user_id="ada", item_id=TENT, event_id="e1")

    assert again == first
    assert len((await client.get("/v1/users/ada")).json()["clicks"]) == 1


async def test_exclude_seen_leaves_out_the_whole_history_and_the_current_click(
    client: httpx.AsyncClient,
) -> None:
    await ask(client, user_id="ada", item_id=TENT)
    plain = ids(await ask(client, user_id="ada", item_id=BAG, k=10))
    fresh = ids(await ask(client, user_id="ada", k=10, exclude_seen=True))

    assert {TENT, BAG} & set(plain)
    assert not {TENT, BAG} & set(fresh)
    assert BAG not in ids(await ask(client, items=[TENT, BAG], k=100, exclude_seen=True))


async def test_excluded_items_do_not_shorten_the_list(client: httpx.AsyncClient) -> None:
    plain = ids(await ask(client, items=[TENT], k=6))

    answer = ids(await ask(client, items=[TENT], k=5, exclude_items=[plain[0], "unknown"]))

    assert answer == plain[1:]


async def test_a_filter_keeps_items_with_one_of_its_values(client: httpx.AsyncClient) -> None:
    wanted = {"category": ["Tea", "Coffee"], "brand": ["Aurora"]}

    model = await ask(client, items=[TENT], k=100, filter=wanted)
    popular = await ask(client, user_id="unknown", k=100, filter=wanted)

    assert len(model["items"]) == 20
    assert sorted(ids(model)) == sorted(ids(popular))
    assert "aurora-kettle" in ids(model)
    assert TENT not in ids(model)


async def test_fewer_allowed_items_make_a_shorter_or_an_empty_list(
    client: httpx.AsyncClient,
) -> None:
    assert (await ask(client, items=[TENT], filter={"brand": ["unknown"]}))["items"] == []
    tents = await ask(client, items=[BAG], filter={"name": ["Aurora Tent"]})
    assert ids(tents) == [TENT]


async def test_an_unknown_attribute_is_422_and_named(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/recommendations", json={"items": [TENT], "filter": {"colour": ["red"]}}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "field": "filter",
            "message": "'colour' is not an attribute of the items. "
            "They have: brand, category, name.",
        }
    ]


async def test_without_consent_nothing_is_read_or_written(client: httpx.AsyncClient) -> None:
    await ask(client, user_id="ada", item_id="aurora-kettle")

    answer = await ask(client, user_id="ada", item_id=TENT, consent=False)
    stranger = await ask(client, user_id="ada", consent=False)
    taken = await client.post(
        "/v1/users/ada/clicks", json={"clicks": [{"item_id": BAG}], "consent": False}
    )

    assert answer["items"] == (await ask(client, items=[TENT]))["items"]
    assert answer["stored"] is False
    assert stranger["source"] == "popular"
    assert taken.json() == {"accepted": 0, "duplicates": 0, "unknown_items": []}
    clicks = (await client.get("/v1/users/ada")).json()["clicks"]
    assert [click["item_id"] for click in clicks] == ["aurora-kettle"]


async def test_several_clicks_are_counted_and_stored_with_their_times(
    client: httpx.AsyncClient,
) -> None:
    sent = [
        {"item_id": TENT, "event_id": "e1", "timestamp": 1409565600.5},
        {"item_id": "mate", "event_type": "cart"},
        {"item_id": TENT, "event_id": "e1"},
    ]

    taken = await client.post("/v1/users/ada/clicks", json={"clicks": sent})
    stored = (await client.get("/v1/users/ada")).json()

    assert taken.json() == {"accepted": 2, "duplicates": 1, "unknown_items": ["mate"]}
    assert stored["clicks"] == [
        {"item_id": TENT, "timestamp": 1409565600.5, "event_id": "e1", "event_type": None},
        {"item_id": "mate", "timestamp": None, "event_id": None, "event_type": "cart"},
    ]
    assert 0 < stored["expires_in_seconds"] <= 1800


async def test_forgetting_is_204_and_leaves_an_empty_history(client: httpx.AsyncClient) -> None:
    await ask(client, user_id="ada", item_id=TENT, event_id="e1")

    assert (await client.delete("/v1/users/ada")).status_code == 204

    stored = (await client.get("/v1/users/ada")).json()
    assert (stored["clicks"], stored["expires_in_seconds"]) == ([], None)
    late = await ask(client, user_id="ada", item_id=TENT, event_id="e1")
    assert (late["stored"], late["source"]) == (False, "popular")


async def test_a_batch_answers_in_order_and_records_in_order(client: httpx.AsyncClient) -> None:
    requests = [
        {"user_id": "ada", "item_id": TENT, "k": 2},
        {"items": ["aurora-kettle"], "k": 3},
        {"user_id": "ada", "item_id": BAG, "k": 4},
    ]

    answer = await client.post("/v1/recommendations:batch", json={"requests": requests})

    responses = answer.json()["responses"]
    assert [len(r["items"]) for r in responses] == [2, 3, 4]
    alone = await ask(client, items=[TENT, BAG], k=4)
    assert ids(responses[2]) == ids(alone)


async def test_similar_items_leave_out_the_item_itself(client: httpx.AsyncClient) -> None:
    answer = (await client.get(f"/v1/items/{TENT}/similar?k=100")).json()

    assert len(answer["items"]) == 100
    assert TENT not in ids(answer)
    assert all(-1.0001 <= item["score"] <= 1.0001 for item in answer["items"])


async def test_a_call_that_does_not_exist_and_a_wrong_method_are_told(
    client: httpx.AsyncClient,
) -> None:
    unknown = (await client.get("/v1/recommendation")).json()["detail"]
    method = (await client.get("/v1/recommendations")).json()["detail"]
    field = (await client.post("/v1/recommendations", json={"user": "ada"})).json()["detail"]

    assert unknown == "There is no such call. The page /docs shows all calls."
    assert method == "This path takes POST, and not GET."
    assert field.startswith("user: is not permitted: this call has no such field")


async def test_an_unknown_item_has_no_similar_ones(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/items/box/of/tea/similar")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM
    assert "'box/of/tea' is not in the catalogue of 200 items" in answer.json()["detail"]


async def test_the_model_is_described(
    client: httpx.AsyncClient, trained: TrainedShop, predictor: Predictor
) -> None:
    model = (await client.get("/v1/model")).json()

    assert model["model_id"] == predictor.model_id
    assert (model["items"], model["hidden"], model["window"]) == (200, 32, 50)
    assert (model["cell"], model["embedding"], model["scale"]) == ("gru", "shared", 16.0)
    assert model["attributes"] == ["brand", "category", "name"]
    assert model["metrics"]["model"]["recall@20"] > 0.5


async def test_the_service_is_alive_and_ready(
    client: httpx.AsyncClient, predictor: Predictor
) -> None:
    assert (await client.get("/health/live")).json() == {"status": "alive"}
    assert (await client.get("/health/ready")).json() == {
        "status": "ready",
        "model_id": predictor.model_id,
        "redis": "ok",
        "clicks": "ok",
        "catalogue": "ok",
    }


async def test_without_redis_answers_are_degraded_and_unstored_clicks_are_reported(
    open_client: ClientOf,
) -> None:
    async with open_client(
        redis="redis://127.0.0.1:1", redis_timeout_ms=50, redis_budget_ms=100
    ) as client:
        answer = await ask(client, user_id="ada", item_id=TENT)
        read = await client.get("/v1/users/ada/recommendations")
        ready = await client.get("/health/ready")
        refused = [
            await client.post("/v1/users/ada/clicks", json={"clicks": [{"item_id": TENT}]}),
            await client.get("/v1/users/ada"),
            await client.delete("/v1/users/ada"),
        ]
        stateless = await ask(client, items=[TENT])

    assert (answer["degraded"], answer["stored"], ids(answer)[0]) == (True, False, BAG)
    assert (read.status_code, read.json()["source"], read.json()["degraded"]) == (
        200,
        "popular",
        True,
    )
    assert (ready.status_code, ready.json()["redis"]) == (200, "unavailable")
    assert [r.status_code for r in refused] == [503, 503, 503]
    assert all(r.headers["retry-after"] == "1" for r in refused)
    assert (stateless["degraded"], ids(stateless)[0]) == (False, BAG)
