"""Application of the service: bundle → recommender → batcher → routes, built and closed."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from recsys import __version__
from recsys.bundle.registry import resolve_bundle
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput
from service import problems
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
from service.lifespan import running
from service.metrics import RequestMetrics, ServiceMetrics
from service.middleware.audit import Audit
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
from service.model_manager import OpenedBundle
from service.playground import pages
from service.settings import Settings

if TYPE_CHECKING:
    from service.tracing.tracing import Tracing

# FastAPI traces by itself if a provider or FASTAPI_OTEL_AUTO_CONFIGURE is set. Its spans and logs
# hold paths and messages of exceptions, and thus ids of users.
NO_TELEMETRY = TelemetryConfig(
    tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False
)
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
    tracing = _tracing(metrics) if settings.tracing else None

    def first() -> OpenedBundle:
        return opened.pop() if opened else OpenedBundle.open(resolve_bundle(settings.bundle))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, first, metrics, tracing) as service:
            app.state.running = service
            yield

    app: FastAPI = FastAPIOffline(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # `_add_pages` adds the page
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        generate_unique_id_function=operation_id,
    )
    routers = _routers(settings)
    for router in routers:
        app.include_router(router)
    problems.install(app, [route for router in routers for route in router.routes])
    _add_pages(app, settings)
    app.add_middleware(problems.UnexpectedErrors)
    use_document(app, partial(_served, app, opened), keyed=bool(settings.api_key_hashes))
    app.state.metrics = metrics
    app.middleware_stack = _wrap(app.build_middleware_stack(), settings, metrics, tracing)
    return app


def _tracing(metrics: ServiceMetrics) -> "Tracing":
    """Import OpenTelemetry and start the export of spans; raise `BadInput` if it cannot be used."""
    try:
        from service.tracing.tracing import Tracing
    except ImportError as error:
        raise BadInput(
            "RECSYS_TRACING is on, and OpenTelemetry is not installed",
            ["Install the extra session-recsys[tracing], or switch the setting off."],
        ) from error
    return Tracing(metrics.count_spans)


def _routers(settings: Settings) -> list[APIRouter]:
    """Return the calls that the settings allow."""
    routers = [module.router for module in (recommendations, users, items, catalogue, health)]
    if settings.playground:
        routers.append(playground.router)
    if settings.catalogue_key_hashes:
        routers.append(live_items.router)
    if settings.admin_key_hashes:
        routers.append(admin.router)
    return routers


def _served(app: FastAPI, opened: Sequence[OpenedBundle]) -> Catalogue:
    """Return the catalogue that is served now or, before the start, the one that will be."""
    model = opened[0] if opened else app.state.running.models.current
    catalogue: Catalogue = model.predictor.catalogue
    return catalogue


def _wrap(
    stack: ASGIApp, settings: Settings, metrics: ServiceMetrics, tracing: "Tracing | None"
) -> ASGIApp:
    """Wrap the middleware that every request passes before FastAPI, from the inside out.

    The headers of CORS are outside the access check, so that a page can read why it is refused. The
    access check is outside the rate limit and the body limit, so that a request without a key is
    not counted and its body is not read. The audit log is outside it and sees what is refused.
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
    app = Audit(app, [*admin.router.routes, *live_items.router.routes])
    if tracing is not None:
        app = tracing.requests(app)
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
