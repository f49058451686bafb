"""Trending: count accepted clicks, exchange them with Redis, and serve the counts of all processes.

A click counts once Redis has stored it, if its item is not among the clicks that Redis keeps of the
session: a user raises an item once in as many clicks (50 by default). The clicks of a process go to
Redis about once a second, where they are added to those of the others, and the largest counters
come back. They count for the items of a bundle and for the new ones of the live catalogue. The
predictor with them replaces the one before; requests wait for nothing. Up to a second of clicks is
lost if a process is killed or the exchange fails. While Redis is away, the last counts are served
on.

A bundle has half-life and strength, and the counts of the end of training, with which the counters
begin if Redis has none. A bundle without a half-life is served as it is. Where several models are
served, each half-life has its counters.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import numpy as np

from recsys.errors import StoreUnavailable
from recsys.model.recent_popularity import MOST_COUNTED
from recsys.predictor import Predictor
from service.metrics import ServiceMetrics
from service.recommendation.recommender import Recommender
from service.store.session_store import StoredSession
from service.trending.counters import Counters, RedisCounters

EXCHANGE_SECONDS = 1.0
MAX_COUNTED_ITEMS = 10_000  # with new clicks of one process, between two exchanges
Recount = Callable[[Callable[[Predictor], Predictor]], Awaitable[None]]
log = logging.getLogger("recsys.service")


class Trending:
    """Counts of clicks of the served models.

    Args:
        counters: the counters of all processes.
        recommenders: returns the recommenders of all served models.
        recount: serves the predictors of a function, which gets each predictor with its bundle's
            items and the new ones of the live catalogue.
        metrics: counts clicks and counters.
    """

    def __init__(
        self,
        counters: RedisCounters,
        recommenders: Callable[[], Iterable[Recommender]],
        recount: Recount,
        metrics: ServiceMetrics,
    ) -> None:
        self._counters, self._recommenders, self._metrics = counters, recommenders, metrics
        self._recount = recount
        self._clicks: Counter[str] = Counter()
        self._last: Mapping[int, Counters] = {}  # half-life → counters of Redis
        self._task: asyncio.Task[None] | None = None

    def add(self, session: StoredSession) -> None:
        """Count the clicks that a visit has stored, without repeats of the session's items."""
        if not self._counting():
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
        counting = self._counting()
        if not counting:
            return
        clicks, self._clicks = self._clicks, Counter()
        try:
            self._last = {
                half_life: await self._counters.exchange(
                    half_life, clicks, partial(counters_of, predictor)
                )
                for half_life, predictor in counting.items()
            }
        except StoreUnavailable:
            self._metrics.count_trending("lost", clicks.total())
            return
        self._metrics.count_trending("counted", clicks.total())
        self._metrics.trending_counters.set(max(len(each.clicks) for each in self._last.values()))
        await self._recount(self.served)

    def served(self, predictor: Predictor) -> Predictor:
        """Return the predictor with the last counters of its half-life, if any."""
        recent = predictor.recent
        if recent is None:
            return predictor
        counters = self._last.get(recent.settings.half_life_seconds or 0)
        return predictor if counters is None else with_counters(predictor, counters)

    def _counting(self) -> dict[int, Predictor]:
        """Return each half-life of the served models, with a predictor that has it."""
        predictors = [recommender.predictor for recommender in self._recommenders()]
        return {
            predictor.recent.settings.half_life_seconds: predictor
            for predictor in reversed(predictors)  # the first of a half-life is kept
            if predictor.recent is not None and predictor.recent.settings.half_life_seconds
        }

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
    """Return the predictor with these counters; those of items it does not know are left out.

    It knows the items of its bundle and the new ones of an overlay.
    """
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
