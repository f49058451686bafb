"""What the HTTP API refuses: every problem is RFC 9457 and names the field."""

import json
from typing import Any

import httpx
import pytest
from conftest import ClientOf

from recsys.predictor import Predictor

TENT = "aurora-tent"
PROBLEM = "application/problem+json"

BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"user_id": 7, "item_id": TENT}, "user_id"),
    ({"user_id": "", "item_id": TENT}, "user_id"),
    ({"user_id": "a/b"}, "user_id"),
    ({"user_id": ".."}, "user_id"),
    ({"user_id": "ada", "exclude_seen": "yes"}, "exclude_seen"),
    ({"user_id": "ada", "consent": 1}, "consent"),
    ({"user_id": "x" * 129}, "user_id"),
    ({"user_id": "ada", "item_id": ""}, "item_id"),
    ({"user_id": "ada", "item_id": "x" * 129}, "item_id"),
    ({"user_id": "ada", "item_id": 5}, "item_id"),
    ({"user_id": "ada", "k": 0}, "k"),
    ({"user_id": "ada", "k": 101}, "k"),
    ({"user_id": "ada", "k": "5"}, "k"),
    ({"user_id": "ada", "k": 5.5}, "k"),
    ({"items": [TENT, ""]}, "items.1"),
    ({"items": TENT}, "items"),
    ({"items": ["\ud800"]}, "items.0"),
    ({"user_id": "ada", "itemid": TENT}, "itemid"),
    ({"user_id": "ada", "filter": {"brand": "Aurora"}}, "filter.brand"),
    ({"user_id": "ada", "items": [TENT]}, "body"),
    ({"item_id": TENT}, "body"),
    ({"user_id": "ada", "event_id": "e1"}, "body"),
    ({}, "body"),
]


@pytest.mark.parametrize(("body", "field"), BAD_REQUESTS, ids=[f for _, f in BAD_REQUESTS])
async def test_a_bad_request_is_422_and_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(
        "/v1/recommendations",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_several_problems_are_reported_together(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/recommendations", json={"user_id": "", "k": 0, "x": 1})

    assert [error["field"] for error in answer.json()["errors"]] == ["user_id", "k", "x"]


async def test_malformed_json_is_400(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/recommendations", content=b'{"k": ', headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
async def test_a_body_above_a_megabyte_is_413(client: httpx.AsyncClient, announced: bool) -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield b"x" * 60_000

    content = b"x" * 1_200_000 if announced else pieces()
    answer = await client.post(
        "/v1/recommendations", content=content, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 413
    assert answer.headers["content-type"] == PROBLEM
    assert "1,000,000 bytes" in answer.json()["detail"]


async def test_k_in_a_path_is_checked_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/users/ada/recommendations?k=0")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "k")


async def test_a_time_that_is_text_is_422(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/users/ada/clicks", json={"clicks": [{"item_id": TENT, "timestamp": "5"}]}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "clicks.0.timestamp"


async def test_a_wrong_content_type_is_hinted_at(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/recommendations", content='{"user_id": "ada"}', headers={"content-type": "text/plain"}
    )

    assert answer.status_code == 422
    assert "Send it with Content-Type: application/json." in answer.json()["detail"]


async def test_our_own_mistake_is_a_500_without_internals(
    open_client: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is fine and the request is fine: the failure must still be an answer."""

    def broken(*_: object) -> None:
        raise RuntimeError("the inside of the machine")

    async with open_client() as client:
        monkeypatch.setattr(Predictor, "advance", broken)
        answer = await client.post("/v1/recommendations", json={"items": [TENT]})

    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM
    assert "inside" not in answer.text


async def test_more_than_the_clicks_allowed_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/users/ada/clicks", json={"clicks": [{"item_id": "a"}] * 501})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "clicks")


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/v1/nothing"), await client.put("/v1/recommendations")):
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["status"] == answer.status_code
