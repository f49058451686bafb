"""Trending in the service: what counts, and that lists are those that the evaluation ranks."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis as redis_py

from data.sessions import reindex, sessionise
from recsys.bundle.golden import open_predictor
from recsys.live.entry import ItemEntry
from recsys.live.overlay import Overlay
from recsys.model.ranking import top_k
from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings
from recsys.predictor import Predictor
from service.app import create_app
from service.metrics import ServiceMetrics
from service.middleware.auth import hash_of
from service.settings import Settings
from service.store.session_store import StoredSession
from service.trending.counters import RedisCounters
from service.trending.trending import Trending, counters_of
from tests.support.bundles.content_bundle import ITEMS, write_content_bundle
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.bundles.trending_bundle import with_counts
from tests.support.redis.stores import redis_client_for
from tests.support.service.app_client import PATIENT, client_of
from tests.support.service.registry_service import KEY
from tests.support.training.builders import log_of
from training.evaluation.trending import TrendingScorer, going_on

YEARS = RecentPopularitySettings(2.0, half_life_seconds=315_360_000)  # nothing decays in a test
HEADERS = {"Authorization": f"Bearer {KEY}"}
USERS, CASES = 7, 53
TENT, BAG = "aurora-tent", "aurora-sleeping-bag"


@pytest.fixture(scope="module")
def bundle(
    trained: TrainedShop, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the bundle of the shop with counts that go on; its last item has three clicks."""
    newest = np.zeros(len(predictor.catalogue))
    newest[-1] = 3
    now_ms = int(time.time() * 1000)
    out = tmp_path_factory.mktemp("trending") / "bundle"
    return with_counts(trained.bundle, out, RecentPopularity(newest, YEARS, now_ms))


class Service:
    """Client of a service whose exchanges happen when a test asks for them."""

    def __init__(self, client: httpx.AsyncClient, trending: Trending) -> None:
        self.client, self.exchange = client, trending.exchange

    async def list_after(self, user_id: str, item_id: str) -> list[tuple[str, float]]:
        body = {"user_id": user_id, "item_id": item_id}
        answer = (await self.client.post("/v1/recommendations", json=body)).json()
        return [(item["item_id"], item["score"]) for item in answer["items"]]

    async def put(self, item: dict[str, object]) -> None:
        answer = await self.client.put("/v1/items", json={"items": [item]}, headers=HEADERS)
        assert answer.status_code == 200, answer.text

    async def popular(self) -> list[str]:
        answer = (await self.client.get("/v1/users/stranger/recommendations?k=3")).json()
        return [item["item_id"] for item in answer["items"]]


