"""With every fault of Redis, each call is answered, and its answer is and stays true."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.server.embedded_redis import free_port
from service.settings import Settings
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.chaos_proxy import ChaosProxy
from tests.support.redis.faults import FAULTS, Fault
from tests.support.redis.servers import DURABLE, RedisServer, own_redis
from tests.support.service.api_caller import BAG, TENT, ApiCaller, CallResult
from tests.support.service.app_client import PATIENT, client_of

ROUNDS = 4
RECOVERY_SECONDS = 60.0  # 5 are promised, which `make faults` measures
# shorter than the delays of the proxy, and long enough for a busy machine
LIMITS = {"redis_timeout_ms": 150, "redis_budget_ms": 300, "redis_pause_ms": 200}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with own_redis(*DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def apps(trained: TrainedShop, port: int) -> Callable[..., FastAPI]:
    """Return a function that builds one application for each set of limits."""

    @cache
    def app_of(patient: bool) -> FastAPI:
        given = {"redis": f"redis://127.0.0.1:{port}", **(PATIENT if patient else LIMITS)}
        return create_app(Settings(bundle=trained.bundle, **given))  # type: ignore[arg-type]

    return app_of


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_every_call_is_answered_and_no_word_is_broken(
    fault: Fault, apps: Callable[..., FastAPI], server: RedisServer, port: int
) -> None:
    with server.client() as redis:
        redis.flushall()
    app = apps(patient=fault.degraded is False)
    async with ChaosProxy(port, server.port) as proxy, client_of(app) as client:
        caller = ApiCaller(client)
        await caller.prepare(ROUNDS)

        answers: list[CallResult] = []
        async with fault.inject(proxy, server):
            for _ in range(ROUNDS):
                answers += await caller.round()
                await asyncio.sleep(0.08)  # so that the breaker opens and tries again

        for answer in answers:
            assert answer.is_allowed, answer
            for found in answer.lists:
                check(answer, found, fault)
        await recovered(caller)
        await caller.check()


async def test_a_click_that_redis_refused_counts_for_its_answer_and_no_longer(
    apps: Callable[..., FastAPI], server: RedisServer, port: int
) -> None:
    async def listed(**body: object) -> list[str]:
        answer = (await client.post("/v1/recommendations", json=body)).json()
        return [item["item_id"] for item in answer["items"]]

    with server.client() as redis:
        redis.flushall()
        async with ChaosProxy(port, server.port), client_of(apps(patient=True)) as client:
            caller = ApiCaller(client)
            while not await caller.stores():
                await asyncio.sleep(0.02)

            redis.config_set("maxmemory", 1)
            refused = await listed(user_id="probe", item_id=BAG, event_id="e1")
            redis.config_set("maxmemory", 0)
            await asyncio.sleep(0.1)  # a state would be written back now

            assert refused == await listed(items=[TENT, BAG])
            assert await listed(user_id="probe") == await listed(items=[TENT])


def check(answer: CallResult, found: dict[str, object], fault: Fault) -> None:
    """Check that the answer with a list is one that the fault allows."""
    if fault.degraded is not None:
        assert found["degraded"] is fault.degraded, answer
    if fault.stored is False and answer.call != "click without event id":
        assert found["stored"] is False, answer
    if fault.stored and answer.call == "click":
        assert found["stored"] is True, answer
    items = {item["item_id"] for item in found["items"]}  # type: ignore[attr-defined]
    if answer.call != "list" and not found["degraded"]:
        assert TENT not in items, f"not degraded, but the seen items are not known: {answer}"
    if answer.call == "click":
        assert BAG not in items, answer


async def recovered(caller: ApiCaller) -> None:
    """Wait until a click is stored again."""
    began = time.monotonic()
    while not await caller.stores():
        assert time.monotonic() - began < RECOVERY_SECONDS, "the service did not recover"
        await asyncio.sleep(0.02)
