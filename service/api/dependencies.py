"""Parts of the running service that routes use. `service/app.py` builds them for each start."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from recsys.bundle.manifest import Manifest
from recsys.bundle.registry import is_registry
from recsys.errors import Overloaded
from service.batcher import Batcher
from service.bundle_watcher import SharedVersionFile
from service.feedback.feedback import Feedback
from service.live_catalogue import LiveCatalogue
from service.metrics import ServiceMetrics
from service.model_manager import ModelManager
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.recommendation.recommender import Recommender
from service.redis_client.client import RedisClient
from service.store.session_store import Store
from service.store.unstored_clicks import UnstoredClicks
from service.trending.trending import Trending

Result = TypeVar("Result")
MAX_SEARCHES = 16  # running or waiting; each takes up to tenths of a second with a million items


class SearchThread:
    """Thread for jobs that read the whole catalogue, one after another.

    The event loop and the thread that ranks recommendations stay free while a job runs. The owner
    closes the thread at the end.
    """

    def __init__(self, max_jobs: int = MAX_SEARCHES) -> None:
        self._max_jobs = max_jobs
        self._jobs = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="search")

    def close(self) -> None:
        """Wait for the running job and cancel the others."""
        self._thread.shutdown(cancel_futures=True)

    async def run(self, job: Callable[[], Result]) -> Result:
        """Return the result of the job; raise `Overloaded` if too many jobs wait."""
        if self._jobs >= self._max_jobs:
            raise Overloaded(f"{self._jobs} searches are in line already. Ask again later.")
        self._jobs += 1
        result = asyncio.get_running_loop().run_in_executor(self._thread, job)
        result.add_done_callback(self._count_down)  # also called if the request is cancelled
        return await result

    def _count_down(self, _: object) -> None:
        self._jobs -= 1


@dataclass(frozen=True, slots=True)
class RunningService:
    """Parts of a running service."""

    models: ModelManager
    live: LiveCatalogue
    batcher: Batcher[RecommendationQuery, RecommendationResult]
    store: Store
    unstored: UnstoredClicks
    redis: RedisClient
    metrics: ServiceMetrics
    search_thread: SearchThread
    bundle: Path  # a bundle folder or a model registry
    note: SharedVersionFile | None  # for the other workers, if there are any
    trending: Trending | None  # None if the setting is off
    feedback: Feedback | None  # None if the setting is off

    @property
    def registry(self) -> Path:
        """Return the folder that holds the bundles a reload may name."""
        return self.bundle if is_registry(self.bundle) else self.bundle.resolve().parent

    @property
    def manifest(self) -> Manifest:
        return self.models.current.manifest

    @property
    def recommender(self) -> Recommender:
        return self.models.recommender


def running_service(request: Request) -> RunningService:
    service: RunningService = request.app.state.running
    return service


ServiceDep = Annotated[RunningService, Depends(running_service)]
