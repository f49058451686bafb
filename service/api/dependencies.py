"""What a route may ask for; all of it is made in `service/app.py` and lives as long as the app."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from recsys.bundle.manifest import Manifest
from recsys.bundle.registry import is_registry
from service.batcher import Batcher
from service.bundle_watcher import SharedNote
from service.metrics import ServiceMetrics
from service.model_manager import ModelManager
from service.recommender import RecommendationQuery, RecommendationResult, Recommender
from service.redis_client.client import RedisClient
from service.side_thread import SideThread
from service.store.session_store import Store
from service.store.unstored_clicks import UnstoredClicks


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running service."""

    models: ModelManager
    batcher: Batcher[RecommendationQuery, RecommendationResult]
    store: Store
    unstored: UnstoredClicks
    link: RedisClient
    metrics: ServiceMetrics
    aside: SideThread  # for what goes through all items
    bundle: Path  # a bundle, or a shelf of them
    note: SharedNote | None  # for the other workers, where there are some

    @property
    def shelf(self) -> Path:
        """Where bundles are looked for by name."""
        return self.bundle if is_registry(self.bundle) else self.bundle.resolve().parent

    @property
    def manifest(self) -> Manifest:
        return self.models.current.manifest

    @property
    def recommender(self) -> Recommender:
        return self.models.recommender


def running(request: Request) -> Running:
    found: Running = request.app.state.running
    return found


RunningDep = Annotated[Running, Depends(running)]
