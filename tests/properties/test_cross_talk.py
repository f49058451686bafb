"""No user gets another user's list when requests are cancelled while Redis answers slowly.

In old versions of redis-py a cancelled wait left its reply to the next command (CVE-2023-28858 and
CVE-2023-28859). `make soak` does the same with 200 users, 200 requests each and a server process.
"""

import asyncio
from random import Random
from typing import Any

import httpx
import pytest

from recsys.bundle.golden import open_predictor
from service.app import create_app
from service.server.embedded_redis import free_port
from service.settings import Settings
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.service.app_client import PATIENT, client_of

USERS, REQUESTS, CONNECTIONS = 40, 12, 16
CANCELLED = 0.3  # share of the requests that are cancelled


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in answer["items"]}


async def test_every_answer_is_about_the_user_who_asked(
    trained: TrainedShop, redis_url: str
) -> None:
    items = open_predictor(trained.bundle).catalogue.item_ids[:USERS]
    port, redis_port = free_port(), int(redis_url.rsplit(":", 1)[1].partition("/")[0])
    settings = {
        "redis": f"redis://127.0.0.1:{port}",
        "redis_connections": CONNECTIONS,
        "redis_pause_ms": 10,  # on a busy machine the breaker may open
        **PATIENT,
    }
    app = create_app(Settings(bundle=trained.bundle, **settings))  # type: ignore[arg-type]
    random, gate = Random(1), asyncio.Semaphore(CONNECTIONS)  # so that cancelled requests were sent
    answered: list[str] = []

    async def request(client: httpx.AsyncClient, own: str) -> None:
        if random.random() < 0.5:
            shown = await client.get(f"/v1/users/user-{own}")
            if shown.status_code == 503:
                return
            assert [click["item_id"] for click in shown.json()["clicks"]] == [own]
        else:
            answer = (await client.get(f"/v1/users/user-{own}/recommendations")).json()
            if answer["degraded"]:
                return
            assert scores(answer) == pytest.approx(lists[own], abs=1e-4)
        answered.append(own)

    async def request_or_cancel(client: httpx.AsyncClient, own: str) -> None:
        async with gate:
            requesting = asyncio.create_task(request(client, own))
            if random.random() < CANCELLED:
                await asyncio.sleep(random.random() * 0.03)
                requesting.cancel()
            await asyncio.wait({requesting})
        if not requesting.cancelled():
            requesting.result()

    async with ChaosProxy(port, redis_port) as proxy, client_of(app) as client:
        lists = {}
        for item in items:
            click = {"user_id": f"user-{item}", "item_id": item}
            lists[item] = scores((await client.post("/v1/recommendations", json=click)).json())
        assert len({frozenset(found) for found in lists.values()}) == USERS
        await proxy.set_mode(FaultMode.FRAGMENTED)

        requests = [item for item in items for _ in range(REQUESTS)]
        random.shuffle(requests)
        await asyncio.gather(*(request_or_cancel(client, item) for item in requests))
    assert len(answered) > USERS, "too many answers were degraded to check anything"
