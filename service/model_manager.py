"""Replacement of the served model while requests go on.

A new bundle is opened, verified, checked with its golden sessions and warmed up beside the current
model. Then one reference is exchanged: a batch that is under way ends with the old model, the next
batch begins with the new one, and states are computed again by replay. A bundle that is refused
changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.allocation import give_back_freed_memory
from recsys.bundle.golden import open_predictor
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.errors import BundleRefused, NoPreviousModel
from recsys.predictor import Predictor
from service.live_catalogue import LiveCatalogue
from service.metrics import ServiceMetrics
from service.recommender import RecommendationQuery, RecommendationResult, Recommender

log = logging.getLogger("recsys.service")


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """Bundle in memory: its folder, manifest and predictor."""

    folder: Path
    manifest: Manifest
    predictor: Predictor

    @classmethod
    def open(cls, folder: Path) -> "OpenedBundle":
        """Open, verify and warm up a bundle.

        Raises:
            BundleRefused: if the bundle is incomplete, damaged or of another format.
        """
        manifest = read_manifest(folder)
        return cls(folder, manifest, open_predictor(folder))

    @property
    def model_id(self) -> str:
        """Return the id in the manifest."""
        return self.manifest.model_id


@dataclass(frozen=True, slots=True)
class Replaced:
    """Result of a replacement. Both ids are equal if the bundle was served already."""

    model_id: str
    previous_model_id: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Opened bundle and the recommender that uses its predictor."""

    model: OpenedBundle
    recommender: Recommender


RecommenderFactory = Callable[[OpenedBundle], Recommender]  # called just before a model is served


class ModelManager:
    """Hold the model that is served and replace it on request.

    Args:
        first: the model to serve first.
        new_recommender: builds the recommender of a model.
        metrics: where replacements are counted.
        live: the live catalogue, which every model gets before it is served.
    """

    def __init__(
        self,
        first: OpenedBundle,
        new_recommender: RecommenderFactory,
        metrics: ServiceMetrics,
        live: LiveCatalogue,
    ) -> None:
        self._new_recommender, self._metrics, self._live = new_recommender, metrics, live
        self._served = ServedModel(first, new_recommender(first))
        self._previous: Path | None = None
        self._replacing = asyncio.Lock()
        metrics.model.labels(first.model_id).set(1)

    async def start(self) -> None:
        """Read the live catalogue and follow it from now on."""
        self._serve(await self._live.bind(self.recommender.predictor))
        await self._live.start(self._serve)

    def _serve(self, predictor: Predictor) -> None:
        """Serve the current model with another overlay."""
        served = self._served
        self._served = ServedModel(served.model, served.recommender.with_predictor(predictor))

    @property
    def current(self) -> OpenedBundle:
        """Return the model that is served now."""
        return self._served.model

    @property
    def recommender(self) -> Recommender:
        """Return the current recommender. A call keeps it until it ends."""
        return self._served.recommender

    async def recommend(
        self, queries: Sequence[RecommendationQuery]
    ) -> Sequence[RecommendationResult | Exception]:
        """Answer a batch with the model that is current when the batch begins."""
        await self._live.wait_if_late()
        return await self._served.recommender.recommend(queries)

    async def replace(self, folder: Path) -> Replaced:
        """Serve the bundle in `folder` from now on.

        Raises:
            BundleRefused: if the bundle cannot be used. The current model is served on.
        """
        async with self._replacing:
            return await self._replace(folder)

    async def roll_back(self) -> Replaced:
        """Serve the bundle again that was served before the current one.

        Raises:
            NoPreviousModel: if no other bundle was served before.
            BundleRefused: if that bundle is missing or damaged.
        """
        async with self._replacing:
            if self._previous is None:
                raise NoPreviousModel(
                    "There is no previous model: this process has served only one. "
                    "Use /v1/admin/reload with the name of a bundle."
                )
            return await self._replace(self._previous)

    async def _replace(self, folder: Path) -> Replaced:
        old = self.current
        try:
            new = await asyncio.to_thread(OpenedBundle.open, folder)
        except BundleRefused as refused:
            self._metrics.reloads.labels("refused").inc()
            log.error(
                "The bundle %s is refused; model %s is served on. %s", folder, old.model_id, refused
            )
            raise
        replaced = Replaced(new.model_id, old.model_id)
        if new.model_id != old.model_id:
            recommender = self._new_recommender(new)
            predictor = await self._live.bind(recommender.predictor)
            self._served = ServedModel(new, recommender.with_predictor(predictor))
            self._previous = old.folder
            self._metrics.model.labels(old.model_id).set(0)
            self._metrics.model.labels(new.model_id).set(1)
            log.info("Model %s is served from now on, instead of %s.", new.model_id, old.model_id)
        self._metrics.reloads.labels("replaced").inc()
        del old, new
        give_back_freed_memory()
        return replaced
