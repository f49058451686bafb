"""A new model replaces the old one while requests go on; a broken bundle changes nothing."""

import asyncio
import gc
import json
import weakref
from pathlib import Path

import httpx
import pytest

from recsys.bundle.layout import MANIFEST
from recsys.client.schemas import RecommendationRequest
from recsys.errors import UnknownAttribute
from service.api.fast_path import query_of
from service.recommendation.queries import RecommendationResult
from tests.support.bundles.broken_bundles import BREAKS
from tests.support.bundles.model_kinds import ModelKinds
from tests.support.service.registry_service import ADMIN, RegistryService, serving

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
REFUSED_TWICE = 'recsys_reloads_total{outcome="refused"} 2.0'


async def test_a_reload_serves_the_bundle_that_is_named(served: RegistryService) -> None:
    old, new = served.model_id("old"), served.model_id("new")

    answer = await served.reload(bundle="new")

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"model_id": new, "previous_model_id": old}
    assert await served.model() == new
    metrics = (await served.client.get("/metrics")).text
    assert f'recsys_model_info{{model_id="{new}"}} 1.0' in metrics
    assert f'recsys_model_info{{model_id="{old}"}} 0.0' in metrics


async def test_a_reload_without_a_name_serves_the_current_version(served: RegistryService) -> None:
    assert (await served.reload(bundle="new")).status_code == 200

    answer = await served.reload()

    assert answer.json() == {
        "model_id": served.model_id("old"),
        "previous_model_id": served.model_id("new"),
    }


async def test_a_reload_of_the_served_bundle_changes_nothing(served: RegistryService) -> None:
    answer = await served.reload(bundle="old")

    assert answer.json() == dict.fromkeys(("model_id", "previous_model_id"), served.model_id("old"))
    assert (await served.client.post("/v1/admin/rollback", headers=ADMIN)).status_code == 409


async def test_a_rollback_goes_back_and_forth(served: RegistryService) -> None:
    old, new = served.model_id("old"), served.model_id("new")
    await served.reload(bundle="new")

    for expected in (old, new):
        answer = await served.client.post("/v1/admin/rollback", headers=ADMIN)
        assert answer.json()["model_id"] == expected
        assert await served.model() == expected


async def test_states_move_over_by_replay(served: RegistryService) -> None:
    """After a reload the list is the one of the new model for the whole session."""
    for item in (TENT, BAG):
        body = {"user_id": "ada", "item_id": item}
        assert (await served.client.post("/v1/recommendations", json=body)).status_code == 200
    await served.reload(bundle="new")

    known = await served.client.get("/v1/users/ada/recommendations")
    stateless = await served.client.post("/v1/recommendations", json={"items": [TENT, BAG]})

    assert known.json()["model_id"] == served.model_id("new")
    assert [item["item_id"] for item in known.json()["items"]] == [
        item["item_id"] for item in stateless.json()["items"]
    ]


@pytest.mark.parametrize("name", BREAKS)
async def test_a_broken_bundle_is_refused_and_the_old_model_stays(
    served: RegistryService, name: str
) -> None:
    damage, sentence = BREAKS[name]
    damage(served.registry / "new")

    answer = await served.reload(bundle="new")
    publish_anyway(served.registry, "new")
    async with asyncio.timeout(20):
        while REFUSED_TWICE not in (await served.client.get("/metrics")).text:
            await asyncio.sleep(0.02)

    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert await served.model() == served.model_id("old")


def publish_anyway(registry: Path, name: str) -> None:
    (registry / "current").write_text(name)


@pytest.mark.parametrize("name", ["../old", "/etc", "a/b", ".", "unknown"])
async def test_a_name_outside_the_registry_is_refused(served: RegistryService, name: str) -> None:
    answer = await served.reload(bundle=name)

    assert answer.status_code == 422
    assert await served.model() == served.model_id("old")


async def test_admin_calls_need_an_admin_key(served: RegistryService) -> None:
    for path in ("/v1/admin/reload", "/v1/admin/rollback"):
        assert (await served.client.post(path, json={})).status_code == 401


