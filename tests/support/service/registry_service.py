"""Service of a model registry with two bundles, and the admin calls to it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import publish
from service.api.dependencies import RunningService
from service.app import create_app
from service.middleware.auth import hash_of
from service.settings import Settings
from tests.support.service.app_client import PATIENT, client_of

KEY = "recsys_an-admin-key-of-these-tests"
ADMIN = {"Authorization": f"Bearer {KEY}"}


@dataclass
class RegistryService:
    """Service of a model registry with the bundles `old` and `new`."""

    app: FastAPI
    client: httpx.AsyncClient
    registry: Path

    @property
    def running(self) -> RunningService:
        running: RunningService = self.app.state.running
        return running

    def model_id(self, name: str) -> str:
        return read_manifest(self.registry / name).model_id

    async def reload(self, **body: str) -> httpx.Response:
        return await self.client.post("/v1/admin/reload", json=body, headers=ADMIN)

    async def model(self) -> str:
        answer = await self.client.get("/v1/model")
        model_id: str = answer.json()["model_id"]
        return model_id


@asynccontextmanager
async def serving(
    old: Path, new: Path, registry: Path, redis_url: str, **settings: object
) -> AsyncIterator[RegistryService]:
    """Copy both bundles to the registry and serve `old`; keyword arguments are settings."""
    for name, bundle in (("old", old), ("new", new)):
        shutil.copytree(bundle, registry / name)
    publish(registry, "old")
    given = {"bundle": registry, "redis": redis_url, "follow_seconds": 0.05, **PATIENT, **settings}
    async with AsyncExitStack() as stack:
        app = create_app(Settings(admin_key_hashes=(hash_of(KEY),), **given))  # type: ignore[arg-type]
        yield RegistryService(app, await stack.enter_async_context(client_of(app)), registry)


async def until(service: RegistryService, model_id: str) -> None:
    async with asyncio.timeout(20):
        while await service.model() != model_id:
            await asyncio.sleep(0.02)
