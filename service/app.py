"""Application of the service: bundle → recommender → batcher → routes, built and closed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial

import torch
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from recsys import __version__
from recsys.bundle.registry import resolve_bundle
from recsys.catalogue.catalogue import Catalogue
from service import problems
from service.api.dependencies import RunningService, SearchThread
from service.api.fast_path import FastPath
from service.api.openapi import operation_id, use_document
from service.api.routes import (
    admin,
    catalogue,
    health,
    items,
    live_items,
    playground,
    recommendations,
    users,
)
from service.batcher import Batcher
from service.bundle_watcher import BundleWatcher, SharedVersionFile, registry_source
from service.feedback.feedback import Feedback
from service.feedback.limits import StreamLimits
from service.live_catalogue import POLL_SECONDS, LiveCatalogue
from service.logs import watch_loop
from service.metrics import RequestMetrics, ServiceMetrics
from service.middleware.auth import (
    ADMIN_KEY,
    API_KEY,
    CATALOGUE_KEY,
    Access,
    AllowedOrigins,
    Keys,
    trusted_hosts,
)
from service.middleware.body_limit import BodyLimit
from service.middleware.headers import AnswerHeaders
from service.middleware.rate_limit import Rate, RateLimit
from service.model_manager import ModelManager, OpenedBundle
from service.playground import pages
from service.recommender import RecommendationQuery, RecommendationResult, Recommender
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
TITLE = "session-recsys"
DESCRIPTION = """Session-based recommendations: send a user's clicks, get the items likely next.

