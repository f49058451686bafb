"""The model that answers, and how another one takes its place while requests go on.

A bundle is opened, verified, asked its golden sessions and warmed up beside the model that answers.
Then one reference is exchanged: a batch that is under way ends with the model it began with, the
next one begins with the new model, and states move over by replay. A bundle that is refused changes
nothing.
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
from service.metrics import ServiceMetrics
from service.recommender import RecommendationQuery, RecommendationResult, Recommender

log = logging.getLogger("recsys.service")


@dataclass(frozen=True, slots=True)
class Model:
    """One bundle, opened."""

    folder: Path
    manifest: Manifest
    predictor: Predictor

    @classmethod
    def open(cls, folder: Path) -> "Model":
        """Verified and warmed up; raises `BundleRefused`."""
        manifest = read_manifest(folder)
        return cls(folder, manifest, open_predictor(folder))

    @property
    def model_id(self) -> str:
        return self.manifest.model_id


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a reload did; both are the same where the bundle was served already."""

    model_id: str
    previous_model_id: str


@dataclass(frozen=True, slots=True)
class Answering:
    """A model, and what answers with it."""

    model: Model
    recommender: Recommender


Begin = Callable[[Model], Recommender]  # called when a model is about to answer


class ModelManager:
    """Holds what answers now; `replace` puts another model there."""

    def __init__(self, first: Model, begin: Begin, metrics: ServiceMetrics) -> None:
        self._begin, self._metrics = begin, metrics
        self._now = Answering(first, begin(first))
        self._before: Path | None = None
        self._turn = asyncio.Lock()
        metrics.model.labels(first.model_id).set(1)

    @property
    def current(self) -> Model:
        return self._now.model

    @property
    def recommender(self) -> Recommender:
        """For one call, which ends with the model it began with."""
        return self._now.recommender

    async def answer(
        self, questions: Sequence[RecommendationQuery]
    ) -> Sequence[RecommendationResult | Exception]:
        """By whatever model is current when the batch begins."""
        return await self._now.recommender.answer(questions)

    async def replace(self, folder: Path) -> Replaced:
        """Serve this bundle from now on; raises `BundleRefused`, and then nothing has changed."""
        async with self._turn:
            return await self._replace(folder)

    async def roll_back(self) -> Replaced:
        """Serve the bundle before the current one again.

        Raises `NoPreviousModel`, and `BundleRefused` where that bundle is gone or broken.
        """
        async with self._turn:
            if self._before is None:
                raise NoPreviousModel("No other model was served before, so none can come back.")
            return await self._replace(self._before)

    async def _replace(self, folder: Path) -> Replaced:
        old = self.current
        try:
            new = await asyncio.to_thread(Model.open, folder)
        except BundleRefused as refused:
            self._metrics.reloads.labels("refused").inc()
            log.error("Model %s stays; %s is refused. %s", old.model_id, folder, refused)
            raise
        replaced = Replaced(new.model_id, old.model_id)
        if new.model_id != old.model_id:
            self._now, self._before = Answering(new, self._begin(new)), old.folder
            self._metrics.model.labels(old.model_id).set(0)
            self._metrics.model.labels(new.model_id).set(1)
            log.info("Model %s answers from now on, instead of %s.", new.model_id, old.model_id)
        self._metrics.reloads.labels("replaced").inc()
        del old, new
        give_back_freed_memory()
        return replaced