async def test_every_answer_during_reloads_is_of_one_model(served: RegistryService) -> None:
    ids = {served.model_id("old"), served.model_id("new")}
    done = asyncio.Event()
    seen: list[str] = []

    async def visit(number: int) -> None:
        while not done.is_set():
            body = {"user_id": f"user {number}", "item_id": TENT}
            answer = await served.client.post("/v1/recommendations", json=body)
            assert answer.status_code == 200, answer.text
            seen.append(answer.json()["model_id"])

    visitors = [asyncio.create_task(visit(number)) for number in range(8)]
    for name in ("new", "old", "new", "old"):
        assert (await served.reload(bundle=name)).status_code == 200
        async with asyncio.timeout(20):
            while not seen or seen[-1] != served.model_id(name):
                await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*visitors)

    assert set(seen) == ids


async def test_a_filter_of_the_old_models_attributes_is_refused_by_itself(
    served: RegistryService,
) -> None:
    """The new bundle has no attributes. The query with a filter fails, the other one does not."""
    assert served.running.recommender.predictor.catalogue.attributes
    filtered = {"items": [TENT], "filter": {"category": ["Camping"]}}
    plain = {"items": [TENT]}
    service = served.running
    batch = [query_of(RecommendationRequest(**body)) for body in (filtered, plain)]
    await served.reload(bundle="new")

    first, second = await asyncio.gather(*service.batcher.submit_all(batch), return_exceptions=True)

    assert isinstance(first, UnknownAttribute)
    assert isinstance(second, RecommendationResult)
    assert second.items


async def test_the_openapi_document_describes_the_served_model(served: RegistryService) -> None:
    def named(document: httpx.Response) -> object:
        schemas = document.json()["components"]["schemas"]
        return schemas["RecommendationRequest"]["properties"]["filter"].get("propertyNames")

    before = named(await served.client.get("/openapi.json"))
    await served.reload(bundle="new")
    after = named(await served.client.get("/openapi.json"))

    assert before == {"enum": ["brand", "category", "name"]}
    assert after == {"maxLength": 512}


async def test_a_replaced_model_is_freed(served: RegistryService) -> None:
    old = weakref.ref(served.running.models.current.predictor)
    await served.reload(bundle="new")

    gc.collect()

    assert old() is None


async def test_a_bundle_that_cannot_be_read_is_refused(served: RegistryService) -> None:
    """A folder stands in the place of the manifest."""
    (served.registry / "closed").mkdir()
    (served.registry / "closed" / MANIFEST).mkdir()

    answer = await served.reload(bundle="closed")

    assert answer.status_code == 422
    assert "not a file" in answer.json()["detail"]


async def test_similar_items_name_the_model_that_found_them(served: RegistryService) -> None:
    async def similar() -> tuple[str, str]:
        answer = (await served.client.get(f"/v1/items/{TENT}/similar?k=5")).json()
        return answer["model_id"], json.dumps(answer["items"])

    alone = dict([await similar()])
    await served.reload(bundle="new")
    alone |= dict([await similar()])
    assert len(set(alone.values())) == 2
    seen: list[tuple[str, str]] = []

    async def ask_on() -> None:
        while not reloading.done():
            seen.append(await similar())

    reloading = asyncio.ensure_future(served.reload(bundle="old"))
    await asyncio.gather(ask_on(), ask_on(), ask_on())

    assert seen
    assert all(alone[model] == items for model, items in seen)


async def test_a_smaller_window_for_a_while_costs_no_click(
    model_kinds: ModelKinds, tmp_path: Path, redis_url: str
) -> None:
    """The length of the stored history does not depend on the window of the served model."""
    wide, narrow = (
        model_kinds.bundle("gru shared", window=60),
        model_kinds.bundle("gru shared", window=5),
    )
    async with serving(wide, narrow, tmp_path, redis_url) as served:

        async def click(*events: int) -> None:
            clicks = [{"item_id": TENT, "event_id": f"e{event}"} for event in events]
            sent = await served.client.post("/v1/users/ada/clicks", json={"clicks": clicks})
            assert sent.json()["accepted"] == len(events), sent.text

        await click(*range(58))
        assert (await served.reload(bundle="new")).status_code == 200
        await click(58)
        assert (await served.reload(bundle="old")).status_code == 200
        stored = (await served.client.get("/v1/users/ada")).json()["clicks"]

    assert [found["event_id"] for found in stored] == [f"e{event}" for event in range(59)]
