"""The rate limit refuses callers that exceed it and no others."""

import asyncio

import pytest
from starlette.types import Message, Scope

from service.middleware import rate_limit as rate
from service.middleware.auth import hash_of, new_key
from service.middleware.rate_limit import Rate, RateLimit
from tests.support.service.app_client import ClientOf

KEYS = [new_key(), new_key()]


class Callers:
    """Callers of one rate limit; `passed` holds the addresses of accepted requests."""

    def __init__(self, text: str) -> None:
        self.app = RateLimit(self._passed, Rate.of(text))
        self.passed: list[object] = []

    async def _passed(self, scope: Scope, *_: object) -> None:
        self.passed.append(scope["client"])

    async def call(self, **scope: object) -> int:
        """Send a request and return the status."""
        statuses = [200]

        async def send(message: Message) -> None:
            statuses.append(message.get("status", statuses[-1]))

        given = {"type": "http", "path": "/v1/model", "headers": [], "method": "GET", **scope}
        await self.app(given, lambda: asyncio.sleep(0, {}), send)
        return statuses[-1]


async def test_excess_requests_of_a_key_are_429_and_another_key_is_served(
    open_client: ClientOf,
) -> None:
    headers = [{"Authorization": f"Bearer {key}"} for key in KEYS]
    async with open_client(
        api_key_hashes=[hash_of(key) for key in KEYS], rate_limit="3/hour"
    ) as client:
        statuses = [
            (await client.get("/v1/model", headers=headers[0])).status_code for _ in range(4)
        ]
        refused = await client.post("/v1/recommendations", headers=headers[0])
        other = await client.get("/v1/model", headers=headers[1])
        health = [(await client.get("/health/ready")).status_code for _ in range(5)]

    assert statuses == [200, 200, 200, 429]
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "1200"  # 3600 s / 3
    assert "More than 3 requests in 3,600 s" in refused.json()["detail"]
    assert other.status_code == 200
    assert health == [200] * 5


async def test_pages_and_their_files_are_not_counted(open_client: ClientOf) -> None:
    paths = ("/", "/docs", "/openapi.json", "/playground/app.js", "/playground/base.css")
    async with open_client(playground=True, rate_limit="1/hour") as client:
        pages = [(await client.get(path)).status_code for path in paths * 2]
        calls = [(await client.get("/v1/model")).status_code for _ in range(2)]

    assert pages == [200] * 10
    assert calls == [200, 429]


async def test_without_keys_each_address_has_its_own_limit() -> None:
    calls = Callers("2/hour")
    for address in ("10.0.0.1", "10.0.0.2") * 3:
        await calls.call(client=(address, 1))

    assert calls.passed == [("10.0.0.1", 1), ("10.0.0.2", 1)] * 2


async def test_a_burst_is_accepted_and_the_bucket_empties_evenly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    calls = Callers("20/second")
    first = [await calls.call(client=("a", 1)) for _ in range(25)]
    now = 0.22  # room for four more

    second = [await calls.call(client=("a", 1)) for _ in range(25)]

    assert first == [200] * 20 + [429] * 5
    assert second == [200] * 4 + [429] * 21


async def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_CALLERS", 3)
    calls = Callers("1/hour")
    for address in "abcabcd":
        await calls.call(client=(address, 1))

    assert [await calls.call(client=(address, 1)) for address in "dbc"] == [429, 429, 429]
    assert await calls.call(client=("a", 1)) == 200  # unused longest, so dropped


@pytest.mark.parametrize("caller", [None, ("10.0.0.1", 1)])
async def test_connections_without_an_address_share_a_limit(caller: object) -> None:
    calls = Callers("1/hour")

    assert [await calls.call(client=caller) for _ in range(2)] == [200, 429]


def test_retry_after_is_a_whole_number_of_seconds_and_at_least_one() -> None:
    texts = ("100/second", "1/second", "40/minute", "1/hour")

    assert [Rate.of(text).retry_after for text in texts] == ["1", "1", "2", "3600"]
