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
from recsys.model.ranking import top_k
from recsys.model.recent_popularity import RecentPopularity, RecentPopularitySettings
from recsys.predictor import Predictor
from service.app import create_app
from service.metrics import ServiceMetrics
from service.settings import Settings
from service.store.session_store import StoredSession
from service.trending.counters import RedisCounters
from service.trending.trending import Trending, counters_of
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.bundles.trending_bundle import with_counts
from tests.support.redis.stores import redis_client_for
from tests.support.service.app_client import PATIENT, client_of
from tests.support.training.builders import log_of
from training.evaluation.trending import TrendingScorer, going_on

YEARS = RecentPopularitySettings(2.0, half_life_seconds=315_360_000)  # nothing decays in a test
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

    async def popular(self) -> list[str]:
        answer = (await self.client.get("/v1/users/stranger/recommendations?k=3")).json()
        return [item["item_id"] for item in answer["items"]]


@asynccontextmanager
async def serving(bundle: Path, redis_url: str) -> AsyncIterator[Service]:
    app = create_app(Settings(bundle=bundle, redis=redis_url, **PATIENT))  # type: ignore[arg-type]
    async with client_of(app) as client:
        trending = app.state.running.trending
        await trending.stop()
        yield Service(client, trending)


@pytest.fixture
async def service(bundle: Path, redis_url: str) -> AsyncIterator[Service]:
    async with serving(bundle, redis_url) as opened:
        yield opened


async def test_served_lists_are_those_of_the_evaluation(service: Service, bundle: Path) -> None:
    """Clicks are replayed in the order of their times, with an exchange after each."""
    predictor = open_predictor(bundle)
    assert predictor.recent is not None
    ids, random = predictor.catalogue.item_ids, np.random.default_rng(2)
    begin = predictor.recent.at_ms // 1000 + 1
    picked = random.zipf(1.4, size=60) % len(ids)
    rows = [(f"u{at % 7}", ids[item], begin + at) for at, item in enumerate(picked.tolist())]
    sessions = reindex(sessionise(log_of(rows), None), tuple(ids))

    served: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for user_id, item_id, second in rows:
        served[user_id, second] = await service.list_after(user_id, item_id)
        await service.exchange()

    scorer = going_on(predictor, sessions)
    assert isinstance(scorer, TrendingScorer)
    clicks = [sessions[s] for s in range(len(sessions))]
    scores = scorer.scores_at(clicks, sessions.request_ms)
    best, items = top_k(scores, 20)
    fixed = top_k(predictor.scores_along(clicks), 20)[1]
    users = np.repeat([f"u{s}" for s in range(7)], sessions.lengths - 1).tolist()
    for case, (user_id, at_ms) in enumerate(zip(users, sessions.request_ms, strict=True)):
        have = served[user_id, int(at_ms) // 1000]
        assert [item_id for item_id, _ in have] == ids.take(items[case].tolist())
        assert [score for _, score in have] == pytest.approx(best[case].tolist(), abs=1e-4)
    assert (items != fixed).any(dim=1).sum() > len(users) / 2


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

    async def rebase(_: object) -> None:
        raise AssertionError("there are no new counts")

    trending = Trending(RedisCounters(away), lambda: [held], rebase, metrics)  # type: ignore[list-item]
    before = held.predictor

    trending.add(StoredSession(item_ids=[BAG, TENT], accepted=1))
    await trending.exchange()

    assert held.predictor is before
    assert trending.served(before) is before
    assert 'recsys_trending_clicks_total{outcome="lost"} 1.0' in metrics.exposition().decode()
    assert list(counters_of(before).clicks.values()) == [3.0]
    await away.close()
