"""The API refuses invalid requests with problems of RFC 9457 that name the field."""

import json
from itertools import product
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from recsys.predictor import Predictor
from recsys_client.schemas import MAX_FIELDS
from service import problems
from service.problems import MAX_ANSWER_BYTES, MAX_ERRORS
from tests.support.service.app_client import ClientOf

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
    ({"items": ["\ufffd"]}, "items.0"),
    ({"user_id": "ada", "itemid": TENT}, "itemid"),
    ({"user_id": "ada", "filter": {"brand": "Aurora"}}, "filter.brand"),
    ({"user_id": "ada", "filter": {"brand": ["a"] * 101}}, "filter.brand"),
    ({"user_id": "ada", "filter": {"brand": ["a" * 513]}}, "filter.brand.0"),
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
async def test_a_body_above_the_limit_is_413(client: httpx.AsyncClient, announced: bool) -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield b"x" * 60_000

    content = b"x" * 1_200_000 if announced else pieces()
    answer = await client.post(
        "/v1/recommendations", content=content, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 413
    assert answer.headers["content-type"] == PROBLEM
    assert "800,000 bytes" in answer.json()["detail"]


async def test_k_is_checked_in_a_query_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/users/ada/recommendations?k=0")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "k")


async def test_a_time_that_is_text_is_422(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/users/ada/clicks", json={"clicks": [{"item_id": TENT, "timestamp": "5"}]}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "clicks.0.timestamp"


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/recommendations", {"items": [TENT]}),
    ("/v1/recommendations:batch", {"requests": [{"items": [TENT]}]}),
    ("/v1/users/ada/clicks", {"clicks": [{"item_id": TENT}]}),
    ("/v1/items:lookup", {"item_ids": [TENT]}),
    ("/v1/items:similar", {"item_id": TENT}),
    ("/v1/playground/state", {"items": [TENT]}),
]
PATHS = [path for path, _ in BODIES]


@pytest.mark.parametrize(("path", "body"), BODIES, ids=PATHS)
async def test_every_route_takes_only_json(
    open_client: ClientOf, path: str, body: dict[str, Any]
) -> None:
    """Pages of other sites may send text/plain or no content type without a preflight."""
    statuses = {}
    async with open_client(playground=True) as client:
        for sent in (
            "application/json", "APPLICATION/JSON; charset=utf-8", "application/ld+json",
            "text/plain", "text/plain;x=json", "text/json", "application/jsonp",
            "application/x-www-form-urlencoded", "", None,
        ):  # fmt: skip
            headers = {} if sent is None else {"content-type": sent}
            answer = await client.post(path, content=json.dumps(body).encode(), headers=headers)
            statuses[sent] = answer.status_code
            if answer.status_code == 415:
                assert answer.headers["content-type"] == PROBLEM
                assert "Content-Type: application/json" in answer.json()["detail"]

        clicks = (await client.get("/v1/users/ada")).json()["clicks"]
    assert list(statuses.values()) == [200] * 3 + [415] * 7
    assert len(clicks) == (3 if "clicks" in path else 0)


FLOODS = {
    "zeros": {"filter": {"name": [0] * 300_000}},
    "lists": {"filter": {"name": [[]] * 190_000}},
    "fields": {f"f{n}": 0 for n in range(60_000)},
    "attributes": {"filter": {f"f{n}": [0] for n in range(40_000)}},
    "many fields": {f"f{n}": 0 for n in range(MAX_FIELDS - 1)},
    "long fields": {"\u0001" * 10_000 + str(n): 0 for n in range(10)},
    "long attributes": {"filter": {"\U0001f9a6" * 500 + str(n): 0 for n in range(20)}},
    "wrong ids": {"items": [0] * 500, "exclude_items": [0] * 1000},
    "many requests": {"requests": [{"items": [0] * 100, "exclude_items": [0] * 90}] * 100},
    "wrong requests": {"requests": [{f"f{n}": 0 for n in range(20)}] * 100},
    "wrong clicks": {"clicks": [{"a": 0, "b": 0}] * 500},
    "deep": json.loads("[" * 900 + "]" * 900),
}


async def test_an_error_answer_is_short_for_any_body(
    open_client: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test counts the errors that pydantic collects, because they take the time."""
    collected: list[int] = []
    invalid = problems.invalid

    async def counting(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        collected.append(len(error.errors()))
        return await invalid(request, error)

    monkeypatch.setattr(problems, "invalid", counting)
    async with open_client(playground=True) as client:
        for path, (name, flood) in product(PATHS, FLOODS.items()):
            answer = await client.post(path, json=flood)
            assert answer.status_code == 422, (path, name)
            assert len(answer.json()["errors"]) <= MAX_ERRORS
            assert len(answer.content) <= MAX_ANSWER_BYTES

    assert len(collected) == len(PATHS) * len(FLOODS)
    assert max(collected) <= 100


@pytest.mark.parametrize(
    "body",
    [
        {"clicks": [{"item_id": "\u7530" * 124 + f"{n:04}", "event_id": "\u7530" * 124 + f"{n:04}",
                     "timestamp": 1409565600.123} for n in range(500)]},
        {"clicks": [{"item_id": "[{,\\\"" * 25, "event_id": f"{n:,}"} for n in range(500)]},
    ],
    ids=["escaped", "brackets"],
)  # fmt: skip
async def test_the_largest_click_call_is_within_all_limits(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    """The call has 500 clicks whose ids have 128 characters of six bytes each."""
    answer = await client.post(
        "/v1/users/ada/clicks",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 500


async def test_an_unknown_query_parameter_is_422_and_named(client: httpx.AsyncClient) -> None:
    for query, name in (
        ("users/ada/recommendations?exclude_seen=true", "exclude_seen"),
        ("users/ada?k=5", "k"),
        (f"items/{TENT}/similar?k=5&limit=5", "limit"),
        ("items?Q=tent", "Q"),
        ("model?x", "x"),
        ("attributes?k=1", "k"),
        ("model?=x", "query"),
    ):
        answer = await client.get(f"/v1/{query}")
        assert answer.status_code == 422, query
        assert [error["field"] for error in answer.json()["errors"]] == [name]


async def test_a_post_takes_no_query_parameters_and_few_are_reported(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/recommendations?k=5", json={"items": [TENT]})
    many = await client.get("/v1/items?" + "&".join(f"a{n}" for n in range(600)))

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "k")
    assert len(many.json()["errors"]) == MAX_ERRORS


async def test_a_404_is_short_for_any_item_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/items/" + "%01" * 3000 + "/similar")

    assert answer.status_code in (404, 422)
    assert len(answer.content) <= MAX_ANSWER_BYTES


async def test_a_bug_is_answered_with_500_without_internals(
    open_client: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service answers although neither Redis nor the request caused the failure."""

    def broken(*_: object) -> None:
        raise RuntimeError("an internal detail")

    async with open_client() as client:
        monkeypatch.setattr(Predictor, "advance", broken)
        answer = await client.post("/v1/recommendations", json={"items": [TENT]})

    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM
    assert "internal detail" not in answer.text


async def test_too_many_clicks_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/users/ada/clicks", json={"clicks": [{"item_id": "a"}] * 501})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "clicks")


async def test_unknown_paths_and_methods_are_answered_with_problems(
    client: httpx.AsyncClient,
) -> None:
    for answer in (
        await client.get("/v1/nothing"),
        await client.put("/v1/recommendations"),
        await client.get("/v1/model/"),  # and no redirect, which would repeat the Host header
        await client.get("/docs/"),
    ):
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["status"] == answer.status_code
