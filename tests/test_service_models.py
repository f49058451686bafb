"""A new model takes the old one's place while requests go on; a broken one changes nothing."""

import asyncio
import gc
import json
import re
import shutil
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from conftest import PATIENT, TrainedShop, client_of
from fastapi import FastAPI
from test_recsys_bundle import edit_manifest, sign

from recsys.bundle_files import GOLDEN, MANIFEST, WEIGHTS
from recsys.errors import UnknownAttribute
from recsys.manifest import read_manifest
from recsys.shelf import publish
from service.access import hash_of
from service.app import create_app
from service.dependencies import Running
from service.follow import SharedNote
from service.recommender import Answer
from service.routes.recommendations import as_question
from service.schemas import RecommendationRequest
from service.settings import Settings

KEY = "recsys_an-admin-key-of-these-tests"
ADMIN = {"Authorization": f"Bearer {KEY}"}
TENT, BAG = "aurora-tent", "aurora-sleeping-bag"


@dataclass
class Served:
    """A service of a shelf with the bundles `old` and `new`."""

    app: FastAPI
    client: httpx.AsyncClient
    shelf: Path

    @property
    def running(self) -> Running:
        found: Running = self.app.state.running
        return found

    def model_id(self, name: str) -> str:
        return read_manifest(self.shelf / name).model_id

    async def reload(self, **body: str) -> httpx.Response:
        return await self.client.post("/v1/admin/reload", json=body, headers=ADMIN)

    async def model(self) -> str:
        answer = await self.client.get("/v1/model")
        found: str = answer.json()["model_id"]
        return found


@pytest.fixture
async def served(
    trained: TrainedShop, other_bundle: Path, tmp_path: Path, redis_url: str
) -> AsyncIterator[Served]:
    for name, bundle in (("old", trained.bundle), ("new", other_bundle)):
        shutil.copytree(bundle, tmp_path / name)
    publish(tmp_path, "old")
    settings = Settings(
        bundle=tmp_path,
        redis=redis_url,  # type: ignore[arg-type]
        admin_key_hashes=(hash_of(KEY),),
        follow_seconds=0.05,
        **PATIENT,  # type: ignore[arg-type]
    )
    async with AsyncExitStack() as stack:
        app = create_app(settings)
        yield Served(app, await stack.enter_async_context(client_of(app)), tmp_path)


async def test_a_reload_serves_the_bundle_that_is_named(served: Served) -> None:
    old, new = served.model_id("old"), served.model_id("new")

    answer = await served.reload(bundle="new")

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"model_id": new, "previous_model_id": old}
    assert await served.model() == new
    metrics = (await served.client.get("/metrics")).text
    assert f'recsys_model_info{{model_id="{new}"}} 1.0' in metrics
    assert f'recsys_model_info{{model_id="{old}"}} 0.0' in metrics


async def test_without_a_name_it_is_what_the_pointer_names(served: Served) -> None:
    assert (await served.reload(bundle="new")).status_code == 200

    answer = await served.reload()

    assert answer.json() == {
        "model_id": served.model_id("old"),
        "previous_model_id": served.model_id("new"),
    }


async def test_what_is_served_already_is_served_on(served: Served) -> None:
    answer = await served.reload(bundle="old")

    assert answer.json() == dict.fromkeys(("model_id", "previous_model_id"), served.model_id("old"))
    assert (await served.client.post("/v1/admin/rollback", headers=ADMIN)).status_code == 409


async def test_a_rollback_goes_back_and_forth(served: Served) -> None:
    old, new = served.model_id("old"), served.model_id("new")
    await served.reload(bundle="new")

    for expected in (old, new):
        answer = await served.client.post("/v1/admin/rollback", headers=ADMIN)
        assert answer.json()["model_id"] == expected
        assert await served.model() == expected


async def test_states_move_over_by_replay(served: Served) -> None:
    """The list after a reload is that of the new model for the whole session."""
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


async def test_the_pointer_is_followed(served: Served) -> None:
    publish(served.shelf, "new")

    await until(served, served.model_id("new"))


async def test_a_pointer_that_did_not_move_takes_no_reload_back(served: Served) -> None:
    await served.reload(bundle="new")

    await asyncio.sleep(0.3)

    assert await served.model() == served.model_id("new")


async def until(served: Served, model_id: str) -> None:
    async with asyncio.timeout(20):
        while await served.model() != model_id:
            await asyncio.sleep(0.02)


