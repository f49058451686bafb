"""Whatever happens to Redis: each call is answered, says the truth, and what it said stays true."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from callers import BAG, TENT, Answer, Caller
from conftest import TrainedShop, client_of
from fastapi import FastAPI
from gremlin import Gremlin
from redis_faults import FAULTS, Fault
from redis_servers import DURABLE, RedisServer, own_redis

from service.app import create_app
from service.embedded_redis import free_port
from service.settings import Settings

ROUNDS = 4
RECOVERY_SECONDS = 5.0  # promised
# patient enough for a busy machine, less so than the Gremlin
LIMITS = {"redis_timeout_ms": 150, "redis_budget_ms": 300, "redis_pause_ms": 200}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with own_redis(*DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def app(trained: TrainedShop, port: int) -> FastAPI:
    url = f"redis://127.0.0.1:{port}"
    return create_app(Settings(bundle=trained.bundle, redis=url, **LIMITS))  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_every_call_is_answered_and_no_word_is_broken(
    fault: Fault, app: FastAPI, server: RedisServer, port: int
) -> None:
    with server.client() as redis:
        redis.flushall()
    async with Gremlin(port, server.port) as gremlin, client_of(app) as client:
        caller = Caller(client)
        await caller.prepare(ROUNDS)

        answers: list[Answer] = []
        async with fault.doing(gremlin, server):
            for _ in range(ROUNDS):
                answers += await caller.round()
                await asyncio.sleep(0.08)  # through all that a breaker does

        for answer in answers:
            assert answer.is_allowed, answer
            for found in answer.lists:
                check(answer, found, fault)
        await recovered(caller)
        await caller.check()


def check(answer: Answer, found: dict[str, object], fault: Fault) -> None:
    """One list says what the fault leaves possible, and nothing that is not so."""
    if fault.degraded is not None:
        assert found["degraded"] is fault.degraded, answer
    if fault.stored is False and answer.call != "click without event id":
        assert found["stored"] is False, answer
    if fault.stored and answer.call == "click":
        assert found["stored"] is True, answer
    items = {item["item_id"] for item in found["items"]}  # type: ignore[attr-defined]
    if answer.call != "list" and not found["degraded"]:
        assert TENT not in items, f"not degraded, but what was seen is not known: {answer}"
    if answer.call == "click":
        assert BAG not in items, answer


async def recovered(caller: Caller) -> None:
    began = time.monotonic()
    while not await caller.stores():
        assert time.monotonic() - began < RECOVERY_SECONDS, "the service did not recover"
        await asyncio.sleep(0.02)
