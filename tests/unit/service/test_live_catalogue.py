"""The overlay reaches every process, survives restarts and reloads, and follows Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py
from fastapi import FastAPI

from recsys.live.entry import ItemEntry
from service.app import create_app
from service.middleware.auth import hash_of
from service.settings import Settings
from service.store.overlay_store import ItemUpdate, OverlayStore, OverlayVersion
from tests.support.bundles.content_bundle import IDS, write_content_bundle
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for
from tests.support.service.app_client import PATIENT, client_of
from tests.support.service.registry_service import ADMIN, KEY, RegistryService

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
ASK, HEADERS = "/v1/recommendations", {"Authorization": f"Bearer {KEY}-2"}
CATALOGUE = hash_of(f"{KEY}-2")
NEW = {"item_id": "new", "attributes": {"brand": "Bob", "price": 25}, "vectors": {"image": [1, 0]}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_content_bundle(tmp_path_factory.mktemp("content") / "bundle")


@asynccontextmanager
async def served(bundle: Path, redis_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = application(bundle, redis_url, **settings)
    async with client_of(app) as client:
        yield client


def application(bundle: Path, redis_url: str, **settings: Any) -> FastAPI:
    given = {"bundle": bundle, "redis": redis_url, "catalogue_key_hashes": [CATALOGUE], **PATIENT}
    return create_app(Settings(**{**given, **settings}))


async def put(client: httpx.AsyncClient, *items: dict[str, Any]) -> Any:
    answer = await client.put("/v1/items", json={"items": items}, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ask(client: httpx.AsyncClient, **body: Any) -> list[str]:
    answer = (await client.post(ASK, json={"k": 20, **body})).json()
    return [item["item_id"] for item in answer["items"]]


async def until(holds: Callable[[list[str]], bool], *clients: httpx.AsyncClient) -> None:
    """Wait until the lists after the first item are so in all processes."""
    async with asyncio.timeout(30):
        for client in clients:
            while not holds(await ask(client, items=[IDS[0]])):
                await asyncio.sleep(0.02)


async def test_a_new_item_is_recommended_by_all_processes_and_moves_the_state(
    bundle: Path, redis_url: str
) -> None:
    async with served(bundle, redis_url) as one, served(bundle, redis_url) as two:
        before = await ask(one, items=["new"])
        answer = await put(one, NEW, {"item_id": "twin", "attributes": NEW["attributes"]})
        assert (answer["errors"], answer["not_placed"]) == ([], [])
        await until(lambda items: "new" in items, one, two)

        lists = [await ask(client, items=[IDS[0], "new"]) for client in (one, two)]
        popular = await ask(one, items=[])
        clicked = await ask(one, user_id="ada", item_id="new")
        stored = await ask(two, user_id="ada")
        bobs = await ask(two, items=[IDS[0]], filter={"brand": ["Bob"], "price": {"gt": 22}})
        similar = (await two.get("/v1/items/new/similar?k=20")).json()["items"]
    async with served(bundle, redis_url) as again:  # a restart
        after = await ask(again, items=[IDS[0], "new"])
        stored_after = await ask(again, user_id="ada")

    assert "new" not in before
    assert lists[0] == lists[1] == after
    assert popular[-2:] == ["new", "twin"]
    assert clicked == stored == stored_after != before
    assert set(bobs) == {"new", "twin", *IDS[7::3]}
    assert {item["item_id"] for item in similar} == {*IDS, "twin"}


async def test_a_model_that_is_loaded_has_the_overlay_before_it_is_served(
    served: RegistryService,
) -> None:
    store = served.running.live.store
    version, _ = await store.put([ItemUpdate("aurora-tent", available=False)])
    await served.running.live.reached(version)

    await served.reload(bundle="new")
    listed = await ask(served.client, user_id="nobody", k=100)
    await served.client.post("/v1/admin/rollback", headers=ADMIN)
    rolled_back = await ask(served.client, user_id="nobody", k=100)

    assert len(listed) == len(rolled_back) == 100
    assert "aurora-tent" not in [*listed, *rolled_back]


async def test_an_outage_keeps_the_last_overlay_and_changes_are_read_afterwards(
    bundle: Path,
) -> None:
    with own_redis(*DURABLE) as server:
        async with served(bundle, server.url) as client:
            await put(client, {"item_id": IDS[1], "available": False})
            await until(lambda items: IDS[1] not in items, client)
            server.kill()
            refused = await client.put("/v1/items", json={"items": [NEW]}, headers=HEADERS)
            meanwhile = await ask(client, items=[IDS[0]])
            server.start()
            async with asyncio.timeout(30):
                while (
                    await client.put("/v1/items", json={"items": [NEW]}, headers=HEADERS)
                ).status_code != 200:
                    await asyncio.sleep(0.05)
            await until(lambda items: "new" in items, client)
            assert IDS[1] not in await ask(client, items=[IDS[0]])

    assert refused.status_code == 503
    assert IDS[1] not in meanwhile


async def test_a_process_that_was_stopped_reads_the_overlay_before_it_answers(
    served: RegistryService,
) -> None:
    live = served.running.live
    assert live._task is not None
    live._task.cancel()  # the process stands still
    await asyncio.wait({live._task})
    await live.store.put([ItemUpdate("aurora-tent", available=False)])
    live._tried_at = -10.0
    live._task = asyncio.create_task(live._run())

    assert "aurora-tent" not in await ask(served.client, user_id="nobody", k=100)


async def test_data_that_redis_lost_is_recognised(bundle: Path, redis_url: str) -> None:
    """A restored Redis has as many changes as before, but others."""
    async with served(bundle, redis_url) as client:
        await put(client, {"item_id": IDS[1], "available": False})
        await until(lambda items: IDS[1] not in items, client)
        with redis_py.Redis.from_url(redis_url) as redis:
            redis.flushall()
        await put(client, {"item_id": IDS[2], "available": False})

        await until(lambda items: IDS[1] in items and IDS[2] not in items, client)


async def test_a_reader_gets_every_change_once_in_pages_that_fit(redis_url: str) -> None:
    store = OverlayStore(redis_client_for(redis_url))
    updates = [ItemUpdate(f"i{n}", available=n % 2 == 0, attributes={"n": n}) for n in range(2500)]
    for at in range(0, 2500, 1000):
        await store.put(updates[at : at + 1000])
    await store.put([ItemUpdate("i0", attributes={"n": "other"}, vectors={"image": [0.1, 2.0]})])

    known: OverlayVersion | None = None
    after, pages = 0, []
    while (page := await store.read(known, after)) is not None:
        pages.append(page.items)
        known, after = page.version, page.last
        if page.is_last:
            break
    found = {item_id: item.entry for page in pages for item_id, item in page.items()}
    assert known is not None
    other = await store.read(OverlayVersion(known.epoch, known.count, "other"), after)
    await store.close()

    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert list(pages[-1])[-1] == "i0"
    assert found["i0"].attributes == {"n": "other"}
    assert found["i0"].vectors["image"] == pytest.approx([0.1, 2.0])
    assert found["i7"] == ItemEntry(False, {"n": 7})
    assert other is None
