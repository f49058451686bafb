"""Rounds of the collector: read the streams, write the events, remove what was written.

An entry leaves Redis only after its row is on the disk. A round that is cut off anywhere is made
again, and the folder passes over the entries that it holds already.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from recsys.errors import BadInput, StoreUnavailable
from recsys.events.schemas import Columns
from service.collector.columns import as_columns, parse_entries
from service.collector.list_drift import ListDrift
from service.collector.metrics import CollectorMetrics
from service.collector.reader import ClaimedByOther, FeedbackReader, RawBatch
from service.collector.shown_lists import ClickedRanks, LostLists

RETRY_SECONDS = 5.0
log = logging.getLogger("recsys.collect")


class RoundCounts(Protocol):
    """Numbers of one round: rows of each kind, files, and entries that were written before."""

    @property
    def rows(self) -> Mapping[str, int]: ...
    @property
    def files(self) -> int: ...
    @property
    def repeated(self) -> int: ...


class EventsSink(Protocol):
    """Interface of the events folder; both methods raise `BadInput` where they cannot write."""

    def write(self, batch: Mapping[str, Columns]) -> RoundCounts:
        """Write columns by kind, each entry once."""
        ...

    def compact(self, now: float) -> int:
        """Compact the folder, and return the number of rows of deleted users that were removed.

        now: seconds since 1970.
        """
        ...


@dataclass(frozen=True, slots=True)
class CollectorOptions:
    """Numbers of the collector."""

    every_seconds: float  # between two rounds where nothing waits
    compact_seconds: float  # between two compactions
    entries_per_round: int = 32_000


class Collector:
    """Collector of all streams into one folder.

    Args:
        reader: the streams.
        sink: the folder.
        folder_id: its id, which Redis notes.
        options: intervals and sizes.
        metrics: where everything is counted.
        clock: returns the seconds since 1970. It ends old days only with the clock of Redis.
        report: called after each round with its numbers, and what waits.
    """

    def __init__(
        self,
        reader: FeedbackReader,
        sink: EventsSink,
        folder_id: str,
        options: CollectorOptions,
        metrics: CollectorMetrics,
        clock: Callable[[], float],
        report: Callable[[RoundCounts, int], None] = lambda counts, waiting: None,
    ) -> None:
        self._reader, self._sink, self._folder_id = reader, sink, folder_id
        self._options, self._metrics = options, metrics
        self._clock, self._report = clock, report
        self._ranks = ClickedRanks(metrics.count_rank)
        self._lost = LostLists()
        self._drift = ListDrift(metrics)
        self._compact_at = time.monotonic()
        self._failing = False

    async def collect_once(self, stop: asyncio.Event) -> None:
        """Collect until the streams are empty, then compact; or until `stop`.

        Raises:
            StoreUnavailable: Redis does not answer.
            BadInput: the folder cannot be written, or is not the one that Redis notes.
        """
        while not stop.is_set():
            if await self._round():
                await self._compact()
                return

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; failures of Redis and of the disk end a round, nothing more.

        Raises:
            BadInput: Redis notes another folder now.
        """
        while not stop.is_set():
            pause = await self._try_round()
            if time.monotonic() >= self._compact_at:
                await self._try_compact()
            if pause:
                await wait_for(stop, pause)

    async def _try_round(self) -> float:
        """Make a round, and return the seconds until the next one."""
        try:
            drained = await self._round()
        except ClaimedByOther:
            raise
        except StoreUnavailable as error:
            return self._failed("redis", error)
        except (BadInput, OSError) as error:  # a disk may fail at any call
            return self._failed("folder", error)
        if self._failing:
            self._failing = False
            log.warning("Collecting goes on.")
        return self._options.every_seconds if drained else 0.0

    def _failed(self, what: str, error: Exception) -> float:
        self._metrics.failures.labels(what).inc()
        if not self._failing:
            self._failing = True
            log.error("%s Nothing is lost: entries stay in Redis. Trying again.", error)
        return RETRY_SECONDS

    async def _round(self) -> bool:
        """Collect one batch, and return whether the streams were empty then."""
        await self._reader.claim(self._folder_id)
        batch = await self._reader.read(self._options.entries_per_round)
        events, rejected = parse_entries(batch.entries)
        counts = self._write(as_columns(events, rejected))
        waiting = await self._reader.acknowledge(batch)
        self._count(batch, counts, waiting)
        if counts.repeated:
            log.info("%d entries were in the folder already.", counts.repeated)
        if rejected:
            log.warning(
                "%d entries cannot be read and are kept in rejected/. The first: %s",
                len(rejected),
                rejected[0].problem,
            )
        self._ranks.add(events)
        self._drift.add(events)
        self._metrics.lost_lists.inc(self._lost.add(events, drained=batch.drained))
        self._report(counts, waiting)
        return batch.drained

    def _write(self, batch: Mapping[str, Columns]) -> RoundCounts:
        try:
            return self._sink.write(batch)
        except BaseException:
            self._reader.reset()
            raise

    def _count(self, batch: RawBatch, counts: RoundCounts, waiting: int) -> None:
        metrics = self._metrics
        metrics.count_rows(counts.rows)
        metrics.files.inc(counts.files)
        metrics.repeated.inc(counts.repeated)
        metrics.waiting.set(waiting)
        metrics.collected.set(self._clock())
        lag = 0.0
        if not batch.drained:
            newest = max(int(ids[-1].partition("-")[0]) for ids in batch.ids.values())
            lag = max(self._clock() - newest / 1000, 0.0)
        metrics.lag_seconds.set(lag)

    async def _try_compact(self) -> None:
        try:
            await self._compact()
        except StoreUnavailable as error:
            self._failed("redis", error)
        except (BadInput, OSError) as error:  # a disk may fail at any call
            self._failed("folder", error)

    async def _compact(self) -> None:
        """Compact by the earlier one of two clocks: a clock that is ahead must not end old days."""
        self._compact_at = time.monotonic() + self._options.compact_seconds
        now = min(self._clock(), await self._reader.clock())
        self._metrics.erased_rows.inc(self._sink.compact(now))


async def wait_for(stop: asyncio.Event, seconds: float) -> None:
    """Wait, at most until `stop`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