@asynccontextmanager
async def serving(bundle: Path, redis_url: str) -> AsyncIterator[Service]:
    given = {"bundle": bundle, "redis": redis_url, "catalogue_key_hashes": [hash_of(KEY)]}
    app = create_app(Settings(**given, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        trending = app.state.running.trending
        await trending.stop()
        yield Service(client, trending)


@pytest.fixture
async def service(bundle: Path, redis_url: str) -> AsyncIterator[Service]:
    async with serving(bundle, redis_url) as opened:
        yield opened


async def test_served_lists_are_those_of_the_evaluation(service: Service, bundle: Path) -> None:
    predictor = open_predictor(bundle)
    differ = await assert_served_as_measured(service, predictor)
    assert differ > CASES / 2


async def test_new_items_trend_as_in_an_evaluation_with_the_overlay(
    tmp_path: Path, redis_url: str
) -> None:
    """A new item has its counts, whether it is placed before its clicks or after them."""
    counts = RecentPopularity(np.zeros(ITEMS), YEARS, int(time.time() * 1000))
    bundle = with_counts(write_content_bundle(tmp_path / "plain"), tmp_path / "bundle", counts)
    attributes = {"brand": "Bob", "price": 25}
    overlay = Overlay(open_predictor(bundle))
    overlay.apply({"new": ItemEntry(attributes=attributes)})

    async with serving(bundle, redis_url) as service:
        await service.put({"item_id": "new", "attributes": attributes})
        await assert_served_as_measured(service, overlay.predictor(), most_clicked="new")
        assert (await service.popular())[0] == "new"
        for user in range(CASES):
            await service.list_after(f"later{user}", "later")
        await service.exchange()
        await service.put({"item_id": "later", "attributes": attributes})
        assert (await service.popular())[0] == "later"


async def assert_served_as_measured(
    service: Service, predictor: Predictor, most_clicked: str | None = None
) -> int:
    """Replay clicks in the order of their times, with an exchange after each.

    Args:
        service: Serves the model.
        predictor: The same model, as an evaluation has it.
        most_clicked: Item of the first click of each user.

    Returns:
        The number of cases whose list is another one without later counts.
    """
    assert predictor.recent is not None
    ids, random = predictor.catalogue.item_ids, np.random.default_rng(2)
    begin = predictor.recent.at_ms // 1000 + 1
    picked = random.zipf(1.4, size=CASES + USERS) % len(ids)
    rows = [
        (f"u{at % USERS}", ids[item] if at >= USERS else most_clicked or ids[item], begin + at)
        for at, item in enumerate(picked.tolist())
    ]
    sessions = reindex(sessionise(log_of(rows), None), tuple(ids))

    served: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for user_id, item_id, second in rows:
        served[user_id, second] = await service.list_after(user_id, item_id)
        await service.exchange()

    scorer = going_on(predictor, sessions)
    assert isinstance(scorer, TrendingScorer)
    clicks = [sessions[s] for s in range(len(sessions))]
    scores = scorer.scores_at(clicks, sessions.request_ms)
    best, items = top_k(scores, min(20, len(ids)))
    fixed = top_k(predictor.scores_along(clicks), min(20, len(ids)))[1]
    users = np.repeat([f"u{s}" for s in range(USERS)], sessions.lengths - 1).tolist()
    for case, (user_id, at_ms) in enumerate(zip(users, sessions.request_ms, strict=True)):
        have = served[user_id, int(at_ms) // 1000]
        assert [item_id for item_id, _ in have] == ids.take(items[case].tolist())
        assert [score for _, score in have] == pytest.approx(best[case].tolist(), abs=1e-4)
    return int((items != fixed).any(dim=1).sum())


async def test_what_is_popular_changes_in_every_process(
    service: Service, bundle: Path, redis_url: str
) -> None:
    async with serving(bundle, redis_url) as other:
        before = await other.popular()
        for user in range(4):
            await service.list_after(f"u{user}", TENT)
        await service.exchange()
        await other.exchange()
        after = await other.popular()

    assert before[0] == open_predictor(bundle).catalogue.item_ids[-1]
    assert after[:2] == [TENT, before[0]]


async def test_a_user_counts_once_for_an_item(service: Service, redis_url: str) -> None:
    clicks = [{"item_id": TENT}] * 20 + [{"item_id": BAG, "event_id": "e"}] * 3

    for user_id in ("ada", "ada", "ben"):
        await service.client.post(f"/v1/users/{user_id}/clicks", json={"clicks": clicks})
    refused = {"user_id": "eve", "item_id": TENT, "consent": False}
    await service.client.post("/v1/recommendations", json=refused)
    await service.exchange()

    with redis_py.Redis.from_url(redis_url) as redis:
        counted = dict(redis.zrevrange("recsys:{trending}:315360000", 0, -1, withscores=True))
    assert counted[TENT.encode()] == pytest.approx(2)
    assert counted[BAG.encode()] == pytest.approx(2)
    metrics = (await service.client.get("/metrics")).text
    assert 'recsys_trending_clicks_total{outcome="counted"} 4.0' in metrics


async def test_counts_survive_another_bundle(
    service: Service, bundle: Path, redis_url: str
) -> None:
    """Another process begins with the counters of Redis and not with those of its bundle."""
    for user in range(4):
        await service.list_after(f"u{user}", TENT)
    await service.exchange()

    async with serving(bundle, redis_url) as later:
        assert (await later.popular())[0] == TENT


async def test_it_can_be_switched_off(bundle: Path, redis_url: str) -> None:
    settings = {"bundle": bundle, "redis": redis_url, "trending": False, **PATIENT}
    async with client_of(create_app(Settings(**settings))) as client:  # type: ignore[arg-type]
        answer = await client.post("/v1/recommendations", json={"user_id": "ada", "item_id": TENT})

    assert answer.json()["stored"]
    with redis_py.Redis.from_url(redis_url) as redis:
        assert redis.keys("*trending*") == []


class Holder:
    """Recommender as far as trending knows it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor


async def test_without_redis_the_last_counts_stay(bundle: Path) -> None:
    held, metrics = Holder(open_predictor(bundle)), ServiceMetrics()
    away = redis_client_for("redis://127.0.0.1:1")

    async def recount(_: object) -> None:
        raise AssertionError("there are no new counts")

    trending = Trending(RedisCounters(away), lambda: [held], recount, metrics)  # type: ignore[list-item]
    before = held.predictor

    trending.add(StoredSession(item_ids=[BAG, TENT], accepted=1))
    await trending.exchange()

    assert held.predictor is before
    assert trending.served(before) is before
    assert 'recsys_trending_clicks_total{outcome="lost"} 1.0' in metrics.exposition().decode()
    assert list(counters_of(before).clicks.values()) == [3.0]
    await away.close()
