"""HTTP client of an application in this process, and settings for a busy machine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
from fastapi import FastAPI

# on a busy machine, a limit of 50 ms for a reply would test the machine
PATIENT = {"redis_timeout_ms": 2000, "redis_budget_ms": 5000, "deadline_ms": 20_000}

ClientOf = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run the lifespan of an application and yield a client of it."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client
