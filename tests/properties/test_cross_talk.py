"""Nobody is answered with another user's list, whoever leaves while Redis dawdles.

In redis-py a cancelled wait once left its reply to the next one to ask (CVE-2023-28858, -28859).
`make soak` does the same with 200 users, 200 requests each and a server process.
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
LEAVES = 0.3  # so many do not wait for the answer


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
    draw, together = Random(1), asyncio.Semaphore(CONNECTIONS)  # so that who leaves was served
    told: list[str] = []

    async def ask(client: httpx.AsyncClient, own: str) -> None:
        if draw.random() < 0.5:
            shown = await client.get(f"/v1/users/user-{own}")
            if shown.status_code == 503:
                return
            assert [click["item_id"] for click in shown.json()["clicks"]] == [own]
        else:
            answer = (await client.get(f"/v1/users/user-{own}/recommendations")).json()
            if answer["degraded"]:
                return
            assert scores(answer) == pytest.approx(lists[own], abs=1e-4)
        told.append(own)

    async def ask_or_leave(client: httpx.AsyncClient, own: str) -> None:
        async with together:
            asking = asyncio.create_task(ask(client, own))
            if draw.random() < LEAVES:
                await asyncio.sleep(draw.random() * 0.03)
                asking.cancel()
            await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()

    async with ChaosProxy(port, redis_port) as proxy, client_of(app) as client:
        lists = {}
        for item in items:
            click = {"user_id": f"user-{item}", "item_id": item}
            lists[item] = scores((await client.post("/v1/recommendations", json=click)).json())
        assert len({frozenset(found) for found in lists.values()}) == USERS
        await proxy.set_mode(FaultMode.FRAGMENTED)

        asked = [item for item in items for _ in range(REQUESTS)]
        draw.shuffle(asked)
        await asyncio.gather(*(ask_or_leave(client, item) for item in asked))
    assert len(told) > USERS, "degraded answers are about no user"
