"""The models that are served, and their replacement while requests go on.

A new bundle is opened, verified, checked with its golden sessions and warmed up beside the current
model. Then one reference is exchanged: a batch that is under way ends with the old model, the next
batch begins with the new one, and states are computed again by replay. A bundle that is refused
changes nothing.

While an experiment runs, each variant has a model, and a batch is split by the variants of its
users. The main version answers all others: lists without a user, users of a variant whose bundle
was refused, and users whose variant is unknown because the secret of the hash is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recsys.allocation import give_back_freed_memory
from recsys.bundle.experiment import Experiment
from recsys.bundle.golden import open_predictor
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.errors import BundleRefused, NoPreviousModel, StoreUnavailable
from recsys.live.overlay import OverlayCounts
from recsys.predictor import Predictor
from service.experiments.batch_split import recommend_by
from service.live_catalogue import BoundOverlay, LiveCatalogue
from service.metrics import ServiceMetrics
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.recommendation.recommender import Recommender

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


class ServedModel:
    """Opened bundle and its recommender, which follows the live catalogue until `release`.

    Args:
        model: the bundle.
        recommender: of the bundle, without an overlay.
        on_counts: called with the sizes of the overlay.
    """

    def __init__(
        self,
        model: OpenedBundle,
        recommender: Recommender,
        on_counts: Callable[[OverlayCounts], None] = lambda counts: None,
    ) -> None:
        self.model, self.recommender, self._on_counts = model, recommender, on_counts
        self._bound: BoundOverlay | None = None

    async def bind(self, live: LiveCatalogue) -> None:
        """Serve the current overlay, and each later one."""
        self._bound = await live.bind(self.recommender.predictor, self._serve)

    def release(self, live: LiveCatalogue) -> None:
        """Follow the live catalogue no more."""
        if self._bound is not None:
            live.release(self._bound)
            self._bound = None

    def name(self, variant: str | None) -> None:
        """Have the answers from now on name this variant."""
        self.recommender = self.recommender.with_variant(variant)

    def _serve(self, predictor: Predictor, counts: OverlayCounts) -> None:
        self.recommender = self.recommender.with_predictor(predictor)
        self._on_counts(counts)


RecommenderFactory = Callable[[OpenedBundle], Recommender]  # called just before a model is served


class ModelManager:
    """Hold the models that are served and replace them on request.

    Args:
        first: the model to serve first.
        new_recommender: builds the recommender of a model.
        metrics: where replacements are counted.
        live: the live catalogue, which every model gets before it is served.
        secret: returns the key of the hash that assigns users to variants.
    """

    def __init__(
        self,
        first: OpenedBundle,
        new_recommender: RecommenderFactory,
        metrics: ServiceMetrics,
        live: LiveCatalogue,
        secret: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._new_recommender, self._metrics, self._live = new_recommender, metrics, live
        self._secret = secret
        self._main = ServedModel(first, new_recommender(first), metrics.set_catalogue)
        self._variants: dict[str, ServedModel] = {}  # name → model; without refused bundles
        self._experiment: Experiment | None = None
        self._previous: Path | None = None
        self._replacing = asyncio.Lock()
        metrics.set_models([first.model_id])

    async def start(self) -> None:
        """Read the live catalogue and follow it from now on."""
        await self._main.bind(self._live)
        await self._live.start()

    async def close(self) -> None:
        """Store the states that wait."""
        for served in self._served:
            await served.recommender.close()

    @property
    def current(self) -> OpenedBundle:
        """Return the main version."""
        return self._main.model

    @property
    def recommender(self) -> Recommender:
        """Return the recommender of the main version. A call keeps it until it ends."""
        return self._main.recommender

    @property
    def opened(self) -> list[OpenedBundle]:
        """Return all bundles that are served, the main version first."""
        return [served.model for served in self._served]

    @property
    def recommenders(self) -> list[Recommender]:
        """Return the recommenders of all models, that of the main version first."""
        return [served.recommender for served in self._served]

    @property
    def experiment(self) -> Experiment | None:
        """Return the experiment that runs."""
        return self._experiment

    @property
    def variants(self) -> dict[str, OpenedBundle]:
        """Return the models of the variants by name, without those that were refused."""
        return {name: served.model for name, served in self._variants.items()}

    @property
    def _served(self) -> list[ServedModel]:
        return [self._main, *self._variants.values()]

    async def recommender_of(self, user_id: str | None) -> Recommender:
        """Return the recommender of the variant of a user; None is a list without a user."""
        (recommender,) = await self._recommenders_of([user_id])
        return recommender

    async def recommend(
        self, queries: Sequence[RecommendationQuery]
    ) -> Sequence[RecommendationResult | Exception]:
        """Answer a batch with the models that are current when the batch begins."""
        await self._live.wait_if_late()
        if self._experiment is None:
            return await self._main.recommender.recommend(queries)
        recommenders = await self._recommenders_of([query.user_id for query in queries])
        return await recommend_by(recommenders, queries, self._metrics)

    async def _recommenders_of(self, user_ids: Sequence[str | None]) -> list[Recommender]:
        """Return the recommender of each user, all of the same moment."""
        secret = b""
        if self._experiment is not None and any(user_id is not None for user_id in user_ids):
            with suppress(StoreUnavailable):
                secret = await self._secret()
        main, experiment = self._main.recommender, self._experiment  # after the wait
        if not secret or experiment is None:
            return [main] * len(user_ids)
        variants = {name: served.recommender for name, served in self._variants.items()}
        names = [None if u is None else experiment.variant_of(u, secret) for u in user_ids]
        return [main if name is None else variants.get(name, main) for name in names]

    async def replace(self, folder: Path, experiment: Experiment | None = None) -> Replaced:
        """Serve the bundle in `folder` from now on, and the variants of an experiment beside it.

        Without an experiment, the bundle answers all users.

        Raises:
            BundleRefused: if the bundle cannot be used. What was served is served on.
        """
        async with self._replacing:
            replaced = await self._replace(folder)
            await self._split(experiment, folder.parent)
            return replaced

    async def split(self, experiment: Experiment | None) -> None:
        """Begin or end an experiment beside the current main version, or change its shares.

        A variant whose bundle is refused is logged and counted; the main version answers its users.
        """
        async with self._replacing:
            await self._split(experiment, self.current.folder.parent)

    async def roll_back(self) -> Replaced:
        """Serve the bundle again that was served before the current one, to all users.

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
            replaced = await self._replace(self._previous)
            await self._split(None, self.current.folder.parent)
            return replaced

    async def _replace(self, folder: Path) -> Replaced:
        old = self._main
        new = await self._open(folder)
        replaced = Replaced(new.model_id, old.model.model_id)
        is_same = new.folder.resolve() == old.model.folder.resolve()
        if new.model_id != old.model.model_id or not is_same:
            await self._split(None, folder)  # variants are compared with one main version
            served = ServedModel(new, self._new_recommender(new), self._metrics.set_catalogue)
            await served.bind(self._live)
            self._main, self._previous = served, old.model.folder
            old.release(self._live)
            self._metrics.set_models([bundle.model_id for bundle in self.opened])
            log.info(
                "Model %s is served from now on, instead of %s.",
                new.model_id,
                old.model.model_id,
            )
        self._metrics.reloads.labels("replaced").inc()
        del old, new
        give_back_freed_memory()
        return replaced

    async def _open(self, folder: Path) -> OpenedBundle:
        """Open a bundle in a thread; count and log it if it is refused."""
        try:
            return await asyncio.to_thread(OpenedBundle.open, folder)
        except BundleRefused as refused:
            self._metrics.reloads.labels("refused").inc()
            log.error(
                "The bundle %s is refused; model %s is served on. %s",
                folder,
                self.current.model_id,
                refused,
            )
            raise

    async def _split(self, experiment: Experiment | None, registry: Path) -> None:
        """Load the variants of an experiment that are not loaded, then serve it."""
        names = () if experiment is None else experiment.ranges
        variants = {name: self._variants[name] for name in names if name in self._variants}
        for name in names:
            if name not in variants:
                with suppress(BundleRefused):  # `_open` has logged and counted it
                    opened = await self._open(registry / name)
                    served = ServedModel(opened, self._new_recommender(opened))
                    served.name(name)
                    await served.bind(self._live)
                    variants[name] = served
        dropped = [served for name, served in self._variants.items() if name not in variants]
        changed = experiment != self._experiment
        self._variants, self._experiment = variants, experiment
        self._main.name(None if experiment is None else self.current.folder.name)
        for served in dropped:
            served.release(self._live)
        self._metrics.set_models([bundle.model_id for bundle in self.opened])
        self._metrics.set_shares(self.shares)
        if changed:
            users = ", ".join(f"{name} {share:g} %" for name, share in self.shares.items())
            log.info("Shares of users from now on: %s.", users or "no experiment runs")
        if dropped:
            del dropped, served
            give_back_freed_memory()

    @property
    def shares(self) -> dict[str, float]:
        """Return version → percent of the users it answers; empty where no experiment runs."""
        if self._experiment is None:
            return {}
        shares = {name: self._experiment.shares[name] for name in self._variants}
        return {self.current.folder.name: round(100 - sum(shares.values()), 2), **shares}