def truncated(bundle: Path) -> None:
    path = bundle / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def missing(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()


def newer(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(format_version=99))


def golden(bundle: Path) -> None:
    rows = [json.loads(line) for line in (bundle / GOLDEN).read_text().splitlines()]
    rows[0]["scores"][0] += 1
    (bundle / GOLDEN).write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(bundle)


@pytest.mark.parametrize("broken", [truncated, missing, newer, golden])
async def test_a_broken_bundle_is_refused_and_the_old_model_stays(
    served: Served, broken: Callable[[Path], None]
) -> None:
    broken(served.shelf / "new")

    answer = await served.reload(bundle="new")
    publish_anyway(served.shelf, "new")
    await asyncio.sleep(0.3)

    assert answer.status_code == 422
    assert re.search("sha256|manifest.json|format 99|golden session 1", answer.json()["detail"])
    assert await served.model() == served.model_id("old")
    metrics = (await served.client.get("/metrics")).text
    assert 'recsys_reloads_total{outcome="refused"} 2.0' in metrics


def publish_anyway(shelf: Path, name: str) -> None:
    (shelf / "current").write_text(name)


@pytest.mark.parametrize("name", ["../old", "/etc", "a/b", ".", "nobody"])
async def test_names_lead_nowhere_else(served: Served, name: str) -> None:
    answer = await served.reload(bundle=name)

    assert answer.status_code == 422
    assert await served.model() == served.model_id("old")


async def test_admin_calls_need_an_admin_key(served: Served) -> None:
    for path in ("/v1/admin/reload", "/v1/admin/rollback"):
        assert (await served.client.post(path, json={})).status_code == 401


async def test_every_answer_during_reloads_is_of_one_model(served: Served) -> None:
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
        await asyncio.sleep(0.02)
    done.set()
    await asyncio.gather(*visitors)

    assert set(seen) == ids


async def test_a_filter_of_the_old_models_attributes_is_refused_by_itself(served: Served) -> None:
    """The new bundle has no attributes: who asks by one is told so, who rides along is not."""
    assert served.running.recommender.predictor.catalogue.attributes
    filtered = {"items": [TENT], "filter": {"category": ["Camping"]}}
    plain = {"items": [TENT]}
    service = served.running
    batch = [as_question(RecommendationRequest(**body)) for body in (filtered, plain)]
    await served.reload(bundle="new")

    first, second = await asyncio.gather(*service.batcher.submit_all(batch), return_exceptions=True)

    assert isinstance(first, UnknownAttribute)
    assert isinstance(second, Answer)
    assert second.items


async def test_the_document_follows_the_model(served: Served) -> None:
    def named(document: httpx.Response) -> object:
        schemas = document.json()["components"]["schemas"]
        return schemas["RecommendationRequest"]["properties"]["filter"].get("propertyNames")

    before = named(await served.client.get("/openapi.json"))
    await served.reload(bundle="new")
    after = named(await served.client.get("/openapi.json"))

    assert before == {"enum": ["brand", "category", "name"]}
    assert after is None


async def test_a_model_that_answers_no_more_leaves_no_memory_behind(served: Served) -> None:
    old = weakref.ref(served.running.models.current.predictor)
    await served.reload(bundle="new")

    gc.collect()

    assert old() is None


async def test_what_nobody_foresaw_in_a_bundle_does_not_end_the_following(served: Served) -> None:
    manifest = served.shelf / "broken" / MANIFEST
    shutil.copytree(served.shelf / "new", manifest.parent)
    for damage in (
        '"retrieval": null',
        '"retrieval": []',
        '"created": 5',
        '"window": 1' + "0" * 30,
    ):
        whole = (served.shelf / "new" / MANIFEST).read_text().rstrip()
        manifest.write_text(f"{whole[:-1]}, {damage}}}")  # the last of two counts
        publish(served.shelf, "broken")
        answer = await served.reload(bundle="broken")
        assert answer.status_code == 422, damage
    await asyncio.sleep(0.2)

    publish(served.shelf, "new")

    await until(served, served.model_id("new"))


async def test_a_bundle_that_may_not_be_read_is_refused(served: Served) -> None:
    """As a folder that is a file's place: what the system says is passed on."""
    (served.shelf / "closed").mkdir()
    (served.shelf / "closed" / MANIFEST).mkdir()

    answer = await served.reload(bundle="closed")

    assert answer.status_code == 422
    assert "no file" in answer.json()["detail"]


async def test_the_same_name_written_again_is_a_new_wish(served: Served) -> None:
    await served.reload(bundle="new")

    publish(served.shelf, "old")  # which the pointer said before

    await until(served, served.model_id("old"))


async def test_similar_items_name_the_model_that_found_them(served: Served) -> None:
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


def test_a_note_to_other_workers_counts_until_the_pointer_is_written(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for name in ("a", "b"):
        (shelf / name).mkdir(parents=True)
        (shelf / name / MANIFEST).write_text("{}")
    publish(shelf, "a")
    note = SharedNote(tmp_path / "note", shelf)
    assert note.read() is None

    note.write(shelf / "b")
    wish = note.read()
    assert wish is not None
    assert wish.folder == shelf / "b"

    publish(shelf, "a")
    assert note.read() is None


def test_notes_written_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    note = SharedNote(tmp_path / "note", tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(note.write, [tmp_path / str(number) for number in range(200)]))

    assert note.read() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
