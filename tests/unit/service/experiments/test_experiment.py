"""Users are split over models while the service runs; a broken variant costs no answer."""

import asyncio
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import redis as redis_py

from recsys.bundle.experiment import Experiment
from recsys.bundle.experiment_log import read_changes
from recsys.bundle.registry import publish
from service.api.dependencies import RunningService
from service.feedback.entries import ClickEntry, DeletionEntry, ImpressionEntry
from service.store.session_store import RedisStore
from service.store.user_keys import user_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.feedback import entries_in
from tests.support.service.registry_service import RegistryService, serving

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
USERS = [f"user {number}" for number in range(24)]


def split(served: RegistryService, shares: Mapping[str, float]) -> Experiment:
    experiment = publish(served.registry, "old", shares).experiment
    assert experiment is not None
    return experiment


async def until(running: RunningService, holds: Callable[[RunningService], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds(running):
            await asyncio.sleep(0.02)


async def secret_of(running: RunningService) -> bytes:
    assert isinstance(running.store, RedisStore)
    return await running.store.hashing_secret()


@pytest.fixture
async def logging_service(
    trained: TrainedShop, other_bundle: Path, tmp_path: Path, redis_url: str
) -> AsyncIterator[RegistryService]:
    """Serve the registry with feedback."""
    stream = {"feedback": "stream"}
    async with serving(trained.bundle, other_bundle, tmp_path, redis_url, **stream) as service:
        yield service


async def test_each_user_is_answered_by_the_model_of_the_variant(
    logging_service: RegistryService, redis_url: str
) -> None:
    served = logging_service
    running, client = served.running, served.client
    plain = (await client.post("/v1/recommendations", json={"user_id": "x"})).json()
    experiment = split(served, {"new": 40})
    await until(running, lambda it: it.models.experiment == experiment)
    secret = await secret_of(running)

    bodies = [{"user_id": user, "item_id": item} for item in (TENT, BAG) for user in USERS]
    batch = (await client.post("/v1/recommendations:batch", json={"requests": bodies})).json()
    clicks = {"clicks": [{"item_id": TENT}]}
    assert (await client.post(f"/v1/users/{USERS[0]}/clicks", json=clicks)).status_code == 200
    answers = dict(zip(USERS * 2, batch["responses"], strict=True))
    wanted = {user: experiment.variant_of(user, secret) or "old" for user in USERS}
    lists = {
        name: [i["item_id"] for i in answer["items"]]
        for user in USERS
        for name, answer in [(answers[user]["variant"], answers[user])]
    }
    stateless = (await client.post("/v1/recommendations", json={"items": [TENT, BAG]})).json()
    described = (await client.get("/v1/model")).json()
    metrics = (await client.get("/metrics")).text

    assert "variant" not in plain
    assert {user: answer["variant"] for user, answer in answers.items()} == wanted
    assert set(wanted.values()) == {"old", "new"}
    for answer in answers.values():
        assert answer["model_id"] == served.model_id(answer["variant"])
        assert [item["item_id"] for item in answer["items"]] == lists[answer["variant"]]
        assert answer["stored"]
    assert stateless["variant"] == "old"
    assert [item["item_id"] for item in stateless["items"]] == lists["old"]
    assert described["experiment"]["id"] == experiment.id
    assert described["experiment"]["variants"]["new"] == {
        "share": 40.0,
        "model_id": served.model_id("new"),
    }
    assert 'recsys_variant_share{variant="new"} 40.0' in metrics
    answered = 2 * list(wanted.values()).count("new")
    assert f'recsys_variant_answers_total{{source="model",variant="new"}} {answered}.0' in metrics

    # a larger share keeps the users of the variant, and their sessions
    more = split(served, {"new": 80})
    await until(running, lambda it: it.models.experiment == more)
    for user, variant in wanted.items():
        again = (await client.get(f"/v1/users/{user}/recommendations")).json()
        assert again["variant"] == (more.variant_of(user, secret) or "old")
        assert variant == "old" or again["variant"] == "new"
        if again["variant"] == "new" and user != USERS[0]:
            assert [item["item_id"] for item in again["items"]] == lists["new"]

    publish(served.registry, "old")
    await until(running, lambda it: it.models.experiment is None)
    ended = (await client.post("/v1/recommendations", json={"user_id": USERS[0]})).json()
    assert "variant" not in ended
    assert "experiment" not in (await client.get("/v1/model")).json()

    # clicks and lists in the feedback name the variant of their user
    name_of = {
        user_key(user, secret)[-16:]: (wanted[user], more.variant_of(user, secret) or "old")
        for user in USERS
    }
    logged: dict[type, Counter[str | None]] = defaultdict(Counter)
    async with asyncio.timeout(20):
        while logged[ImpressionEntry].total() < 3 * len(USERS) + 2:
            await asyncio.sleep(0.05)
            logged.clear()
            with redis_py.Redis.from_url(redis_url) as redis:
                entries = [e for e in entries_in(redis) if not isinstance(e, DeletionEntry)]
            for entry in entries:
                logged[type(entry)][entry.variant] += 1
                assert entry.variant is None or entry.variant in name_of[entry.user]
    before = Counter(wanted.values())
    assert logged[ClickEntry] == before + before + Counter([wanted[USERS[0]]])
    assert logged[ImpressionEntry][None] == 2  # before and after the experiment
    shares = [dict(change.shares) for change in read_changes(served.registry)]
    assert shares == [{"old": 60.0, "new": 40.0}, {"old": 20.0, "new": 80.0}, {}]


async def test_the_main_version_answers_for_a_variant_whose_bundle_is_refused(
    served: RegistryService, caplog: pytest.LogCaptureFixture
) -> None:
    running, client = served.running, served.client
    shutil.copytree(served.registry / "new", served.registry / "broken")
    (served.registry / "broken" / "weights.safetensors").write_bytes(b"")

    experiment = split(served, {"broken": 50, "new": 50})
    await until(running, lambda it: it.models.experiment == experiment)
    secret = await secret_of(running)
    variants = set()
    for user in USERS:
        body = {"user_id": user, "item_id": TENT}
        answer = (await client.post("/v1/recommendations", json=body)).json()
        wanted = "new" if experiment.variant_of(user, secret) == "new" else "old"
        variants.add(answer["variant"])
        assert (answer["variant"], answer["model_id"]) == (wanted, served.model_id(wanted))

    assert variants == {"old", "new"}
    assert "broken is refused" in caplog.text
    metrics = (await client.get("/metrics")).text
    assert 'recsys_reloads_total{outcome="refused"} 1.0' in metrics
    assert 'recsys_variant_share{variant="old"} 50.0' in metrics
    assert (await client.get("/v1/model")).json()["experiment"]["variants"]["broken"] == {
        "share": 50.0,
        "model_id": None,
    }

    # a bundle that is named answers all users, and the experiment of the registry can be resumed
    assert (await served.reload(bundle="old")).status_code == 200
    answer = (await client.post("/v1/recommendations", json={"user_id": USERS[0]})).json()
    assert "variant" not in answer
    assert (await served.reload()).status_code == 200
    assert running.models.experiment == experiment
