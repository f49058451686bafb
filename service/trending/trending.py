"""Trending: count accepted clicks, exchange them with Redis, and serve the counts of all processes.

A click counts once Redis has stored it, if its item is not among the clicks that Redis keeps of the
session: a user raises an item once in as many clicks (50 by default). The clicks of a process go to
Redis about once a second, where they are added to those of the others, and the largest counters
come back. The predictor with them replaces the one before; requests wait for nothing. Up to a
second of clicks is lost if a process is killed or the exchange fails. While Redis is away, the last
counts are served on.

A bundle has half-life and strength, and the counts of the end of training, with which the counters
begin if Redis has none. A bundle without a half-life is served as it is.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

import numpy as np

from recsys.errors import StoreUnavailable
from recsys.model.recent_popularity import MOST_COUNTED
from recsys.predictor import Predictor
from service.metrics import ServiceMetrics
from service.recommender import Recommender
from service.store.session_store import StoredSession
from service.trending.counters import Counters, RedisCounters

EXCHANGE_SECONDS = 1.0
MAX_COUNTED_ITEMS = 10_000  # with new clicks of one process, between two exchanges
log = logging.getLogger("recsys.service")


class Trending:
    """Counts of clicks of the served model.

    Args:
        counters: the counters of all processes.
        recommender: returns the current recommender, whose predictor is replaced.
        metrics: counts clicks and counters.
    """

    def __init__(
        self,
        counters: RedisCounters,
        recommender: Callable[[], Recommender],
        metrics: ServiceMetrics,
    ) -> None:
        self._counters, self._recommender, self._metrics = counters, recommender, metrics
        self._clicks: Counter[str] = Counter()
        self._last: tuple[int, Counters] | None = None  # half-life and counters of Redis
        self._task: asyncio.Task[None] | None = None

    def add(self, session: StoredSession) -> None:
        """Count the clicks that a visit has stored, without repeats of the session's items."""
        if self._half_life_seconds is None:
            return
        new = session.item_ids[-session.accepted :] if session.accepted else []
        earlier = session.item_ids[: len(session.item_ids) - len(new)]
        for item_id in dict.fromkeys(new):
            if item_id in earlier:
                continue
            if item_id in self._clicks or len(self._clicks) < MAX_COUNTED_ITEMS:
                self._clicks[item_id] += 1
            else:
                self._metrics.count_trending("lost", 1)

    def start(self) -> None:
        """Start the exchanges."""
        self._task = asyncio.create_task(self._run(), name="trending")

    async def stop(self) -> None:
        """Stop the exchanges, after one with the last clicks."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.exchange()

    async def exchange(self) -> None:
        """Add the new clicks to the counters in Redis, and serve the counters of all processes."""
        recommender, half_life = self._recommender(), self._half_life_seconds
        if half_life is None:
            return
        clicks, self._clicks = self._clicks, Counter()
        try:
            counters = await self._counters.exchange(
                half_life, clicks, lambda: counters_of(recommender.predictor)
            )
        except StoreUnavailable:
            self._metrics.count_trending("lost", clicks.total())
            return
        self._metrics.count_trending("counted", clicks.total())
        self._metrics.trending_counters.set(len(counters.clicks))
        self._last = half_life, counters
        before, new = None, recommender.predictor
        while new is not before:  # another part of the service has replaced the predictor
            before = new
            served = await asyncio.to_thread(with_counters, before, counters)
            new = recommender.predictor
        recommender.predictor = served

    def served(self, predictor: Predictor) -> Predictor:
        """Return the predictor of a new bundle with the last counters of its half-life, if any."""
        recent = predictor.recent
        if recent is None or self._last is None:
            return predictor
        half_life, counters = self._last
        same = recent.settings.half_life_seconds == half_life
        return with_counters(predictor, counters) if same else predictor

    @property
    def _half_life_seconds(self) -> int | None:
        recent = self._recommender().predictor.recent
        return None if recent is None else recent.settings.half_life_seconds

    async def _run(self) -> None:
        while True:
            try:
                await self.exchange()
            except Exception:  # an unforeseen error must not end the task
                log.exception("The exchange of counted clicks failed and is repeated in a second.")
            await asyncio.sleep(EXCHANGE_SECONDS)


def counters_of(predictor: Predictor) -> Counters:
    """Return the counts of a predictor as counters."""
    recent = predictor.recent
    assert recent is not None, "the predictor counts clicks"
    items = np.flatnonzero(recent.newest)
    ids = predictor.catalogue.item_ids.take(items.tolist())
    return Counters(recent.at_ms, dict(zip(ids, recent.newest[items].tolist(), strict=True)))


def with_counters(predictor: Predictor, counters: Counters) -> Predictor:
    """Return the predictor with these counters; those of items it does not know are left out."""
    recent, catalogue = predictor.recent, predictor.catalogue
    assert recent is not None, "the predictor counts clicks"
    counts = np.zeros(len(catalogue))
    known = [
        (item, clicks)
        for item_id, clicks in counters.clicks.items()
        if (item := catalogue.find(item_id)) is not None
    ]
    for item, clicks in known[:MOST_COUNTED]:
        counts[item] = clicks
    return predictor.with_counts(recent.recounted(counts, counters.at_ms))
