"""Requests, answers, states and failures of Redis are counted."""

import asyncio

import httpx
import redis as redis_py

from tests.support.service.app_client import ClientOf

TENT = "aurora-tent"


def value(text: str, series: str) -> float:
    """Return the value of one series in Prometheus' text format; 0 if it is missing."""
    for line in text.splitlines():
        if line.startswith(series + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


async def scrape(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text


async def test_requests_are_counted_by_route_and_outcome(client: httpx.AsyncClient) -> None:
    await client.post("/v1/recommendations", json={"items": [TENT]})
    await client.post("/v1/recommendations", json={"k": 0})
    await client.get("/v1/users/hushed-user")
    await client.get("/nowhere/hushed-path")

    text = await scrape(client)

    def requests(route: str, method: str, status: int) -> float:
        series = f'recsys_requests_total{{method="{method}",route="{route}",status="{status}"}}'
        return value(text, series)

    assert requests("/v1/recommendations", "POST", 200) == 1
    assert requests("/v1/recommendations", "POST", 422) == 1
    assert requests("/v1/users/{user_id}", "GET", 200) == 1
    assert requests("unmatched", "GET", 404) == 1
    assert value(text, 'recsys_request_seconds_count{route="/v1/recommendations"}') == 2
    assert "hushed" not in text


async def await_kept(client: httpx.AsyncClient, states: int) -> None:
    """Wait until states are stored, which happens after the answer."""
    for _ in range(500):
        text = await scrape(client)
        if value(text, 'recsys_states_kept_total{outcome="kept"}') == states:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the states were not stored")


async def test_states_are_counted_by_origin(client: httpx.AsyncClient) -> None:
    for clicked in range(2):
        await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        await await_kept(client, clicked + 1)
    await client.get("/v1/users/ada/recommendations")
    await client.get("/v1/users/new/recommendations")
    await client.post("/v1/recommendations", json={"items": [TENT]})

    text = await scrape(client)

    counts = {how: value(text, f'recsys_states_total{{how="{how}"}}') for how in
           ("replay", "step", "hit", "blank", "stateless")}  # fmt: skip
    assert counts == {"replay": 1, "step": 1, "hit": 1, "blank": 1, "stateless": 1}
    assert value(text, "recsys_batch_size_count") == 5
    assert value(text, 'recsys_redis_seconds_count{call="visit",outcome="ok"}') >= 4
    assert value(text, 'recsys_answers_total{degraded="false",source="model"}') == 4


async def test_failures_of_redis_are_counted_with_their_reason(open_client: ClientOf) -> None:
    async with open_client(redis="redis://127.0.0.1:1") as client:
        await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        text = await scrape(client)

    failed = [x for x in text.splitlines() if x.startswith("recsys_redis_seconds_count")]
    assert failed
    assert not any('outcome="ok"' in line for line in failed)
    assert value(text, 'recsys_answers_total{degraded="true",source="model"}') == 1


async def test_a_key_that_holds_no_session_is_counted(
    open_client: ClientOf, redis_url: str
) -> None:
    async with open_client() as client:
        await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        with redis_py.Redis.from_url(redis_url) as other:
            for key in other.scan_iter("recsys:{*"):
                other.delete(key)
                other.set(key, "of another type")
        answer = await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        text = await scrape(client)

    assert answer.json()["degraded"]
    assert value(text, 'recsys_clicks_not_stored_total{reason="damaged"}') == 1


async def test_servers_are_counted_by_the_state_of_their_breaker(open_client: ClientOf) -> None:
    async with open_client() as client:
        assert value(await scrape(client), 'recsys_redis_servers{circuit="closed"}') == 1

    async with open_client(redis="redis://127.0.0.1:1", redis_failures=1) as client:
        await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})
        text = await scrape(client)

    assert value(text, 'recsys_redis_servers{circuit="open"}') == 1
    assert value(text, 'recsys_redis_servers{circuit="closed"}') == 0
    assert "recsys_redis_seconds_count{" in text
    assert 'outcome="breaker"' in text


async def test_stored_clicks_are_counted_by_whether_the_model_knows_the_item(
    client: httpx.AsyncClient,
) -> None:
    sent = {"user_id": "ada", "item_id": TENT, "event_id": "1"}
    for _ in range(2):  # a repeat is no second click
        await client.post("/v1/recommendations", json=sent)
    clicks = [{"item_id": item_id} for item_id in ("brand-new", TENT, "newer")]
    await client.post("/v1/users/ada/clicks", json={"clicks": clicks})
    await client.post("/v1/recommendations", json={"items": ["brand-new"]})  # nothing is stored

    text = await scrape(client)

    assert value(text, 'recsys_clicks_total{item="known"}') == 2
    assert value(text, 'recsys_clicks_total{item="unknown"}') == 2
