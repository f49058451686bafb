"""Parts of a running service: built from the settings, started and closed in their order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing

from service.api.dependencies import RunningService, SearchThread
from service.batcher import Batcher
from service.bundle_watcher import BundleWatcher, SharedVersionFile, registry_source
from service.feedback.feedback import Feedback
from service.feedback.limits import StreamLimits
from service.live_catalogue import POLL_SECONDS, LiveCatalogue
from service.logs import watch_loop
from service.metrics import ServiceMetrics
from service.model_manager import ModelManager, OpenedBundle
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.recommendation.recommender import Recommender
from service.redis_client.breaker import BreakerConfig
from service.redis_client.client import RedisClient
from service.server.workers import shared_folder
from service.settings import Settings
from service.store.overlay_store import OverlayStore
from service.store.session_store import RedisStore, StoredSession, StoreLimits
from service.store.unstored_clicks import UnstoredClicks
from service.trending.counters import RedisCounters
from service.trending.trending import Trending

log = logging.getLogger("recsys.service")


@asynccontextmanager
async def running(
    settings: Settings, first: Callable[[], OpenedBundle], metrics: ServiceMetrics
) -> AsyncIterator[RunningService]:
    """Run the service of a bundle until the context ends.

    Args:
        settings: the settings.
        first: returns the bundle to begin with. This frame must not hold it: it is freed when
            another one replaces it.
        metrics: counters and histograms.
    """
    watch_loop(asyncio.get_running_loop())
    torch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="torch")
    with torch_thread as torch_worker, closing(SearchThread()) as search_thread:
        service = _build(settings, first(), metrics, torch_worker, search_thread)
        watcher = await _start(service, settings)
        async with AsyncExitStack() as stack:  # closes each part, even if others fail
            stack.push_async_callback(service.redis.close)
            stack.push_async_callback(service.store.close)
            stack.push_async_callback(service.live.stop)
            if service.trending is not None:
                stack.push_async_callback(service.trending.stop)
            if service.feedback is not None:
                stack.push_async_callback(service.feedback.stop)
            stack.push_async_callback(service.models.close)
            stack.push_async_callback(service.batcher.stop)
            stack.push_async_callback(watcher.stop)
            yield service


def _build(
    settings: Settings,
    first: OpenedBundle,
    metrics: ServiceMetrics,
    torch_worker: ThreadPoolExecutor,
    search_thread: SearchThread,
) -> RunningService:
    redis = _client_of_users(settings, metrics)
    unstored = UnstoredClicks(metrics.count_unstored)
    overlay_store = OverlayStore(_client_of_overlay(settings, metrics))
    live = LiveCatalogue(overlay_store, metrics.catalogue_age.set)
    trending = None
    if settings.trending:
        counters = RedisCounters(redis)
        trending = Trending(counters, lambda: models.recommenders, live.recount, metrics)
    feedback = None
    if settings.feedback == "stream":
        streams = StreamLimits.of_megabytes(settings.feedback_max_mb)
        feedback = Feedback(redis, streams, metrics)

    def accepted(session: StoredSession) -> None:
        new = session.item_ids[-session.accepted :]
        metrics.count_clicks(new, models.recommender.predictor.catalogue)
        if trending is not None:
            trending.add(session)

    limits = _store_limits(settings, feedback)
    secret = settings.user_id_secret
    given_secret = None if secret is None else secret.get_secret_value()
    store = RedisStore(redis, limits, given_secret, unstored.add, accepted)

    def begin(model: OpenedBundle) -> Recommender:
        store.reserve(model.predictor.window)
        predictor = model.predictor if trending is None else trending.served(model.predictor)
        impressions = None if feedback is None else feedback.impressions
        return Recommender(predictor, store, metrics, torch_worker, impressions)

    models = ModelManager(first, begin, metrics, live, store.hashing_secret)
    together = shared_folder() if settings.workers > 1 else None
    return RunningService(
        models=models,
        live=live,
        batcher=_batcher(settings, models, metrics),
        store=store,
        unstored=unstored,
        redis=redis,
        metrics=metrics,
        search_thread=search_thread,
        bundle=settings.bundle,
        note=None if together is None else SharedVersionFile(together / "bundle", settings.bundle),
        trending=trending,
        feedback=feedback,
    )


def _client_of_users(settings: Settings, metrics: ServiceMetrics) -> RedisClient:
    return RedisClient(
        settings.redis.get_secret_value(),
        timeout_ms=settings.redis_timeout_ms,
        budget_ms=settings.redis_budget_ms,
        connections=settings.redis_connections,
        breaker=BreakerConfig(settings.redis_failures, settings.redis_pause_ms / 1000),
        observe=metrics.observe_redis,
        on_state_change=metrics.count_breaker_state,
    )


def _client_of_overlay(settings: Settings, metrics: ServiceMetrics) -> RedisClient:
    """Return a client with more time for a call, whose failures do not count for users' calls.

    It asks a server that failed again at each poll.
    """
    return RedisClient(
        settings.redis.get_secret_value(),
        timeout_ms=settings.catalogue_timeout_ms,
        budget_ms=settings.catalogue_timeout_ms,
        connections=settings.redis_connections,
        breaker=BreakerConfig(settings.redis_failures, POLL_SECONDS),
        observe=metrics.observe_redis,
    )


def _store_limits(settings: Settings, feedback: Feedback | None) -> StoreLimits:
    return StoreLimits(
        history_length=settings.history_length,
        idle_seconds=settings.idle_seconds,
        event_ids_kept=settings.event_ids_kept,
        tombstone_seconds=settings.tombstone_seconds,
        stream_bytes=None if feedback is None else feedback.limits.clicks,
    )


def _batcher(
    settings: Settings, models: ModelManager, metrics: ServiceMetrics
) -> Batcher[RecommendationQuery, RecommendationResult]:
    return Batcher(
        models.recommend,
        batch_size=settings.batch_size,
        queue_size=settings.queue_size,
        deadline_ms=settings.deadline_ms,
        observe=metrics.waiting.set,
    )


async def _start(service: RunningService, settings: Settings) -> BundleWatcher:
    """Start the parts that work beside the requests, and return the watcher of the bundle."""
    service.batcher.start()
    await service.models.start()
    notes = [registry_source(settings.bundle)]
    if service.note is not None:
        notes.append(service.note.read)
    watcher = BundleWatcher(service.models, notes, settings.follow_seconds)
    await watcher.check()  # variants are loaded before the service is ready
    watcher.start()
    if service.trending is not None:
        service.trending.start()
    if service.feedback is not None:
        service.feedback.start()
    await _warn_without_redis(service.redis)
    return watcher


async def _warn_without_redis(redis: RedisClient) -> None:
    if not await redis.ping():
        log.warning(
            "Redis does not answer: sessions are not stored and answers are degraded until it does."
            " Check RECSYS_REDIS, or try --redis embedded."
        )