Ids are texts of at most 128 characters; user ids have no "/". Errors are problem details of RFC
9457. Every answer has the id of its request in `X-Request-ID`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Load and verify the bundle, then build the application; raise `BundleRefused`."""
    torch.set_num_threads(1)  # one thread ranks; more threads would compete for the cores
    opened = [OpenedBundle.open(resolve_bundle(settings.bundle))]  # emptied when it is served
    metrics = ServiceMetrics()

    def first() -> OpenedBundle:
        return opened.pop() if opened else OpenedBundle.open(resolve_bundle(settings.bundle))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch_loop(asyncio.get_running_loop())
        torch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="torch")
        with torch_thread as torch_worker, closing(SearchThread()) as search_thread:
            service = _start(settings, first(), metrics, torch_worker, search_thread)
            app.state.running = service
            notes = [registry_source(settings.bundle)]
            if service.note is not None:
                notes.append(service.note.read)
            await service.models.start()
            watcher = BundleWatcher(service.models, notes, settings.follow_seconds)
            await watcher.check()  # variants are loaded before the service is ready
            watcher.start()
            if service.trending is not None:
                service.trending.start()
            if service.feedback is not None:
                service.feedback.start()
            await _warn_without_redis(service.redis)
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
                yield

    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # `_add_pages` adds the page
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
    )
    routers = [module.router for module in (recommendations, users, items, catalogue, health)]
    if settings.playground:
        routers.append(playground.router)
    if settings.catalogue_key_hashes:
        routers.append(live_items.router)
    if settings.admin_key_hashes:
        routers.append(admin.router)
    for router in routers:
        app.include_router(router)
    problems.install(app, [route for router in routers for route in router.routes])
    _add_pages(app, settings)
    app.add_middleware(problems.UnexpectedErrors)
    use_document(app, partial(_served, app, opened), keyed=bool(settings.api_key_hashes))
    app.state.metrics = metrics
    app.middleware_stack = _wrap(app.build_middleware_stack(), settings, metrics)
    return app


async def _warn_without_redis(redis: RedisClient) -> None:
    if not await redis.ping():
        log.warning(
            "Redis does not answer: sessions are not stored and answers are degraded until it does."
            " Check RECSYS_REDIS, or try --redis embedded."
        )


def _served(app: FastAPI, opened: Sequence[OpenedBundle]) -> Catalogue:
    """Return the catalogue that is served now or, before the start, the one that will be."""
    model = opened[0] if opened else app.state.running.models.current
    catalogue: Catalogue = model.predictor.catalogue
    return catalogue


def _wrap(stack: ASGIApp, settings: Settings, metrics: ServiceMetrics) -> ASGIApp:
    """Wrap the middleware that every request passes before FastAPI, from the inside out.

    The headers of CORS are outside the access check, so that a page can read why it is refused. The
    access check is outside the rate limit and the body limit, so that a request without a key is
    not counted and its body is not read.
    """
    app: ASGIApp = FastPath(stack)
    app = BodyLimit(app, settings.max_body_bytes)
    if settings.rate_limit is not None:
        app = RateLimit(app, Rate.of(settings.rate_limit))
    hashes = {
        API_KEY: settings.api_key_hashes,
        ADMIN_KEY: settings.admin_key_hashes,
        CATALOGUE_KEY: settings.catalogue_key_hashes,
    }
    app = Access(app, {part: Keys.of(each) for part, each in hashes.items()})
    app = trusted_hosts(app, settings)
    if settings.cors_origins:
        app = AllowedOrigins(app, settings.cors_origins)
    return RequestMetrics(AnswerHeaders(app), metrics)


def _add_pages(app: FastAPI, settings: Settings) -> None:
    """Add the pages for browsers."""
    app.add_route("/docs", _docs, include_in_schema=False)
    playground = partial(_playground, changes_items=bool(settings.catalogue_key_hashes))
    app.add_route("/", playground if settings.playground else _to_docs, include_in_schema=False)
    if settings.playground:
        app.mount(pages.PLAYGROUND_PATH, StaticFiles(directory=pages.PLAYGROUND / "assets"))


async def _playground(_: object, *, changes_items: bool) -> HTMLResponse:
    return pages.playground(changes_items=changes_items)


async def _to_docs(_: object) -> RedirectResponse:
    return RedirectResponse("docs")


async def _docs(_: object) -> HTMLResponse:
    return pages.docs(TITLE)


def _start(
    settings: Settings,
    first: OpenedBundle,
    metrics: ServiceMetrics,
    torch_worker: ThreadPoolExecutor,
    search_thread: SearchThread,
) -> RunningService:
    redis = RedisClient(
        settings.redis.get_secret_value(),
        timeout_ms=settings.redis_timeout_ms,
        budget_ms=settings.redis_budget_ms,
        connections=settings.redis_connections,
        breaker=BreakerConfig(settings.redis_failures, settings.redis_pause_ms / 1000),
        observe=metrics.observe_redis,
        on_state_change=metrics.count_breaker_state,
    )
    secret = settings.user_id_secret
    unstored = UnstoredClicks(metrics.count_unstored)
    overlay_store = OverlayStore(_overlay_client(settings, metrics))
    live = LiveCatalogue(overlay_store, metrics.catalogue_age.set)
    trending = None
    if settings.trending:
        counters = RedisCounters(redis)
        trending = Trending(counters, lambda: models.recommenders, live.rebase, metrics)
    feedback = None
    if settings.feedback == "stream":
        streams = StreamLimits.of_megabytes(settings.feedback_max_mb)
        feedback = Feedback(redis, streams, metrics)

    def accepted(session: StoredSession) -> None:
        new = session.item_ids[-session.accepted :]
        metrics.count_clicks(new, models.recommender.predictor.catalogue)
        if trending is not None:
            trending.add(session)

    store = RedisStore(
        redis,
        StoreLimits(
            history_length=settings.history_length,
            idle_seconds=settings.idle_seconds,
            event_ids_kept=settings.event_ids_kept,
            tombstone_seconds=settings.tombstone_seconds,
            stream_bytes=None if feedback is None else feedback.limits.clicks,
        ),
        None if secret is None else secret.get_secret_value(),
        unstored.add,
        accepted,
    )

    def begin(model: OpenedBundle) -> Recommender:
        store.reserve(model.predictor.window)
        predictor = model.predictor if trending is None else trending.served(model.predictor)
        impressions = None if feedback is None else feedback.impressions
        return Recommender(predictor, store, metrics, torch_worker, impressions)

    models = ModelManager(first, begin, metrics, live, store.hashing_secret)
    batcher: Batcher[RecommendationQuery, RecommendationResult] = Batcher(
        models.recommend,
        batch_size=settings.batch_size,
        queue_size=settings.queue_size,
        deadline_ms=settings.deadline_ms,
        observe=metrics.waiting.set,
    )
    batcher.start()
    together = shared_folder() if settings.workers > 1 else None
    note = None if together is None else SharedVersionFile(together / "bundle", settings.bundle)
    return RunningService(
        models,
        live,
        batcher,
        store,
        unstored,
        redis,
        metrics,
        search_thread,
        settings.bundle,
        note,
        trending,
        feedback,
    )


def _overlay_client(settings: Settings, metrics: ServiceMetrics) -> RedisClient:
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
