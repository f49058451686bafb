"""Puts the service together: bundle → recommender → batcher → routes, and closes it again."""

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
from service.api.dependencies import Running
from service.api.fast_path import FastPath
from service.api.openapi import use_document
from service.api.routes import admin, catalogue, health, items, playground, recommendations, users
from service.batcher import Batcher
from service.bundle_watcher import BundleWatcher, SharedNote, pointer_of
from service.logs import watch_loop
from service.metrics import RequestMetrics, ServiceMetrics
from service.middleware.auth import Access, AllowedOrigins, Keys, trusted_hosts
from service.middleware.body_limit import BodyLimit
from service.middleware.headers import AnswerHeaders
from service.middleware.rate_limit import Rate, RateLimit
from service.model_manager import Model, ModelManager
from service.playground import pages
from service.recommender import RecommendationQuery, RecommendationResult, Recommender
from service.redis_client.breaker import BreakerConfig
from service.redis_client.client import RedisClient
from service.server.workers import shared_folder
from service.settings import Settings
from service.side_thread import SideThread
from service.store.session_store import RedisStore, StoreLimits
from service.store.unstored_clicks import UnstoredClicks

log = logging.getLogger("recsys.service")
TITLE = "session-recsys"
DESCRIPTION = """Session-based recommendations: send a user's clicks, get the items likely next.

Ids are texts of at most 128 characters; user ids have no "/". Errors are RFC 9457 problem details.
Every answer names its request in `X-Request-ID`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Load and verify the bundle, then build the application; raises `BundleRefused`."""
    torch.set_num_threads(1)  # one worker thread computes; more only fight over the cores
    opened = [Model.open(resolve_bundle(settings.bundle))]  # until it is served, then let go
    metrics = ServiceMetrics()

    def first() -> Model:
        return opened.pop() if opened else Model.open(resolve_bundle(settings.bundle))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch_loop(asyncio.get_running_loop())
        torch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="torch")
        with torch_thread as worker, closing(SideThread()) as aside:
            service = _start(settings, first(), metrics, worker, aside)
            app.state.running = service
            notes = [pointer_of(settings.bundle)]
            if service.note is not None:
                notes.append(service.note.read)
            follower = BundleWatcher(service.models, notes, settings.follow_seconds)
            follower.start()
            await _warn_without_redis(service.link)
            async with AsyncExitStack() as ends:  # each of them, whatever becomes of the others
                ends.push_async_callback(service.link.close)
                ends.push_async_callback(lambda: service.recommender.close())  # of then
                ends.push_async_callback(service.batcher.stop)
                ends.push_async_callback(follower.stop)
                yield

    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # it has its own
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header
        lifespan=lifespan,
    )
    routers = [part.router for part in (recommendations, users, items, catalogue, health)]
    if settings.playground:
        routers.append(playground.router)
    if settings.admin_key_hashes:
        routers.append(admin.router)
    for router in routers:
        app.include_router(router)
    problems.install(app, [route for router in routers for route in router.routes])
    _add_pages(app, settings)
    app.add_middleware(problems.Unexpected)
    use_document(app, partial(_served, app, opened), keyed=bool(settings.api_key_hashes))
    app.state.metrics = metrics
    app.middleware_stack = _around(app.build_middleware_stack(), settings, metrics)
    return app


async def _warn_without_redis(link: RedisClient) -> None:
    if not await link.ping():
        log.warning(
            "Redis does not answer: sessions are not stored and answers are degraded until it does."
            " Check RECSYS_REDIS, or try --redis embedded."
        )


def _served(app: FastAPI, opened: Sequence[Model]) -> Catalogue:
    """What is served now, or will be."""
    model = opened[0] if opened else app.state.running.models.current
    catalogue: Catalogue = model.predictor.catalogue
    return catalogue


def _around(stack: ASGIApp, settings: Settings, metrics: ServiceMetrics) -> ASGIApp:
    """What every request passes, outside of what FastAPI wraps around its routes.

    From the inside out: a page of another origin is answered by name even when it is refused, and
    who may not call is neither counted against a limit nor read.
    """
    app: ASGIApp = FastPath(stack, answer=recommendations.recommended)
    app = BodyLimit(app, settings.max_body_bytes)
    if settings.rate_limit is not None:
        app = RateLimit(app, Rate.of(settings.rate_limit))
    app = Access(app, Keys.of(settings.api_key_hashes), Keys.of(settings.admin_key_hashes))
    app = trusted_hosts(app, settings)
    if settings.cors_origins:
        app = AllowedOrigins(app, settings.cors_origins)
    return RequestMetrics(AnswerHeaders(app), metrics)


def _add_pages(app: FastAPI, settings: Settings) -> None:
    """What a browser shows."""
    app.add_route("/docs", _docs, include_in_schema=False)
    app.add_route("/", _playground if settings.playground else _to_docs, include_in_schema=False)
    if settings.playground:
        app.mount(pages.PLAYGROUND_PATH, StaticFiles(directory=pages.PLAYGROUND / "assets"))


async def _playground(_: object) -> HTMLResponse:
    return pages.playground()


async def _to_docs(_: object) -> RedirectResponse:
    return RedirectResponse("docs")


async def _docs(_: object) -> HTMLResponse:
    return pages.docs(TITLE)


def _start(
    settings: Settings,
    first: Model,
    metrics: ServiceMetrics,
    worker: ThreadPoolExecutor,
    aside: SideThread,
) -> Running:
    link = RedisClient(
        settings.redis.get_secret_value(),
        timeout_ms=settings.redis_timeout_ms,
        budget_ms=settings.redis_budget_ms,
        connections=settings.redis_connections,
        breaker=BreakerConfig(settings.redis_failures, settings.redis_pause_ms / 1000),
        observe=metrics.observe_redis,
        on_state_change=metrics.redis_moved,
    )
    secret = settings.user_id_secret
    unstored = UnstoredClicks(metrics.count_unstored)
    store = RedisStore(
        link,
        StoreLimits(
            history_length=settings.history_length,
            idle_seconds=settings.idle_seconds,
            event_ids_kept=settings.event_ids_kept,
            tombstone_seconds=settings.tombstone_seconds,
        ),
        None if secret is None else secret.get_secret_value(),
        unstored.add,
    )

    def begin(model: Model) -> Recommender:
        store.reserve(model.predictor.window)
        return Recommender(model.predictor, store, metrics, worker)

    models = ModelManager(first, begin, metrics)
    batcher: Batcher[RecommendationQuery, RecommendationResult] = Batcher(
        models.answer,
        batch_size=settings.batch_size,
        queue_size=settings.queue_size,
        deadline_ms=settings.deadline_ms,
        observe=metrics.waiting.set,
    )
    batcher.start()
    together = shared_folder() if settings.workers > 1 else None
    note = None if together is None else SharedNote(together / "bundle", settings.bundle)
    return Running(models, batcher, store, unstored, link, metrics, aside, settings.bundle, note)
