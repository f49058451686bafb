"""Live catalogue of this process: read the changes of items from Redis and apply them to the model.

Law of availability: two seconds after a change is acknowledged, no answer of any process contains
an unavailable item, provided the process could read Redis. While it cannot, the last overlay that
it read holds.

The process asks four times a second for what changed, and builds a new predictor in a thread. The
predictor is exchanged as a whole: a batch that is under way ends with the overlay that it began
with. A model that is loaded gets all entries before it is served, and the changes that come
meanwhile.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from math import inf

from recsys.errors import StoreUnavailable
from recsys.live.overlay import Overlay, OverlayCounts
from recsys.predictor import Predictor
from service.store.overlay_store import OverlayStore, OverlayVersion, StoredItem

log = logging.getLogger("recsys.service")

POLL_SECONDS = 0.25
ITEMS_AT_ONCE = 10_000  # applied in one job, so that a model that is loaded delays no change
REACHED_SECONDS = 1.0
LATE_SECONDS = 1.5  # more than an attempt takes while Redis does not answer
FIRST_SECONDS = 15.0  # that a start waits for a slow Redis
FIRST_REFUSALS = 3  # quick failures at the start after which Redis counts as away


class BoundOverlay:
    """Overlay of one model, and the items that wait to be applied to it."""

    def __init__(self, predictor: Predictor, waiting: Mapping[str, StoredItem | None]) -> None:
        self.overlay = Overlay(predictor)
        self.waiting = dict(waiting)

    def applied(self, items: Mapping[str, StoredItem | None]) -> Predictor:
        """Return a predictor after applying some items. It runs in a thread, one call at a time."""
        entries = {key: None if item is None else item.entry for key, item in items.items()}
        self.overlay.apply(entries)
        return self.overlay.predictor()

    def rebased(self, change: Callable[[Predictor], Predictor]) -> Predictor:
        """Return a predictor after replacing that of the bundle. It runs in the same thread."""
        self.overlay.rebase(change)
        return self.overlay.predictor()

    def take(self) -> dict[str, StoredItem | None]:
        """Return some of the waiting items, which wait no more."""
        some = dict(islice(self.waiting.items(), ITEMS_AT_ONCE))
        for item_id in some:
            del self.waiting[item_id]
        return some


class LiveCatalogue:
    """Overlay of this process.

    Args:
        store: the overlay in Redis.
        on_counts: called with the sizes of the overlay when they change.
        on_age: called with the seconds since Redis was last read, after each attempt.
    """

    def __init__(
        self,
        store: OverlayStore,
        on_counts: Callable[[OverlayCounts], None] = lambda counts: None,
        on_age: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.store = store
        self._on_counts, self._on_age = on_counts, on_age
        self._items: dict[str, StoredItem] = {}
        self._version: OverlayVersion | None = None  # read last; None: everything is to be read
        self._after = 0  # number of the last change that was read
        self._applied = 0  # number of the last change that is served
        self._reread: dict[str, StoredItem] | None = {}  # all items anew, until they are complete
        self._read_at = self._tried_at = -inf
        self._served: BoundOverlay | None = None
        self._loading: list[BoundOverlay] = []  # of models that are not served yet
        self._serve: Callable[[Predictor], None] = lambda predictor: None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalogue")
        self._wake, self._progress = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def seconds_behind(self) -> float:
        """Return the seconds since Redis was last read to the end."""
        return time.monotonic() - self._read_at

    @property
    def state(self) -> str:
        """Return "ok", or since when Redis could not be read."""
        seconds = self.seconds_behind
        if seconds == inf:
            return "not read yet"
        return "ok" if seconds < LATE_SECONDS else f"not read for {seconds:.0f} s"

    async def start(self, serve: Callable[[Predictor], None]) -> None:
        """Read the overlay, then go on reading in a task.

        If Redis refuses connections or is silent for long, the overlay is read as soon as Redis
        answers.

        serve: called with each predictor that is to be served from then on.
        """
        self._serve = serve
        if not await self._read_first():
            log.warning(
                "The live catalogue cannot be read, because Redis does not answer: the items of "
                "the bundle are shown as they were in training until it does."
            )
        self._task = asyncio.create_task(self._run(), name="live-catalogue")

    async def _read_first(self) -> bool:
        """Read the overlay; return False if Redis does not answer. A slow one gets more time."""
        began, refusals = time.monotonic(), 0
        while refusals < FIRST_REFUSALS and time.monotonic() < began + FIRST_SECONDS:
            attempted = time.monotonic()
            try:
                await self._catch_up()
                return True
            except StoreUnavailable:
                refusals += time.monotonic() < attempted + POLL_SECONDS
                await asyncio.sleep(POLL_SECONDS)
        return False

    async def stop(self) -> None:
        """Stop the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self.store.close()

    def read_soon(self) -> None:
        """Read Redis now and not at the next poll: this process has just changed items."""
        self._wake.set()

    async def reached(self, version: OverlayVersion) -> None:
        """Wait until this process serves a version, or the next ones; a second at most."""
        self.read_soon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACHED_SECONDS):
                while self._applied < version.count:
                    await self._progress.wait()

    async def wait_if_late(self) -> None:
        """Wait for the next attempt to read Redis if the last one was too long ago.

        A process that stood still for seconds would otherwise answer from what it read before.
        While Redis does not answer, attempts go on, and no call waits.
        """
        if time.monotonic() - self._tried_at > LATE_SECONDS and self._task is not None:
            self.read_soon()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REACHED_SECONDS):
                    await self._progress.wait()

    async def bind(self, predictor: Predictor) -> Predictor:
        """Return the predictor with the overlay, and apply changes to it from now on.

        The caller serves it at once, without waiting in between.
        """
        bound = BoundOverlay(predictor, self._items)
        self._loading.append(bound)
        try:
            overlaid = await self._current(bound)
        finally:
            self._loading.remove(bound)
        self._served = bound
        self._on_counts(bound.overlay.counts)
        return overlaid

    async def rebase(self, change: Callable[[Predictor], Predictor]) -> None:
        """Replace the served predictor below its overlay, as its counts of clicks have changed."""
        bound = self._served
        if bound is None:
            return
        loop = asyncio.get_running_loop()
        predictor = await loop.run_in_executor(self._thread, bound.rebased, change)
        if bound is self._served:
            self._serve(predictor)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._catch_up()
            except StoreUnavailable:
                pass  # the breaker has logged it, and the metric shows for how long
            except Exception:  # an unforeseen error must not end the task
                log.exception("Reading the live catalogue failed. It is tried again.")
            self._tried_at = time.monotonic()
            self._on_age(self.seconds_behind)
            self._progress.set()  # wakes those that wait now
            self._progress = asyncio.Event()

    async def _catch_up(self) -> None:
        """Read all that changed, and serve it."""
        try:
            while not await self._read_page():
                pass
        finally:  # also what was read before Redis failed
            await self._serve_waiting()
        self._read_at, self._applied = time.monotonic(), self._after

    async def _read_page(self) -> bool:
        """Read one page; return whether it was the last."""
        page = await self.store.read(self._version, self._after)
        if page is None:
            log.warning(
                "Redis has lost changes of the live catalogue, or was restored. All items are read "
                "again. Send what is missing with recsys catalogue push."
            )
            self._version, self._after, self._reread = None, 0, {}
            return False
        self._version, self._after = page.version, page.last
        if self._reread is None:
            self._items.update(page.items)
            self._wait(page.items)
        else:
            self._reread.update(page.items)
            if page.is_last:
                self._wait(self._replace_items(self._reread))
        if self._served is not None and len(self._served.waiting) >= ITEMS_AT_ONCE:
            await self._serve_waiting()
        return page.is_last

    def _replace_items(self, items: dict[str, StoredItem]) -> dict[str, StoredItem | None]:
        """Replace all items; return those that differ, None for those that are gone."""
        old, self._items, self._reread = self._items, items, None
        gone: dict[str, StoredItem | None] = dict.fromkeys(old.keys() - items.keys())
        return gone | {key: item for key, item in items.items() if old.get(key) != item}

    def _wait(self, changes: Mapping[str, StoredItem | None]) -> None:
        """Have changes wait for the served model and for those that are loaded."""
        for bound in (self._served, *self._loading):
            if bound is not None:
                bound.waiting.update(changes)

    async def _serve_waiting(self) -> None:
        """Apply what waits for the served model, and serve it."""
        bound = self._served
        if bound is None or not bound.waiting:
            return
        predictor = await self._current(bound)
        if bound is self._served:  # no other model has replaced it meanwhile
            self._serve(predictor)
            self._on_counts(bound.overlay.counts)

    async def _current(self, bound: BoundOverlay) -> Predictor:
        """Return a predictor after all that waits is applied."""
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        while True:
            predictor = await in_thread(bound.applied, bound.take())
            if not bound.waiting:
                return predictor
